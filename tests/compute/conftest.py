"""Fixtures of the compute backends' tests."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from saeborzoi.jobs.job import Job
from saeborzoi.settings.load import Settings
from saeborzoi_resources.compute import slurm_task
from saeborzoi_resources.compute.slurm import SlurmCompute
from tests.compute.compute_helpers import HERE, tiny_settings
from tests.compute.slurm_cluster import Cluster, running_cluster, why_not
from tests.dagster_own import ONE_EVENT_LOG

collect_ignore = ["celery_project.py", "dagster_host.py"]
"""Programs that tests start: they read their environment when they are imported."""


@pytest.fixture(autouse=True)
def _little_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    # what a node writes shows at once on a local disk
    monkeypatch.setattr(slurm_task, "_SETTLE_S", 2.0)


@pytest.fixture(autouse=True)
def _tiny_stages_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parents[1])]))


def tiny_job(folder: Path, job_id: str, *nodes: int, **more: Any) -> Job:
    """A job whose output and work lie in a folder."""
    return Job(
        job_id=job_id,
        stage="trained_sae",
        settings=tiny_settings(),
        layer="conv1d_1",
        nodes=nodes,
        output=folder / "store" / f"{job_id}.json",
        work=folder / "work" / job_id,
        **more,
    )


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., Job]:
    """Jobs whose output and work lie in the test's folder."""
    return functools.partial(tiny_job, tmp_path)


def dagster_home(folder: Path, empty: Path | None = None) -> str:
    """A folder for a Dagster instance; the tables of an empty one are copied, not made again."""
    home = folder / "dagster"
    if empty is not None:
        shutil.copytree(empty, home)
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text(ONE_EVENT_LOG.format(home=home))
    return str(home)


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a Dagster instance that nothing ran in."""
    home = dagster_home(tmp_path_factory.mktemp("empty"))
    with dg.DagsterInstance.from_config(home):
        return Path(home)


@pytest.fixture
def instance(tmp_path: Path, empty_home: Path) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance in files, as other processes need it."""
    with dg.DagsterInstance.from_config(dagster_home(tmp_path, empty_home)) as made:
        yield made


def spawn_host(
    folder: Path, dagster_home: str, settings: Settings, stage: str, *jobs: Job,
    environment: dict[str, str] | None = None,
) -> subprocess.Popen[str]:  # fmt: skip
    """Start `dagster_host.py` on jobs; its output goes to ``host.txt`` in the folder."""
    settings_file = folder / "host_settings.json"
    settings_file.write_text(settings.model_dump_json())
    documents = []
    for job in jobs:
        documents.append(folder / f"host_{job.job_id}.json")
        documents[-1].write_text(job.model_dump_json())
    command = [sys.executable, HERE / "dagster_host.py", dagster_home]
    command += [folder / "jobs", settings_file, f"tiny_stages:{stage}", *documents]
    with (folder / "host.txt").open("w") as log:
        return subprocess.Popen(
            [str(part) for part in command],
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(environment or {})},
        )


@pytest.fixture
def start_host(tmp_path: Path, instance: dg.DagsterInstance) -> Iterator[Callable[..., Any]]:
    """Start `dagster_host.py` on jobs; killed at the test's end."""
    started: list[subprocess.Popen[str]] = []

    def start(settings: Settings, stage: str, *jobs: Job) -> subprocess.Popen[str]:
        process = spawn_host(tmp_path, instance.root_directory, settings, stage, *jobs)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def timeouts(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, tuple[subprocess.Popen[str], Path]]]:
    """Dagster processes, each with a job of a minute at most that needs longer, on a cluster of
    their own; stage to process and its output."""
    if why_not():
        pytest.skip(f"no SLURM can be started here: {why_not()}")
    started = {}
    with running_cluster(tmp_path_factory.mktemp("slurm_timeouts") / "c") as own:
        environment = {**own.environment, "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parents[1]}"}
        # CONT changes nothing, as if no warning came; SLURM sends USR1 10 to 40 s after the start
        for stage, n, warning in (
            ("deaf", 3600, "CONT@1"),
            ("checkpoint_then_deaf", 3600, "CONT@1"),
            ("count", 480, "USR1@50"),
        ):
            # one attempt that brings the job no further may fail, another may not
            profile: dict[str, Any] = {
                "time": "1",
                "options": [f"--signal=B:{warning}"],
                "mem": "50M",
            }
            profile["max_attempts"] = 1 if stage == "count" else 2
            settings = tiny_settings(backend="slurm", profile={"default": profile})
            folder = tmp_path_factory.mktemp(stage)
            process = spawn_host(
                folder, dagster_home(folder), settings, stage, tiny_job(folder, "a", n),
                environment=environment,
            )  # fmt: skip
            started[stage] = (process, folder / "host.txt")
        yield started
        for process, _ in started.values():
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Cluster]:
    """A real SLURM for the session; skips where there can be none."""
    reason = why_not()
    if reason:
        pytest.skip(f"no SLURM can be started here: {reason}")
    if any("timeouts" in getattr(item, "fixturenames", ()) for item in request.session.items):
        # they take a minute of waiting, so they begin before everything else
        request.getfixturevalue("timeouts")
    with running_cluster(tmp_path_factory.mktemp("slurm") / "c") as started:
        yield started


@pytest.fixture
def slurm(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The cluster, idle and named in the environment."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    yield cluster
    cluster.clear()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Put the stand-ins first on PATH and say how the site is; the folder of their jobs."""
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    programs = tmp_path / "programs"
    programs.mkdir()
    state = tmp_path / "slurm"
    state.mkdir()
    for name in ("sbatch", "squeue", "scancel", "scontrol", "sacct", "sinfo"):
        (programs / name).symlink_to(HERE / "fake_slurm.sh")

    def make(words: str = "", **variables: str) -> Path:
        monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
        for name, value in {"FAKE": words, "FAKE_STATE": str(state), **variables}.items():
            monkeypatch.setenv(name, value)
        return state

    return make


@pytest.fixture
def compute(tmp_path: Path) -> Callable[..., SlurmCompute]:
    """SLURM compute that runs a tiny stage."""

    def make(stage: str = "touch", **profile: Any) -> SlurmCompute:
        settings = tiny_settings(backend="slurm", profile={"trained_sae": profile})
        return SlurmCompute(settings, tmp_path / "jobs", f"tiny_stages:{stage}")

    return make
