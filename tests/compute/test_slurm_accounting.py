"""What a cluster with accounting (slurmdbd and its database) adds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from saeborzoi.jobs.job import Job
from saeborzoi_resources.compute import slurm_submit
from saeborzoi_resources.compute.folder import JobFolder
from saeborzoi_resources.compute.slurm import SlurmCompute
from saeborzoi_resources.compute.slurm_commands import Slurm
from saeborzoi_resources.compute.slurm_task import Task
from tests.compute.compute_helpers import (
    event_messages,
    failure_of,
    in_run,
    tiny_settings,
    wait_for,
)
from tests.compute.slurm_cluster import Cluster, running_cluster, why_no_accounting, why_not

pytestmark = pytest.mark.slurm
MakeJob = Callable[..., Job]


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with accounting, whose controller forgets an ended job after seconds."""
    reason = why_not() or why_no_accounting()
    if reason:
        pytest.skip(f"no SLURM with accounting can be started here: {reason}")
    with running_cluster(tmp_path_factory.mktemp("slurm") / "c", has_accounting=True) as cluster:
        yield cluster


@pytest.fixture
def accounting(own_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The cluster, named in the environment."""
    for name, value in own_cluster.environment.items():
        monkeypatch.setenv(name, value)
    return own_cluster


def test_accounting_tells_usage_and_what_the_controller_forgot(
    instance: dg.DagsterInstance, accounting: Cluster, make_job: MakeJob, tmp_path: Path
) -> None:
    profile = {"time": "5", "mem": "200M", "gres": "gpu:2", "cpus": 2}
    settings = tiny_settings(backend="slurm", profile={"default": profile})
    compute = SlurmCompute(settings, tmp_path / "jobs", "tiny_stages:count")
    [figures] = in_run(instance, compute, [make_job("a", 20)])
    used = figures["compute"]
    assert used["elapsed_s"] >= 2
    assert used["gpu_h"] == pytest.approx(2 * used["elapsed_s"] / 3600, abs=1e-4)
    assert used["cpu_s"] > 0.1

    one = accounting.client("sbatch", "--parsable", "--wrap", "exit 7").strip()
    wait_for(lambda: not Slurm().states({one: "wrap"}), "the controller forgets", 90)
    task = Task(JobFolder(tmp_path / "jobs", make_job("b")), "[compute.profile.x]", 1)
    task.folder.path.mkdir()
    task.submission = "wrap"
    task.began(one)
    # a folder without the batch script's exit code may only be late
    task.judge(None, Slurm())
    assert task.end is None
    task._ended_since = -1e9
    task.judge(None, Slurm())
    assert task.end is not None
    assert task.end.state == "FAILED"


def test_a_limit_of_submitted_jobs_is_waited_for(
    instance: dg.DagsterInstance,
    accounting: Cluster,
    make_job: MakeJob,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A QOS that lets a user have one job: jobs come one after the other, none fails."""
    monkeypatch.setattr(slurm_submit, "_LIMIT_PAUSE_S", 1.0)
    profile = {"time": "5", "mem": "50M", "account": "lab", "qos": "one", "max_attempts": 1}
    settings = tiny_settings(backend="slurm", profile={"default": profile})
    compute = SlurmCompute(settings, tmp_path / "jobs", "tiny_stages:touch")
    jobs = [make_job(f"batch{number}", number) for number in range(3)]
    figures = in_run(instance, compute, jobs)
    assert [f["first_node"] for f in figures] == [0, 1, 2]
    assert len({f["compute"]["slurm_job_id"] for f in figures}) == 3
    messages = event_messages(instance)
    assert "SLURM takes no further job now (QOSMaxSubmitJobPerUserLimit" in messages

    # a limit of the job itself is final, with its own remedy
    profile |= {"qos": "short", "options": ["--qos=short"]}
    settings = tiny_settings(backend="slurm", profile={"default": profile})
    compute = SlurmCompute(settings, tmp_path / "jobs", "tiny_stages:touch")
    accounting.client("sacctmgr", "-i", "modify", "qos", "short", "set", "flags=DenyOnLimit")
    failure = failure_of(instance, compute, [make_job("c")])
    assert "Lower `time`" in str(failure.description) or "IMPOSSIBLE" in str(failure.description)
