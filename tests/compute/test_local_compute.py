"""Jobs as local processes: results, failures, cancelling, being found again."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest

from saeborzoi.jobs.job import Figures, Job
from saeborzoi_resources.compute import local, make_compute, warm
from saeborzoi_resources.compute.local import LocalCompute
from tests.compute.compute_helpers import (
    event_messages,
    failure_of,
    in_run,
    metadata_of,
    open_gate,
    tiny_settings,
    wait_for,
)

MakeJob = Callable[..., Job]


@pytest.fixture
def compute(tmp_path: Path) -> Callable[[str], LocalCompute]:
    """Local compute that runs a tiny stage."""
    return lambda stage: LocalCompute(tiny_settings(), tmp_path / "jobs", f"tiny_stages:{stage}")


def test_backend_comes_from_the_settings(tmp_path: Path) -> None:
    assert isinstance(make_compute(tiny_settings(), tmp_path), LocalCompute)
    slurm = make_compute(tiny_settings(backend="slurm"), tmp_path)
    assert type(slurm).__name__ == "SlurmCompute"


def test_figures_logs_and_messages_reach_the_run(
    instance: dg.DagsterInstance,
    compute: Callable[[str], LocalCompute],
    make_job: MakeJob,
    capsys: pytest.CaptureFixture[str],
) -> None:
    figures = in_run(instance, compute("count"), [make_job("a", 3, threads=2), make_job("b", 2)])
    assert [f["counted"] for f in figures] == [3, 2]
    assert [f["threads"] for f in figures] == ["2", "1"]
    assert figures[0]["compute"]["backend"] == "local"
    assert figures[0]["compute"]["peak_memory_mb"] > 5
    assert "counting: 3 of 3" in capsys.readouterr().out
    assert "counting: 3 of 3" in event_messages(instance)


def test_a_job_that_ends_before_anybody_looks_is_done(
    instance: dg.DagsterInstance,
    compute: Callable[[str], LocalCompute],
    make_job: MakeJob,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A copy of the warm process is nobody's child here: it is gone as soon as it has ended."""

    def once_it_is_gone(*arguments: Any) -> warm.WarmWorker | None:
        worker = warm.warm_worker(*arguments)
        assert worker is not None
        wait_for(lambda: not psutil.pid_exists(worker.pid), "the end of the job")
        return worker

    workers = warm.WarmWorkers([], 1)
    monkeypatch.setattr(warm, "_current", workers)
    monkeypatch.setattr(local, "warm_worker", once_it_is_gone)
    try:
        [figures] = in_run(instance, compute("count"), [make_job("a", 1)])
        assert figures["counted"] == 1
        failure = failure_of(instance, compute("crash"), [make_job("b")])
        assert metadata_of(failure)["exit_code"] == 1
    finally:
        workers.close()


def test_several_processes_do_one_job(
    instance: dg.DagsterInstance, tmp_path: Path, make_job: MakeJob
) -> None:
    settings = tiny_settings(profile={"trained_sae": {"processes": 2}})
    compute = LocalCompute(settings, tmp_path / "jobs", "tiny_stages:count")
    [figures] = in_run(instance, compute, [make_job("a", 3, threads=4)])
    assert figures["counted"] == 3
    assert figures["threads"] == "2", "of 4 threads, each process has its share"
    assert event_messages(instance).count("counting: 3 of 3") == 1


@pytest.mark.parametrize(
    ("stage", "nodes", "state", "message"),
    [
        ("refuse", (), "REFUSED", "3 columns seen"),
        ("crash", (), "FAILED", "ZeroDivisionError: a bug"),
        ("leave", (0,), "NO_RESULT", "wrote no result"),
        ("leave", (7,), "FAILED", "exit code 7"),
        ("kill_self", (), "KILLED", "memory ran out"),
    ],
)
def test_every_end_is_told_apart(
    instance: dg.DagsterInstance,
    compute: Callable[[str], LocalCompute],
    make_job: MakeJob,
    stage: str,
    nodes: tuple[int, ...],
    state: str,
    message: str,
) -> None:
    failure = failure_of(instance, compute(stage), [make_job("a", *nodes)])
    metadata = metadata_of(failure)
    assert metadata["state"] == state
    assert message in str(failure.description)
    assert metadata["job"] == "a"
    assert metadata["remedy"]
    assert "job a: trained_sae" in metadata["log_tail"]


def test_an_old_result_is_no_success(
    instance: dg.DagsterInstance, compute: Callable[[str], LocalCompute], make_job: MakeJob
) -> None:
    in_run(instance, compute("touch"), [make_job("a", 1)])
    failure = failure_of(instance, compute("leave"), [make_job("a", 0)])
    assert metadata_of(failure)["state"] == "NO_RESULT"


def test_asked_again_it_is_made_again_but_not_for_the_same_run(
    instance: dg.DagsterInstance,
    compute: Callable[[str], LocalCompute],
    make_job: MakeJob,
    tmp_path: Path,
) -> None:
    job = make_job("a", 1)
    in_run(instance, compute("touch"), [job])
    first = (tmp_path / "jobs/a/result.json").stat().st_mtime_ns
    in_run(instance, compute("touch"), [job])
    second = (tmp_path / "jobs/a/result.json").stat().st_mtime_ns
    assert second > first
    root = instance.get_run_records(limit=1)[0].dagster_run.run_id
    in_run(instance, compute("touch"), [job], tags={"dagster/root_run_id": root})
    assert (tmp_path / "jobs/a/result.json").stat().st_mtime_ns == second
    job.output.unlink()
    in_run(instance, compute("touch"), [job], tags={"dagster/root_run_id": root})
    assert job.output.exists()


def test_a_result_is_taken_only_once_it_is_catalogued(
    instance: dg.DagsterInstance, compute: Callable[[str], LocalCompute], make_job: MakeJob
) -> None:
    """A training was lost where the catalogue could not be written after it, or a kill came."""
    local, job = compute("count"), make_job("a", 3)
    runs: list[str] = []

    def catalogue(figures: list[Figures]) -> None:
        runs.append(str(figures[0]["compute"]))
        if len(runs) == 1:
            raise OSError("the catalogue is held")

    with pytest.raises(OSError, match="is held"):
        in_run(instance, local, [job], catalogue)
    in_run(instance, local, [job], catalogue)
    assert "finished earlier; its result is taken" in event_messages(instance)
    assert runs[0] == runs[1], "the same result, not made again"
    in_run(instance, local, [job], catalogue)
    assert runs[2] != runs[1], "taken, so that it is made again when asked for again"


def test_a_result_that_another_job_replaced_is_made_again(
    instance: dg.DagsterInstance,
    compute: Callable[[str], LocalCompute],
    make_job: MakeJob,
    tmp_path: Path,
) -> None:
    job = make_job("a", 1)
    in_run(instance, compute("touch"), [job])
    (tmp_path / "jobs/a/taken.json").unlink()
    job.output.rename(job.output.with_name("earlier.json"))
    job.output.write_text('"of another job"')
    in_run(instance, compute("touch"), [job])
    assert "nodes" in job.output.read_text()


def test_a_stage_that_writes_nothing_is_no_success(
    instance: dg.DagsterInstance, compute: Callable[[str], LocalCompute], make_job: MakeJob
) -> None:
    failure = failure_of(instance, compute("swallow"), [make_job("a", 1)])
    assert "without writing" in str(failure.description)


def test_terminating_the_run_ends_the_process(
    instance: dg.DagsterInstance,
    compute: Callable[[str], LocalCompute],
    make_job: MakeJob,
    tmp_path: Path,
) -> None:
    def terminate() -> None:
        log = tmp_path / "jobs/a/log.txt"
        wait_for(lambda: log.exists() and "counting" in log.read_text(), "the job counts")
        instance.report_run_canceling(instance.get_run_records()[0].dagster_run)

    thread = threading.Thread(target=terminate)
    thread.start()
    start = time.monotonic()
    with pytest.raises(dg.DagsterExecutionInterruptedError):
        in_run(instance, compute("count"), [make_job("a", 600)])
    thread.join()
    assert time.monotonic() - start < 15
    pid = json.loads((tmp_path / "jobs/a/running.json").read_text())["pid"]
    assert not psutil.pid_exists(pid)
    # it saved its state, and the same job run again goes on from there
    saved = json.loads((tmp_path / "work/a/state.json").read_text())["done"]
    assert saved > 0


def test_a_signal_ends_even_a_process_that_does_not_listen(
    start_host: Callable[..., psutil.Popen],
    make_job: MakeJob,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = start_host(tiny_settings(), "deaf", make_job("a", 600))
    pid_file = tmp_path / "work/a_pid.json"
    pid = json.loads(wait_for(lambda: pid_file.exists() and pid_file.read_text(), "it runs"))["pid"]
    host.send_signal(signal.SIGINT)
    host.wait(30)
    wait_for(lambda: not psutil.pid_exists(pid), "the process is gone")


@pytest.mark.parametrize("meanwhile", ["runs", "finished"])
def test_a_killed_dagster_finds_its_job_again(
    instance: dg.DagsterInstance,
    start_host: Callable[..., psutil.Popen],
    compute: Callable[[str], LocalCompute],
    make_job: MakeJob,
    tmp_path: Path,
    meanwhile: str,
) -> None:
    job = make_job("a", 1)
    host = start_host(tiny_settings(), "gated", job)
    log = tmp_path / "jobs/a/log.txt"
    wait_for(lambda: log.exists() and "waiting" in log.read_text(), "the job runs")
    os.kill(host.pid, signal.SIGKILL)
    host.wait()
    pid = json.loads((tmp_path / "jobs/a/running.json").read_text())["pid"]
    opener = open_gate(tmp_path, instance, "still runs" if meanwhile == "runs" else None)
    if meanwhile == "finished":
        wait_for((tmp_path / "jobs/a/result.json").exists, "the job is done")
    [figures] = in_run(instance, compute("gated"), [job])
    opener.join()
    assert figures["pid"] == pid
    message = "finished earlier" if meanwhile == "finished" else "still runs"
    assert message in event_messages(instance)
