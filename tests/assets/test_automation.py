"""Nobody types anything: partitions follow the settings, missing steps are launched."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from dagster import DagsterRunStatus

from saeborzoi.catalog.questions import training_hours_since
from saeborzoi.catalog.scope import PROJECT, Made, Scope
from saeborzoi.settings.load import load_settings
from saeborzoi_assets.partitions import HYPERPARAMETERS, Partitions
from saeborzoi_assets.plan import next_step, steps
from saeborzoi_assets.sensors.automation import TAG, in_hours, n_gpus, sensors
from saeborzoi_resources.platform import Platform
from tests.assets.small_project import KEY, N_NODES, make_small_project

OTHER = KEY.replace("_s0", "_s1")


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    path = make_small_project(tmp_path / "project")
    path.write_text(path.read_text().replace("topk = 0.25", "topk = 0.25\nseed = [0, 1]"))
    return path


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def _evaluate(
    name: str, settings_file: Path, instance: dg.DagsterInstance
) -> dg.SensorResult | dg.SkipReason:
    settings = load_settings(settings_file)
    sensor = next(s for s in sensors(Partitions.of(settings)) if s.name == name)
    context = dg.build_sensor_context(
        instance=instance, resources={"platform": Platform(settings_file=str(settings_file))}
    )
    result = sensor(context)
    assert isinstance(result, dg.SensorResult | dg.SkipReason)
    return result


def pretend_made(settings_file: Path, key: str, n_steps: int, n_made: int = 0) -> None:
    """Catalogue the first steps of an SAE without rows, but for those that were made."""
    platform = Platform(settings_file=str(settings_file))
    settings = platform.settings
    for step in steps(settings, settings.parse_key(key))[n_made:n_steps]:
        nodes = tuple(range(N_NODES)) if step.first != step.last else None
        scope = (
            Scope(layer="conv") if step.name == "normalization" else Scope(sae_key=key, nodes=nodes)
        )
        for asset in step.assets:
            platform.catalog.replace(Made(asset, "run", "1", "v", Path("x")), scope, {})


def _run(instance: dg.DagsterInstance, tag: str, status: DagsterRunStatus) -> None:
    instance.add_run(
        dg.DagsterRun(job_name="__ASSET_JOB", run_id=dg_run_id(), status=status, tags={TAG: tag})
    )


def dg_run_id() -> str:
    import uuid

    return str(uuid.uuid4())


def test_settings_become_partitions(settings_file: Path, instance: dg.DagsterInstance) -> None:
    result = _evaluate("register_hyperparameters", settings_file, instance)
    assert isinstance(result, dg.SkipReason)
    assert result.skip_message == f"added {KEY}, {OTHER}"
    assert instance.get_dynamic_partitions(HYPERPARAMETERS) == [KEY, OTHER]
    again = _evaluate("register_hyperparameters", settings_file, instance)
    assert isinstance(again, dg.SkipReason)
    assert again.skip_message == "every [[sae]] of the settings has its partition"


def test_the_next_missing_step_is_launched(
    settings_file: Path, instance: dg.DagsterInstance
) -> None:
    instance.add_dynamic_partitions(HYPERPARAMETERS, [KEY])
    launched = []
    for n_done in range(8):
        pretend_made(settings_file, KEY, n_done, max(0, n_done - 1))
        result = _evaluate("materialize_missing", settings_file, instance)
        assert isinstance(result, dg.SensorResult)
        assert result.run_requests is not None
        (request,) = result.run_requests
        assert request.asset_selection is not None
        launched.append([key.to_user_string() for key in request.asset_selection])
        if launched[-1][0] == "seqlets":
            assert request.tags["dagster/asset_partition_range_start"] == f"{KEY}|n0000"
            assert request.tags["dagster/asset_partition_range_end"] == f"{KEY}|n0011"
        else:
            assert request.partition_key == {0: "conv", 7: None}.get(n_done, KEY)
    assert launched[0] == ["normalization_constants"]
    assert launched[1] == ["trained_sae"]
    assert launched[3] == ["seqlets", "meme_motifs", "tomtom_matches"]
    assert launched[-2:] == [["feature_browser"], ["sae_comparison"]]
    platform = Platform(settings_file=str(settings_file))
    version = platform.version_of("sae_comparison", PROJECT)
    made = Made("sae_comparison", "run", "1", version.digest, Path("x"))
    platform.catalog.replace(made, Scope(), {})
    result = _evaluate("materialize_missing", settings_file, instance)
    assert isinstance(result, dg.SkipReason)
    assert "every SAE is complete" in str(result.skip_message)


def test_only_what_lacks_is_made(settings_file: Path) -> None:
    pretend_made(settings_file, KEY, 3)
    platform = Platform(settings_file=str(settings_file))
    for nodes in ((0, 1, 2), (8, 9, 10, 11)):
        platform.catalog.replace(
            Made("seqlets", "run", "1", "v", Path("x")),
            Scope(sae_key=KEY, nodes=nodes),
            {"seqlet": _no_rows(platform, "seqlet")},
        )
    settings = platform.settings
    step = next_step(settings, platform.catalog, settings.parse_key(KEY))
    assert step is not None
    assert step.assets == ("seqlets", "meme_motifs", "tomtom_matches")
    platform.catalog.replace(
        Made("seqlets", "run", "1", "v", Path("x")),
        Scope(sae_key=KEY, nodes=tuple(range(N_NODES))),
        {},
    )
    platform.catalog.replace(
        Made("meme_motifs", "run", "1", "v", Path("x")),
        Scope(sae_key=KEY, nodes=(0, 1, 2, 8, 9, 10, 11)),
        {},
    )
    platform.catalog.replace(
        Made("tomtom_matches", "run", "1", "v", Path("x")),
        Scope(sae_key=KEY, nodes=(0, 1, 2, 8, 9, 10, 11)),
        {},
    )
    step = next_step(settings, platform.catalog, settings.parse_key(KEY))
    assert step is not None
    assert step.assets == ("meme_motifs", "tomtom_matches")
    assert step.partition == f"{KEY}|n0003...{KEY}|n0007"


def _no_rows(platform: Platform, table: str) -> pd.DataFrame:
    return platform.catalog.rows(table, KEY)


def test_no_more_saes_at_once_than_set(settings_file: Path, instance: dg.DagsterInstance) -> None:
    instance.add_dynamic_partitions(HYPERPARAMETERS, [KEY, OTHER])
    result = _evaluate("materialize_missing", settings_file, instance)
    assert isinstance(result, dg.SensorResult)
    assert len(result.run_requests or []) == 1
    _run(instance, f"{KEY}:training", DagsterRunStatus.STARTED)
    result = _evaluate("materialize_missing", settings_file, instance)
    assert isinstance(result, dg.SkipReason)
    assert "1 SAE in flight" in str(result.skip_message)
    settings_file.write_text(
        settings_file.read_text() + "\n[automation]\nat_once = true\nmax_saes_in_flight = 2\n"
    )
    result = _evaluate("materialize_missing", settings_file, instance)
    assert isinstance(result, dg.SensorResult)


def test_a_step_that_keeps_failing_is_left_and_stops_no_other(
    settings_file: Path, instance: dg.DagsterInstance
) -> None:
    instance.add_dynamic_partitions(HYPERPARAMETERS, [KEY, OTHER])
    for key in (KEY, OTHER):
        pretend_made(settings_file, key, 1)
    _run(instance, f"{KEY}:training", DagsterRunStatus.FAILURE)
    result = _evaluate("materialize_missing", settings_file, instance)
    assert isinstance(result, dg.SensorResult)
    assert [r.partition_key for r in result.run_requests or []] == [KEY]
    _run(instance, f"{KEY}:training", DagsterRunStatus.FAILURE)
    result = _evaluate("materialize_missing", settings_file, instance)
    assert isinstance(result, dg.SensorResult)
    assert [r.partition_key for r in result.run_requests or []] == [OTHER]
    _run(instance, f"{OTHER}:training", DagsterRunStatus.FAILURE)
    _run(instance, f"{OTHER}:training", DagsterRunStatus.FAILURE)
    result = _evaluate("materialize_missing", settings_file, instance)
    assert isinstance(result, dg.SkipReason)
    assert "failed 2 times and is left" in str(result.skip_message)


def test_the_days_gpu_hours_hold_back_trainings_only(
    settings_file: Path, instance: dg.DagsterInstance
) -> None:
    instance.add_dynamic_partitions(HYPERPARAMETERS, [KEY, OTHER])
    for key in (KEY, OTHER):
        pretend_made(settings_file, key, 1)
    platform = Platform(settings_file=str(settings_file))
    row = dict.fromkeys(platform.catalog.rows("sae", KEY).columns)
    platform.catalog.replace(
        Made("trained_sae", "run", "1", "v", Path("x")),
        Scope(sae_key=KEY),
        {"sae": pd.DataFrame([{**row, "layer": "conv", "training_s": 7200.0}])},
    )
    settings_file.write_text(
        settings_file.read_text()
        + "\n[automation]\nat_once = true\nmax_saes_in_flight = 2\ngpu_hours_per_day = 1.5\n"
    )
    result = _evaluate("materialize_missing", settings_file, instance)
    assert isinstance(result, dg.SensorResult)
    (request,) = result.run_requests or []
    assert request.partition_key == KEY
    assert (request.asset_selection or [])[0] == dg.AssetKey("top_activations"), "no training"
    moment = datetime.now(UTC)
    assert training_hours_since(platform.catalog, moment) == 0.0


def test_hours(settings_file: Path, instance: dg.DagsterInstance) -> None:
    for clock, night, day in (
        ((23, 0), True, False),
        ((5, 59), True, False),
        ((12, 0), False, True),
    ):
        now = datetime(2025, 1, 1, *clock)
        assert in_hours("22:00-06:00", now) is night
        assert in_hours("09:00-17:30", now) is day
        assert in_hours(None, now)


@pytest.mark.parametrize(("gres", "expected"), [(None, 0), ("gpu:4", 4), ("gres/gpu:2", 2)])
def test_a_training_counts_the_gpus_of_its_profile(
    settings_file: Path, gres: str | None, expected: int
) -> None:
    text = settings_file.read_text() + '\n[compute]\nbackend = "slurm"\n'
    if gres:
        text += f'[compute.profile.trained_sae]\ngres = "{gres}"\n'
    settings_file.write_text(text)
    assert n_gpus(load_settings(settings_file)) == expected
