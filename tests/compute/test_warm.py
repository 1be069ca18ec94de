"""Workers that are copies of a process: exit codes, log, a session of their own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from saeborzoi.worker import EXIT_REFUSED
from saeborzoi_resources.compute import warm


@pytest.fixture
def workers() -> Iterator[warm.WarmWorkers]:
    started = warm.WarmWorkers([], 1)
    yield started
    started.close()


def test_a_worker_says_how_it_ended_and_writes_into_its_log(
    workers: warm.WarmWorkers, tmp_path: Path
) -> None:
    """Two jobs, neither of which is there: each has its code and its own log."""
    logs = [tmp_path / "one.txt", tmp_path / "two.txt"]
    started = [workers.start([str(tmp_path / "no.json")], log, os.environ) for log in logs]
    assert [each is not None and each.wait() for each in started] == [EXIT_REFUSED] * 2
    assert all("the job document cannot be read" in log.read_text() for log in logs)


def test_a_worker_outlives_the_process_that_it_is_a_copy_of(tmp_path: Path) -> None:
    """As one that was started by itself outlives Dagster; whoever asks is told at its end."""
    pipe = tmp_path / "job.json"
    os.mkfifo(pipe)  # the worker waits until somebody writes its document
    workers = warm.WarmWorkers([], 1)
    worker = workers.start([str(pipe)], tmp_path / "log.txt", os.environ)
    assert worker is not None
    process = psutil.Process(worker.pid)
    assert os.getsid(worker.pid) == worker.pid
    workers.close()
    assert process.is_running()
    os.killpg(worker.pid, signal.SIGKILL)
    process.wait(10)
    assert worker.wait() == -signal.SIGKILL


def test_jobs_of_other_threads_start_as_ever(tmp_path: Path) -> None:
    """Libraries read the number of threads when they are loaded."""
    with warm.warm_workers(["normalization_constants"], 2):
        assert warm.warm_worker([], 3, tmp_path / "log.txt", {}) is None
    assert warm.warm_worker([], 2, tmp_path / "log.txt", {}) is None


def test_waiting_for_a_job_loads_what_is_needed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One module between two looks, so that the end of the job is soon seen."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(warm, "_SHORT_S", 0)
    monkeypatch.setattr(warm, "_ANSWER_S", 60)
    names = ["needed_first", "not_there", "needed_second"]
    for name in names[::2]:
        (tmp_path / f"{name}.py").touch()
    os.mkfifo(tmp_path / "job.json")
    # a block within another one adds to it
    with warm.warm_workers(["normalization_constants"], 1), warm.warm_workers([], 1, names):
        worker = warm.warm_worker([str(tmp_path / "job.json")], 1, tmp_path / "log.txt", os.environ)
        assert worker is not None
        assert names[0] not in sys.modules
        assert worker.poll() is None
        assert names[0] in sys.modules
        assert names[2] not in sys.modules
        assert [worker.poll() for _ in names[1:]] == [None, None]
        assert names[2] in sys.modules
        os.killpg(worker.pid, signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL


def test_waiting_for_the_server_loads_what_is_needed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(warm, "_ANSWER_S", 0)
    (tmp_path / "needed_while_it_starts.py").touch()
    os.mkfifo(tmp_path / "job.json")
    with warm.warm_workers(["normalization_constants"], 1, ["needed_while_it_starts"]):
        worker = warm.warm_worker([str(tmp_path / "job.json")], 1, tmp_path / "log.txt", os.environ)
        assert worker is not None
        assert "needed_while_it_starts" in sys.modules
        os.killpg(worker.pid, signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL
