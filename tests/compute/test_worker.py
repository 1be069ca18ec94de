"""The worker by hand: exit codes, result document, what it says."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saeborzoi.jobs.job import Job
from saeborzoi.worker import Reporter, fingerprint
from tests.compute.compute_helpers import tiny_settings


@pytest.fixture
def work(tmp_path: Path, make_job: Callable[..., Job]) -> Callable[..., Any]:
    """Run the worker on a job; its process, ended, and the result document."""

    def run(stage: str, *nodes: int, stop_after_s: float | None = None) -> tuple[Any, Any]:
        job = make_job("by_hand", *nodes, threads=3)
        document = tmp_path / "job.json"
        document.write_text(job.model_dump_json())
        process = subprocess.Popen(
            [sys.executable, "-m", "saeborzoi.worker", str(document)]
            + ([] if stage == "own" else ["--stage", f"tiny_stages:{stage}"]),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if stop_after_s is not None:
            time.sleep(stop_after_s)
            process.send_signal(signal.SIGUSR1)
        out, err = process.communicate(timeout=30)
        result = tmp_path / "result.json"
        outcome = json.loads(result.read_text()) if result.exists() else None
        return (process.returncode, out, err), outcome

    return run


def test_success_is_written_with_figures_and_usage(work: Callable[..., Any]) -> None:
    (code, out, _), result = work("count", 3)
    assert code == 0
    assert result["status"] == "success"
    assert result["figures"] == {"counted": 3, "resumed_at": 0, "threads": "3"}
    assert result["elapsed_s"] >= 0.3
    assert result["peak_memory_mb"] > 5
    assert "counting: 3 of 3 (100.0%)" in out


def test_a_users_error_shows_its_message_and_no_traceback(work: Callable[..., Any]) -> None:
    (code, _, err), result = work("refuse")
    assert code == 2
    assert result["error"]["type"] == "InputError"
    assert "3 columns seen" in err
    assert "Traceback" not in err


def test_any_other_error_leaves_its_traceback_in_the_log(work: Callable[..., Any]) -> None:
    (code, _, err), result = work("crash")
    assert code == 1
    assert result["error"] == {"type": "ZeroDivisionError", "message": "a bug"}
    assert "Traceback" in err


def test_usr1_saves_and_the_same_job_goes_on(work: Callable[..., Any]) -> None:
    (code, out, _), result = work("count", 40, stop_after_s=2.0)
    assert code == 75
    assert "SIGUSR1: saving the state" in out
    saved = result["progress"]["done"]
    assert 0 < saved < 40
    (code, _, _), result = work("count", 40)
    assert code == 0
    assert result["figures"]["resumed_at"] == saved


def test_an_unreadable_job_is_refused_in_words(tmp_path: Path) -> None:
    for path, expected in (
        (tmp_path / "absent.json", "cannot be read"),
        (tmp_path / "old.json", "not a job of this version"),
    ):
        if path.name == "old.json":
            path.write_text('{"job_id": "x", "colour": "blue"}')
        done = subprocess.run(
            [sys.executable, "-m", "saeborzoi.worker", str(path)], capture_output=True, text=True
        )
        assert done.returncode == 2
        assert expected in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("stage", "expected"),
    [("no_such_module:run", "is not installed"), ("tiny_stages:no_such", "has no function")],
)
def test_an_unknown_stage_is_refused(
    tmp_path: Path, make_job: Callable[..., Job], stage: str, expected: str
) -> None:
    document = tmp_path / "job.json"
    document.write_text(make_job("x").model_dump_json())
    done = subprocess.run(
        [sys.executable, "-m", "saeborzoi.worker", str(document), "--stage", stage],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert expected in json.loads((tmp_path / "result.json").read_text())["error"]["message"]


def test_progress_lines_are_few(capsys: pytest.CaptureFixture[str]) -> None:
    report = Reporter()
    for done in range(100_001):
        report("training", done, 100_000, "fvu 0.31")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 10
    assert lines[-1] == "training: 100,000 of 100,000 (100.0%); fvu 0.31"
    assert report.last == {"what": "training", "done": 100_000, "total": 100_000}


def test_fingerprint_is_what_the_job_asks_for(make_job: Callable[..., Job]) -> None:
    job = make_job("a", 1)
    other = tiny_settings(backend="slurm")
    same = job.model_copy(update={"run_id": "another", "threads": 8, "settings": other})
    assert fingerprint(same) == fingerprint(job)
    assert fingerprint(make_job("a", 2)) != fingerprint(job)


def test_a_worker_needs_no_dagster() -> None:
    """`pip install saeborzoi[worker]` brings dagster-pipes, not Dagster and its web server."""
    program = (
        "import importlib, pkgutil, sys, saeborzoi.worker, saeborzoi.stages as stages\n"
        "for module in pkgutil.iter_modules(stages.__path__):\n"
        "    importlib.import_module(f'saeborzoi.stages.{module.name}')\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('dagster', 'duckdb')])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
