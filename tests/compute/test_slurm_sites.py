"""Sites that differ: what wrappers, federations, banners, limits and slow filesystems do around
SLURM's commands, with stand-ins for them (`fake_slurm.sh`)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from saeborzoi.jobs.job import Job
from saeborzoi_resources.compute import folder as folder_module
from saeborzoi_resources.compute import slurm_task
from saeborzoi_resources.compute.folder import JobFolder
from saeborzoi_resources.compute.local import LocalCompute
from saeborzoi_resources.compute.preflight import preflight
from saeborzoi_resources.compute.slurm import SlurmCompute
from saeborzoi_resources.compute.slurm_answers import JobState
from saeborzoi_resources.compute.slurm_commands import Slurm
from saeborzoi_resources.compute.slurm_task import Task
from tests.compute.compute_helpers import (
    calls,
    event_messages,
    failure_of,
    in_run,
    metadata_of,
    tiny_settings,
)

MakeJob = Callable[..., Job]
MakeCompute = Callable[..., SlurmCompute]


@pytest.mark.parametrize(
    ("words", "slurm_id"),
    [
        ("", "101"),
        ("federated", "101;nautilus"),
        ("sentence", "101"),
        ("sentence_with_cluster", "101;nautilus"),
        ("banner_sbatch", "101"),
        ("banner_after", "101"),
        ("sentence banner_sbatch banner_after", "101"),
        ("federated banner_sbatch banner_squeue banner_sacct", "101;nautilus"),
        ("lone_number", "101"),
        ("other_words", "101"),
        ("no_words", "101"),
        ("colours", "101"),
        ("fails_after", "101"),
        ("banner_squeue", "101"),
        ("banner_squeue banner_sacct short_lines", "101"),
        ("squeue_fails", "101"),
        ("no_sacct", "101"),
        ("accounting_of_another banner_sacct", "101"),
    ],
)
def test_a_site_that_differs(
    instance: dg.DagsterInstance,
    site: Callable[..., Path],
    compute: MakeCompute,
    make_job: MakeJob,
    words: str,
    slurm_id: str,
) -> None:
    state = site(words, FAKE_DELAY="1")
    [figures] = in_run(instance, compute(max_attempts=3), [make_job("a", 4)])
    assert figures["first_node"] == 4
    assert figures["compute"]["slurm_job_id"] == slurm_id
    assert "gpu_h" not in figures["compute"]
    assert len(calls(state, "sbatch")) == 1
    if ";" in slurm_id:
        assert all("-M nautilus" in one or "-M all" in one for one in calls(state, "squeue"))


def test_an_array_of_a_federation(
    instance: dg.DagsterInstance, site: Callable[..., Path], compute: MakeCompute, make_job: MakeJob
) -> None:
    site("federated banner_squeue", FAKE_DELAY="1")
    figures = in_run(instance, compute(), [make_job("a", 1), make_job("b", 2)])
    assert [f["first_node"] for f in figures] == [1, 2]
    ids = [f["compute"]["slurm_job_id"] for f in figures]
    assert ids == ["101_0;nautilus", "101_1;nautilus"]


@pytest.mark.parametrize("words", ["accounting", "accounting banner_sacct"])
def test_accounting_between_banners(
    instance: dg.DagsterInstance,
    site: Callable[..., Path],
    compute: MakeCompute,
    make_job: MakeJob,
    words: str,
) -> None:
    site(words)
    [figures] = in_run(instance, compute(), [make_job("a", 4)])
    # GPUs that are counted by type only
    assert figures["compute"]["gpu_h"] == 2.0
    assert figures["compute"]["cpu_s"] == 10.5


def test_no_id_in_what_sbatch_prints(
    instance: dg.DagsterInstance,
    site: Callable[..., Path],
    compute: MakeCompute,
    make_job: MakeJob,
    tmp_path: Path,
) -> None:
    site("other_words")
    (tmp_path / "programs/squeue").unlink()
    (tmp_path / "programs/squeue").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "programs/squeue").chmod(0o755)
    failure = failure_of(instance, compute(), [make_job("a")])
    assert metadata_of(failure)["state"] == "REFUSED_BY_SBATCH"
    assert "Lot <101> accepte, 3 SU" in str(failure.description)


def test_an_id_that_another_job_has(
    instance: dg.DagsterInstance,
    site: Callable[..., Path],
    compute: MakeCompute,
    make_job: MakeJob,
    tmp_path: Path,
) -> None:
    """The controller lost its state: under our id runs somebody's job, for ever."""
    state = site("reused", FAKE_DELAY="600")
    failure = failure_of(instance, compute(max_attempts=1), [make_job("a")])
    assert metadata_of(failure)["state"] == "VANISHED"
    assert not calls(state, "scancel")
    Slurm().cancel({"101": "trained_sae-ours"})
    assert not calls(state, "scancel")


