"""Runs whose process was killed are found, reported and made again; living ones are left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from saeborzoi.catalog.scope import Made, Scope
from saeborzoi.files import write_json
from saeborzoi.settings.load import load_settings
from saeborzoi_assets.partitions import HYPERPARAMETERS, Partitions
from saeborzoi_assets.sensors.automation import TAG, sensors
from saeborzoi_resources import dead_runs
from saeborzoi_resources.dead_runs import NO_PROCESS_TAG, end_dead_runs
from saeborzoi_resources.platform import Platform
from tests.assets.small_project import KEY, make_small_project
from tests.dagster_own import EngineEventData

_HOLDS = (
    "import sys\nfrom pathlib import Path\nfrom saeborzoi_resources.dead_runs import hold_mark\n"
    "hold_mark(Path(sys.argv[1]), sys.argv[2])\nprint('held', flush=True)\nsys.stdin.read()\n"
)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def _started(instance: dg.DagsterInstance, **tags: str) -> dg.DagsterRun:
    return instance.add_run(
        dg.DagsterRun(
            job_name="__ASSET_JOB",
            run_id=str(uuid.uuid4()),
            status=dg.DagsterRunStatus.STARTED,
            tags={TAG: f"{KEY}:training", **tags},
        )
    )


def _worker(instance: dg.DagsterInstance, run: dg.DagsterRun, jobs: Path) -> subprocess.Popen[str]:
    """A process that works on a run as an asset's does."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDS, str(jobs), run.run_id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    instance.report_engine_event("Started", run, EngineEventData.in_process(process.pid))
    return process


def _kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def _sensor(settings_file: Path, instance: dg.DagsterInstance) -> dg.SensorResult | dg.SkipReason:
    settings = load_settings(settings_file)
    named = {sensor.name: sensor for sensor in sensors(Partitions.of(settings))}
    context = dg.build_sensor_context(
        instance=instance, resources={"platform": Platform(settings_file=str(settings_file))}
    )
    result = named["materialize_missing"](context)
    assert isinstance(result, dg.SensorResult | dg.SkipReason)
    return result


def test_the_automation_goes_on_after_its_run_was_killed_as_often_as_it_happens(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    settings_file = make_small_project(tmp_path)
    platform = Platform(settings_file=str(settings_file))
    platform.catalog.replace(
        Made("normalization_constants", "run", "1", "v", tmp_path / "store" / "x"),
        Scope(layer="conv"),
        {},
    )
    instance.add_dynamic_partitions(HYPERPARAMETERS, [KEY])
    run_keys = set()
    for _ in range(platform.settings.automation.max_attempts + 1):
        run = _started(instance)
        worker = _worker(instance, run, platform.store.jobs)
        waiting = _sensor(settings_file, instance)
        assert isinstance(waiting, dg.SkipReason)
        assert f"waiting for runs of {KEY}" in str(waiting.skip_message)
        _kill(worker)
        result = _sensor(settings_file, instance)
        assert isinstance(result, dg.SensorResult)
        assert result.run_requests is not None
        (request,) = result.run_requests
        assert request.tags[TAG] == f"{KEY}:training"
        run_keys.add(request.run_key)
        ended = instance.get_run_by_id(run.run_id)
        assert ended is not None
        assert ended.status is dg.DagsterRunStatus.FAILURE
        assert ended.tags[NO_PROCESS_TAG] == f"process {worker.pid} is gone"
    assert len(run_keys) == platform.settings.automation.max_attempts + 1, "each is a new run"
    entries = [str(entry) for entry in instance.all_logs(run.run_id)]
    assert any("was left by its process" in text and "does not count" in text for text in entries)


def test_a_step_that_always_loses_its_process_is_left_in_the_end(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    settings_file = make_small_project(tmp_path)
    instance.add_dynamic_partitions(HYPERPARAMETERS, [KEY])
    for _ in range(10):
        instance.add_run(
            dg.DagsterRun(
                job_name="__ASSET_JOB",
                run_id=str(uuid.uuid4()),
                status=dg.DagsterRunStatus.FAILURE,
                tags={TAG: f"{KEY}:normalization", NO_PROCESS_TAG: "process 1 is gone"},
            )
        )
    skipped = _sensor(settings_file, instance)
    assert isinstance(skipped, dg.SkipReason)
    assert "lost its process 10 times in a row" in str(skipped.skip_message)


def test_a_run_whose_end_was_asked_for_is_canceled(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    run = _started(instance)
    _kill(_worker(instance, run, tmp_path))
    instance.report_run_canceling(run)
    assert [dead.run_id for dead in end_dead_runs(instance, tmp_path)] == [run.run_id]
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status is dg.DagsterRunStatus.CANCELED
    assert end_dead_runs(instance, tmp_path) == []
    assert not list((tmp_path / ".runs").iterdir()), "the mark of the dead run is gone"


def test_a_run_that_is_just_starting_is_left_alone(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _started(instance)
    assert end_dead_runs(instance, tmp_path) == []
    monkeypatch.setattr(dead_runs, "_START_S", -1.0)
    (dead,) = end_dead_runs(instance, tmp_path)
    assert dead.run_id == run.run_id
    assert "it has no process" in dead.why


def test_a_run_that_ends_well_in_the_meantime_stays_a_success(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _started(instance)

    def look_and_end(*_: object) -> str:
        instance.handle_new_event(_success(run))
        return "process 1 is gone"

    monkeypatch.setattr(dead_runs, "_why_dead", look_and_end)
    assert end_dead_runs(instance, tmp_path) == []
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status is dg.DagsterRunStatus.SUCCESS


def _success(run: dg.DagsterRun) -> dg.EventLogEntry:
    event = dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, run.job_name)
    return dg.EventLogEntry(
        error_info=None,
        level="info",
        user_message="",
        run_id=run.run_id,
        timestamp=0.0,
        job_name=run.job_name,
        dagster_event=event,
    )


def test_another_hosts_run_is_ended_only_after_a_long_silence(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _started(instance)
    _kill(_worker(instance, run, tmp_path))
    write_json(tmp_path / ".runs" / f"{run.run_id}.json", {"host": "elsewhere", "pid": 1})
    assert end_dead_runs(instance, tmp_path) == []
    monkeypatch.setattr(dead_runs, "_ELSEWHERE_S", -1.0)
    assert "host elsewhere is free" in end_dead_runs(instance, tmp_path)[0].why


def test_a_later_process_of_the_same_id_is_not_the_runs() -> None:
    assert dead_runs._lives(os.getpid(), 2e10)
    assert not dead_runs._lives(os.getpid(), 1e9), "ids are given again after a reboot"
