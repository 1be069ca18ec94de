"""A Dagster run around SLURM jobs: cancelled, killed, restarted, run twice, SLURM down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from saeborzoi.jobs.job import Job
from saeborzoi.settings.load import Settings
from saeborzoi_resources.compute.folder import JobFolder
from saeborzoi_resources.compute.slurm import SlurmCompute
from tests.compute.compute_helpers import (
    counts,
    event_messages,
    failure_of,
    held_by_another_run,
    in_run,
    open_gate,
    tiny_settings,
    wait_for,
)
from tests.compute.slurm_cluster import Cluster

pytestmark = pytest.mark.slurm
MakeJob = Callable[..., Job]
StartHost = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def settings(slurm: Cluster) -> Settings:
    """Settings that put the tiny stages on the cluster."""
    profile = {"partition": "gpu", "time": "10", "mem": "50M"}
    return tiny_settings(backend="slurm", profile={"default": profile})


@pytest.fixture
def compute(settings: Settings, tmp_path: Path) -> SlurmCompute:
    """SLURM compute that counts."""
    return SlurmCompute(settings, tmp_path / "jobs", "tiny_stages:count")


def test_terminating_the_run_cancels_the_whole_array(
    instance: dg.DagsterInstance,
    slurm: Cluster,
    compute: SlurmCompute,
    make_job: MakeJob,
    tmp_path: Path,
) -> None:
    when: list[float] = []

    def terminate() -> None:
        wait_for(counts(tmp_path / "jobs/a", tmp_path / "jobs/b"), "both jobs count", 60)
        when.append(time.monotonic())
        instance.report_run_canceling(instance.get_run_records()[0].dagster_run)

    thread = threading.Thread(target=terminate)
    thread.start()
    with pytest.raises(dg.DagsterExecutionInterruptedError):
        in_run(instance, compute, [make_job("a", 600), make_job("b", 600)])
    wait_for(lambda: not slurm.jobs(), "no job is left")
    thread.join()
    assert time.monotonic() - when[0] < 10
    assert "cancelled SLURM jobs" in event_messages(instance)


@pytest.mark.parametrize("how", ["signal of the run worker", "bare signal"])
def test_a_signal_cancels_only_where_the_run_was_terminated(
    instance: dg.DagsterInstance,
    slurm: Cluster,
    settings: Settings,
    start_host: StartHost,
    make_job: MakeJob,
    tmp_path: Path,
    how: str,
) -> None:
    host = start_host(settings, "count", make_job("a", 600))
    wait_for(counts(tmp_path / "jobs/a"), "the job counts", 60)
    if how == "signal of the run worker":
        instance.report_run_canceling(instance.get_run_records()[0].dagster_run)
    host.send_signal(signal.SIGTERM)
    host.wait(30)
    if how == "signal of the run worker":
        wait_for(lambda: not slurm.jobs(), "the job is cancelled", 10)
    else:
        assert slurm.jobs()


@pytest.mark.parametrize("meanwhile", ["runs", "finished", "not noted"])
def test_a_killed_dagster_finds_its_jobs_again(
    instance: dg.DagsterInstance,
    slurm: Cluster,
    settings: Settings,
    start_host: StartHost,
    make_job: MakeJob,
    tmp_path: Path,
    meanwhile: str,
) -> None:
    jobs = [make_job("a", 1), make_job("b", 2)]
    host = start_host(settings, "gated", *jobs)
    logs = [tmp_path / "jobs" / name / "log.txt" for name in "ab"]
    wait_for(lambda: all(log.exists() and "waiting" in log.read_text() for log in logs), "", 60)
    [noted] = (tmp_path / "jobs/.submissions").glob("*/slurm_job_id")
    parent = noted.read_text().strip()
    os.kill(host.pid, signal.SIGKILL)
    host.wait()
    opener = open_gate(tmp_path, instance, None if meanwhile == "finished" else "following it")
    if meanwhile == "finished":
        wait_for(lambda: not slurm.jobs(), "the jobs are done")
    if meanwhile == "not noted":
        noted.unlink()
    figures = in_run(instance, SlurmCompute(settings, tmp_path / "jobs", ""), jobs)
    opener.join()
    assert [f["first_node"] for f in figures] == [1, 2]
    assert [f["compute"]["slurm_job_id"] for f in figures] == [f"{parent}_0", f"{parent}_1"]
    message = "finished earlier" if meanwhile == "finished" else "following it"
    assert message in event_messages(instance)


def test_a_second_run_for_one_partition_waits_for_the_first(
    instance: dg.DagsterInstance, compute: SlurmCompute, make_job: MakeJob, tmp_path: Path
) -> None:
    job = make_job("a", 1)
    release = threading.Event()
    with held_by_another_run(tmp_path / "jobs", job, release):
        threading.Timer(2, release.set).start()
        [figures] = in_run(instance, compute, [job])
    assert "the-other-run" in event_messages(instance)
    assert figures["counted"] == 1


def test_a_result_of_another_job_is_no_success(
    instance: dg.DagsterInstance, slurm: Cluster, settings: Settings, make_job: MakeJob,
    tmp_path: Path,
) -> None:  # fmt: skip
    job = make_job("a", 0)
    folder = JobFolder(tmp_path / "jobs", job)
    folder.path.mkdir(parents=True)
    (folder.path / "result.json").write_text(
        json.dumps({"status": "success", "figures": {}, "fingerprint": "of another job"})
    )
    job.output.parent.mkdir()
    job.output.touch()
    compute = SlurmCompute(settings, tmp_path / "jobs", "tiny_stages:leave")
    failure = failure_of(instance, compute, [job])
    assert "NO_RESULT" in str(failure.description)


def test_slurms_controller_restarts(
    instance: dg.DagsterInstance,
    slurm: Cluster,
    compute: SlurmCompute,
    make_job: MakeJob,
    tmp_path: Path,
) -> None:
    def restart() -> None:
        wait_for(counts(tmp_path / "jobs/a"), "the job counts", 60)
        slurm.restart_controller()

    thread = threading.Thread(target=restart)
    thread.start()
    [figures] = in_run(instance, compute, [make_job("a", 60)])
    thread.join()
    assert figures["counted"] == 60
    assert figures["resumed_at"] == 0


def test_a_job_that_slurm_forgot(
    instance: dg.DagsterInstance,
    slurm: Cluster,
    settings: Settings,
    compute: SlurmCompute,
    start_host: StartHost,
    make_job: MakeJob,
    tmp_path: Path,
) -> None:
    """Dagster was down longer than SLURM remembers, and the job left no result."""
    job = make_job("a", 30)
    host = start_host(settings, "count", job)
    wait_for(counts(tmp_path / "jobs/a"), "the job counts", 60)
    os.kill(host.pid, signal.SIGKILL)
    host.wait()
    slurm.client("scancel", "--signal=KILL", "--full", *slurm.jobs())
    wait_for(lambda: not slurm.jobs(), "the job is gone")
    running = tmp_path / "jobs/a/running.json"
    [noted] = (tmp_path / "jobs/.submissions").glob("*/slurm_job_id")
    noted.write_text("999999\n")
    assert running.exists()
    [figures] = in_run(instance, compute, [job])
    assert figures["counted"] == 30