@pytest.mark.parametrize(
    "noted",
    [
        {},
        {"submission": "trained_sae-old"},
        {"submission": "trained_sae-old", "task": 0, "is_array": False, "attempts": 1,
         "failed_attempts": 0, "progress": {}, "submitted_at": 1.0},
    ],
)  # fmt: skip
@pytest.mark.parametrize("file", ["7\n", "Submitted batch job 7 on cluster nautilus\n", "", "x;y"])
def test_what_an_older_release_noted_is_no_job_of_ours(
    instance: dg.DagsterInstance,
    site: Callable[..., Path],
    compute: MakeCompute,
    make_job: MakeJob,
    tmp_path: Path,
    noted: dict[str, Any],
    file: str,
) -> None:
    state = site()
    (state / "7.job").write_text("somebody_elses")
    job = make_job("a", 3)
    folder = JobFolder(tmp_path / "jobs", job)
    folder.path.mkdir(parents=True)
    folder.note_running(**noted)
    submission = tmp_path / "jobs/.submissions/trained_sae-old"
    submission.mkdir(parents=True)
    (submission / "slurm_job_id").write_text(file)
    [figures] = in_run(instance, compute(), [job])
    assert figures["compute"]["slurm_job_id"] == "101"
    assert not calls(state, "scancel")


def hide(
    monkeypatch: pytest.MonkeyPatch, state: Path, names: tuple[str, ...], for_s: float
) -> None:
    """Show files of these names only some time after the job has ended, as NFS may."""
    ended: list[float] = []
    shows = folder_module.shows

    def shows_late(path: Path) -> bool:
        if not ended and list(state.glob("*.done")):
            ended.append(time.monotonic())
        is_late = path.name in names and (not ended or time.monotonic() - ended[0] < for_s)
        return not is_late and shows(path)

    for module in (folder_module, slurm_task):
        monkeypatch.setattr(module, "shows", shows_late)


@pytest.mark.parametrize(
    "late", [("result.json",), ("result.json", "exit_code"), ("a.json",)], ids="-".join
)
@pytest.mark.parametrize("words", ["", "forgets"])
def test_what_a_node_wrote_shows_late(
    instance: dg.DagsterInstance,
    site: Callable[..., Path],
    compute: MakeCompute,
    make_job: MakeJob,
    monkeypatch: pytest.MonkeyPatch,
    late: tuple[str, ...],
    words: str,
) -> None:
    monkeypatch.setattr(slurm_task, "_SETTLE_S", 60.0)
    state = site(words)
    hide(monkeypatch, state, late, 3.0)
    [figures] = in_run(instance, compute(max_attempts=3), [make_job("a", 6)])
    assert figures["first_node"] == 6
    assert len(calls(state, "sbatch")) == 1
    assert "waiting up to 60 s for its files to show" in event_messages(instance)


