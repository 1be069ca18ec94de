"""Fixtures of the compute backends' tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dagster", reason="compute backends need saeborzoi[platform]")

import dagster as dg
from compute_helpers import HERE, tiny_settings
from slurm_cluster import Cluster, running_cluster, why_not

from saeborzoi.job import Job
from saeborzoi.settings import Settings


@pytest.fixture(autouse=True)
def _tiny_stages_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parents[1])]))


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., Job]:
    """Jobs whose output and work lie in the test's folder."""

    def make(job_id: str, *nodes: int, **more: Any) -> Job:
        return Job(
            job_id=job_id,
            stage="trained_sae",
            settings=tiny_settings(),
            layer="conv1d_1",
            nodes=nodes,
            output=tmp_path / "store" / f"{job_id}.json",
            work=tmp_path / "work" / job_id,
            **more,
        )

    return make


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance in files, as other processes need it."""
    folder = tmp_path / "dagster"
    folder.mkdir()
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(folder)) as made:
        yield made


@pytest.fixture
def start_host(tmp_path: Path, instance: dg.DagsterInstance) -> Iterator[Callable[..., Any]]:
    """Start `dagster_host.py` on jobs; killed at the test's end."""
    started: list[subprocess.Popen[str]] = []

    def start(settings: Settings, stage: str, *jobs: Job) -> subprocess.Popen[str]:
        settings_file = tmp_path / "host_settings.json"
        settings_file.write_text(settings.model_dump_json())
        documents = []
        for job in jobs:
            documents.append(tmp_path / f"host_{job.job_id}.json")
            documents[-1].write_text(job.model_dump_json())
        command = [sys.executable, HERE / "dagster_host.py", instance.root_directory]
        command += [tmp_path / "jobs", settings_file, f"tiny_stages:{stage}", *documents]
        with (tmp_path / "host.txt").open("w") as log:
            process = subprocess.Popen(
                [str(part) for part in command], stdout=log, stderr=subprocess.STDOUT, text=True
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real SLURM for the session; skips where there can be none."""
    reason = why_not()
    if reason:
        pytest.skip(f"no SLURM can be started here: {reason}")
    with running_cluster(tmp_path_factory.mktemp("slurm") / "c") as started:
        yield started


@pytest.fixture
def slurm(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The cluster, idle and named in the environment."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    yield cluster
    cluster.clear()
