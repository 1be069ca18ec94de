"""Steps on a real Celery worker with a real Redis: results, and cancelling a SLURM job."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from saeborzoi.jobs.job import Job
from saeborzoi.settings.load import Settings
from saeborzoi_resources.compute.executors import celery_settings
from tests.compute.compute_helpers import HERE, tiny_settings, wait_for
from tests.compute.slurm_cluster import Cluster

MakeJob = Callable[..., Job]
DEPLOY = HERE.parents[1] / "deploy" / "celery"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """URL of a Redis of the test's own."""
    pytest.importorskip("dagster_celery", reason="needs saeborzoi[celery]")
    pytest.importorskip("redis", reason="needs saeborzoi[celery]")
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server: apt-get install redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", tmp_path],
        stdout=subprocess.DEVNULL,
    )

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_for(answers, "Redis answers")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def project(
    tmp_path: Path, instance: dg.DagsterInstance, broker: str, make_job: MakeJob
) -> Iterator[Callable[[Settings, int], subprocess.Popen[str]]]:
    """Start a Celery worker and a run that counts; the run worker's process."""
    started: list[subprocess.Popen[Any]] = []

    def start(settings: Settings, n: int) -> subprocess.Popen[str]:
        (tmp_path / "settings.json").write_text(settings.model_dump_json())
        (tmp_path / "job.json").write_text(make_job("a", n).model_dump_json())
        environment = {
            **os.environ,
            "SAEBORZOI_BROKER": broker,
            "TINY_SETTINGS": str(tmp_path / "settings.json"),
            "TINY_JOBS": str(tmp_path / "job.json"),
            "DAGSTER_HOME": instance.root_directory,
        }
        program = Path(sys.executable).parent
        environment["PATH"] = f"{program}{os.pathsep}{environment['PATH']}"
        config = tmp_path / "worker.yaml"
        config.write_text(
            (DEPLOY / "worker.yaml").read_text().replace("redis://localhost:6379/0", broker)
        )
        with (tmp_path / "worker.txt").open("w") as log:
            worker = subprocess.Popen(
                [program / "dagster-celery", "worker", "start", "-A", "dagster_celery.app",
                 "-y", config, "--", "--pool=prefork", "--concurrency=1"],
                stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True,
            )  # fmt: skip
        started.append(worker)
        with (tmp_path / "run.txt").open("w") as log:
            run = subprocess.Popen(
                [sys.executable, HERE / "celery_project.py", instance.root_directory,
                 tmp_path / "done.json"],
                stdout=log, stderr=subprocess.STDOUT, env=environment, text=True,
                start_new_session=True,
            )  # fmt: skip
        started.append(run)
        return run

    yield start
    for process in started:
        # Celery's own warm shutdown waits for the step that runs
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_step_on_a_worker(project: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    run = project(tiny_settings(), 5)
    assert run.wait(120) == 0, (tmp_path / "run.txt").read_text()[-3000:]
    assert json.loads((tmp_path / "done.json").read_text()) == {"counted": 5}
    log = (tmp_path / "worker.txt").read_text()
    assert "ready." in log
    assert "execute_plan" in log


@pytest.mark.slurm
def test_terminating_the_run_cancels_the_slurm_job_of_a_worker_that_gets_no_signal(
    instance: dg.DagsterInstance,
    slurm: Cluster,
    project: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
) -> None:
    profile = {"time": "10", "mem": "50M"}
    run = project(tiny_settings(backend="slurm", profile={"default": profile}), 3600)
    log = tmp_path / "jobs/a/log.txt"
    wait_for(lambda: log.exists() and "counting" in log.read_text(), "the job counts", 120)
    start = time.monotonic()
    instance.report_run_canceling(instance.get_run_records()[0].dagster_run)
    run.send_signal(signal.SIGTERM)
    wait_for(lambda: not slurm.jobs(), "the job is cancelled", 20)
    assert time.monotonic() - start < 20


def test_worker_file_and_executor_agree() -> None:
    yaml = pytest.importorskip("yaml")
    worker = yaml.safe_load((DEPLOY / "worker.yaml").read_text())
    assert worker["execution"]["config"]["config_source"] == celery_settings()