def test_what_never_shows_is_said(
    instance: dg.DagsterInstance,
    site: Callable[..., Path],
    compute: MakeCompute,
    make_job: MakeJob,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hide(monkeypatch, site(), ("a.json",), 600.0)
    failure = failure_of(instance, compute(), [make_job("a", 6)])
    assert metadata_of(failure)["state"] == "NO_RESULT"
    assert "store/a.json does not show on this machine" in str(failure.description)


@pytest.mark.parametrize("clock_s", [-86_400, -300, 0, 300])
def test_state_is_new_whatever_the_clock_of_the_file_server(
    site: Callable[..., Path], make_job: MakeJob, tmp_path: Path, clock_s: int
) -> None:
    site()
    job = make_job("a", 3)
    job.work.mkdir(parents=True)
    old = job.work / "old.json"
    old.write_text("1")

    def task() -> Task:
        made = Task(JobFolder(tmp_path / "jobs", job), "[compute.profile.x]", 2)
        made.folder.path.mkdir(parents=True, exist_ok=True)
        made.begin("trained_sae-x", None)  # type: ignore[arg-type]
        made.began("7")
        made._ended_since = -1e9
        return made

    timeout = JobState("TIMEOUT", "")
    without = task()
    without.judge(timeout, Slurm())
    assert without.end is not None
    assert "before the stage saved any state" in without.end.reason
    with_state = task()
    state = job.work / "state.json"
    state.write_text("2")
    now = old.stat().st_mtime
    os.utime(state, (now + clock_s, now + clock_s))
    with_state.judge(timeout, Slurm())
    assert with_state.end is None
    assert with_state.is_waiting
    # a Dagster that takes over knows the same
    joined = Task(with_state.folder, "[compute.profile.x]", 2)
    noted = json.loads(json.dumps(with_state.notes()))
    joined.join(noted, "7", None)  # type: ignore[arg-type]
    assert joined._has_new_state()


@pytest.mark.parametrize("option", ["--job-name=mine", "-J", "-Jmine", "--array=0-3", "--wait"])
def test_options_that_would_lose_the_job(
    instance: dg.DagsterInstance,
    site: Callable[..., Path],
    compute: MakeCompute,
    make_job: MakeJob,
    option: str,
) -> None:
    site()
    failure = failure_of(instance, compute(options=[option]), [make_job("a")])
    assert f'"{option}" in `options`' in str(failure.description)
    assert "remove it" in str(failure.description)


def test_variables_of_the_users_shell(
    instance: dg.DagsterInstance,
    site: Callable[..., Path],
    compute: MakeCompute,
    make_job: MakeJob,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dagster itself runs in a task of an array, and squeue would show another partition only."""
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("SQUEUE_PARTITION", "gpu")
    site()
    [figures] = in_run(instance, compute(), [make_job("a", 9)])
    assert figures["first_node"] == 9
    assert figures["compute"]["slurm_job_id"] == "101"


def test_preflight_between_banners(site: Callable[..., Path], tmp_path: Path) -> None:
    site("banner_sbatch banner_squeue banner_sinfo banner_scontrol banner_sacct")
    settings = tiny_settings(backend="slurm")
    findings = preflight(settings, tmp_path / "jobs")
    assert all(finding.ok for finding in findings), findings
    assert "default partition cpu*" in findings[0].detail


def test_no_secret_of_the_environment_is_written(
    instance: dg.DagsterInstance,
    site: Callable[..., Path],
    compute: MakeCompute,
    make_job: MakeJob,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secrets = {"HF_TOKEN": "hf_canary_1", "DAGSTER_PG_PASSWORD": "canary_2", "MY_KEY": "canary_3"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    site(FAKE_DELAY="1")
    in_run(instance, compute(), [make_job("a", 1), make_job("b", 2)])
    failure = failure_of(instance, compute("crash"), [make_job("c")])
    local = LocalCompute(tiny_settings(), tmp_path / "jobs", "tiny_stages:crash")
    also = failure_of(instance, local, [make_job("d")])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 20
    texts = [path.read_bytes().decode(errors="replace") for path in files]
    for text in (*texts, str(failure), str(also), event_messages(instance)):
        assert not any(value in text for value in secrets.values())
