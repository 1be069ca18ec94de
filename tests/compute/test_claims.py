"""Two runs for one partition: one waits for the other, and nothing is made twice or lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import psutil
import pytest

from saeborzoi.jobs.job import Job
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi_resources.compute.claims import claimed
from saeborzoi_resources.compute.folder import JobFolder
from saeborzoi_resources.compute.local import LocalCompute
from tests.compute.compute_helpers import (
    OtherRun,
    event_messages,
    held_by_another_run,
    in_run,
    open_gate,
    tiny_settings,
    wait_for,
)

MakeJob = Callable[..., Job]
_WAITS = "run the-other-run (process"
"""Stands in the log of a run that waits for the other one."""


def test_the_second_run_takes_what_the_first_made(
    instance: dg.DagsterInstance,
    start_host: Callable[..., psutil.Popen],
    make_job: MakeJob,
    tmp_path: Path,
) -> None:
    compute = LocalCompute(tiny_settings(), tmp_path / "jobs", "tiny_stages:gated")
    first = start_host(tiny_settings(), "gated", make_job("a", 1))
    log = tmp_path / "jobs/a/log.txt"
    wait_for(lambda: log.exists() and "waiting" in log.read_text(), "the first run's job runs", 60)
    gate = open_gate(tmp_path, instance, "works on this partition already; waiting for it")
    catalogued: list[int] = []
    [figures] = in_run(
        instance, compute, [make_job("a", 1)], lambda rows: catalogued.append(rows[0]["pid"])
    )
    gate.join()
    assert first.wait(60) == 0
    made_by = json.loads((tmp_path / "jobs/a/running.json").read_text())["pid"]
    assert catalogued == [figures["pid"]] == [made_by], "one process made it, and both runs have it"
    assert log.read_text().count("job a: trained_sae") == 1
    [later] = in_run(instance, compute, [make_job("a", 1)])
    assert later["pid"] != made_by, "asked for again, it is made again"


@pytest.mark.parametrize("holder", ["a", "of_old_settings"])
def test_what_the_first_run_did_not_make_is_made(
    instance: dg.DagsterInstance, make_job: MakeJob, tmp_path: Path, holder: str
) -> None:
    """It failed, or it was for the same SAE with other settings; an older result counts no more."""
    compute = LocalCompute(tiny_settings(), tmp_path / "jobs", "tiny_stages:touch")
    in_run(instance, compute, [make_job("a")])
    result = tmp_path / "jobs/a/result.json"
    before = result.stat().st_mtime_ns
    release = threading.Event()
    with held_by_another_run(tmp_path / "jobs", make_job(holder), release):

        def let_go() -> None:
            wait_for(lambda: _WAITS in event_messages(instance), "the second run waits", 60)
            release.set()

        gate = threading.Thread(target=let_go)
        gate.start()
        in_run(instance, compute, [make_job("a")])
    gate.join()
    assert _WAITS in event_messages(instance)
    assert result.stat().st_mtime_ns > before


def test_a_waiting_run_can_be_terminated(
    instance: dg.DagsterInstance, make_job: MakeJob, tmp_path: Path
) -> None:
    compute = LocalCompute(tiny_settings(), tmp_path / "jobs", "tiny_stages:count")

    def terminate() -> None:
        wait_for(instance.get_run_records, "the run")
        wait_for(lambda: "waiting for it" in event_messages(instance), "it waits")
        instance.report_run_canceling(instance.get_run_records()[0].dagster_run)

    thread = threading.Thread(target=terminate)
    with held_by_another_run(tmp_path / "jobs", make_job("a", 1), threading.Event()):
        thread.start()
        with pytest.raises(dg.DagsterExecutionInterruptedError):
            in_run(instance, compute, [make_job("a", 1)])
    thread.join()
    assert not (tmp_path / "jobs/a/result.json").exists()


def test_a_job_of_several_saes_holds_each_of_them(tmp_path: Path, make_job: MakeJob) -> None:
    one, other = (f"conv1d_1_x4_k0.25_lr0.003_s{seed}" for seed in (0, 1))
    several = make_job(
        "several",
        hyperparameters=Hyperparameters.from_key(one),
        together={other: tmp_path / "store" / "other.json"},
    )
    alone = make_job("alone", hyperparameters=Hyperparameters.from_key(other))
    first, second = (JobFolder(tmp_path / "jobs", job) for job in (several, alone))
    waiting = OtherRun()

    def take() -> None:
        with claimed([second], waiting, 1):
            pass

    with claimed([first], OtherRun(), 1):
        thread = threading.Thread(target=take)
        thread.start()
        wait_for(lambda: waiting.lines, "the run of one SAE waits")
    thread.join()


def test_two_runs_never_wait_for_each_other(tmp_path: Path, make_job: MakeJob) -> None:
    folders = [JobFolder(tmp_path / "jobs", make_job(name, 1)) for name in "abc"]

    def often(own: list[JobFolder]) -> int:
        for _ in range(20):
            with claimed(own, OtherRun(), 1):
                pass
        return 20

    with ThreadPoolExecutor() as pool:
        turns = [pool.submit(often, order) for order in (folders, folders[::-1])]
        assert [turn.result(60) for turn in turns] == [20, 20]
