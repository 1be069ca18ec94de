"""A controller that lost its state gives a job's id to somebody else's job.

On a cluster of its own, beside the tests that share one."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from saeborzoi.jobs.job import Job
from saeborzoi_resources.compute import slurm_task
from saeborzoi_resources.compute.slurm import SlurmCompute
from tests.compute.compute_helpers import counts, in_run, tiny_settings, wait_for
from tests.compute.slurm_cluster import Cluster, running_cluster, why_not

pytestmark = pytest.mark.slurm


def lose_the_state(cluster: Cluster, one: str) -> None:
    """The controller forgets everything, and somebody's job gets the id of ours."""

    def submit() -> str:
        try:
            return cluster.client(
                "sbatch", "--parsable", "--hold", "--job-name=somebody_elses", "--mem=20M",
                "--wrap", "sleep 600",
            ).strip()  # fmt: skip
        except subprocess.CalledProcessError:
            return ""

    # a node that tells of our job would keep its id from being given again
    with cluster.silent_node():
        cluster.restart_controller(forgets=True, first_job_id=int(one))
        assert wait_for(submit, "the controller answers", 60) == one


@pytest.fixture
def own_cluster(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    """A cluster whose ids may be given again."""
    if why_not():
        pytest.skip(f"no SLURM can be started here: {why_not()}")
    with running_cluster(tmp_path_factory.mktemp("slurm") / "c") as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.mark.parametrize(
    "when",
    ["while it is followed", pytest.param("while Dagster is down", marks=pytest.mark.slow)],
)
def test_an_id_that_is_given_again_is_another_job(
    instance: dg.DagsterInstance,
    own_cluster: Cluster,
    start_host: Callable[..., subprocess.Popen[str]],
    make_job: Callable[..., Job],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    profile = {"partition": "gpu", "time": "10", "mem": "50M"}
    settings = tiny_settings(backend="slurm", profile={"default": profile})
    compute = SlurmCompute(settings, tmp_path / "jobs", "tiny_stages:count")
    job = make_job("a", 60)
    if when == "while Dagster is down":
        host = start_host(settings, "count", job)
        wait_for(counts(tmp_path / "jobs/a"), "the job counts", 60)
        os.kill(host.pid, signal.SIGKILL)
        host.wait()
        lose_the_state(own_cluster, own_cluster.jobs()[0])
        thread = None
    else:
        monkeypatch.setattr(slurm_task, "_SETTLE_S", 300.0)  # somebody's job comes first

        def lose() -> None:
            wait_for(counts(tmp_path / "jobs/a"), "the job counts", 60)
            lose_the_state(own_cluster, own_cluster.jobs()[0])
            monkeypatch.setattr(slurm_task, "_SETTLE_S", 2.0)

        thread = threading.Thread(target=lose)
        thread.start()
    [figures] = in_run(instance, compute, [job])
    if thread is not None:
        thread.join()
    assert figures["counted"] == 60
    assert own_cluster.client("squeue", "-h", "-o", "%j").split() == ["somebody_elses"]
    # terminating a run cancels its own job only
    waiting = threading.Thread(
        target=lambda: [
            wait_for(lambda: len(own_cluster.jobs()) == 2, "ours is there, too", 60),
            instance.report_run_canceling(  # type: ignore[func-returns-value]
                instance.get_run_records(limit=1)[0].dagster_run
            ),
        ]
    )
    waiting.start()
    with pytest.raises(dg.DagsterExecutionInterruptedError):
        in_run(instance, compute, [make_job("b", 6000)])
    waiting.join()
    wait_for(lambda: len(own_cluster.jobs()) == 1, "ours is gone")
    assert own_cluster.client("squeue", "-h", "-o", "%j").split() == ["somebody_elses"]
