"""At its time one backfill makes what is missing, nodes too, and never what is on its way."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from dagster import DagsterRunStatus

from saeborzoi.catalog.scope import PROJECT, Made, Scope
from saeborzoi.errors import SettingsError
from saeborzoi.settings.load import load_settings
from saeborzoi_assets.definitions import build_definitions
from saeborzoi_assets.partitions import HYPERPARAMETERS, Partitions
from saeborzoi_assets.sensors.schedule import NAME, TAG, launch_missing, local_timezone
from saeborzoi_resources.backfills import partitions_under_way
from saeborzoi_resources.platform import Platform
from tests.assets.small_project import KEY, N_NODES, make_small_project
from tests.assets.test_automation import pretend_made

OTHER = KEY.replace("_s0", "_s1")
ALL = 7
"""Steps of an SAE, the comparison not among them."""


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    path = make_small_project(tmp_path / "project")
    text = path.read_text().replace("topk = 0.25", "topk = 0.25\nseed = [0, 1]")
    path.write_text(text + '\n[automation]\nschedule = "0 22 * * *"\n')
    return path


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def _tick(instance: dg.DagsterInstance, settings_file: Path) -> str:
    settings = load_settings(settings_file)
    platform = Platform(settings_file=str(settings_file))
    return launch_missing(instance, platform, Partitions.of(settings), lambda line: None)


def _launched(instance: dg.DagsterInstance) -> list[dict[str, list[str]]]:
    """Asset to partitions of each backfill, oldest first; no partitions of what has none."""
    launches = []
    for backfill in instance.get_backfills()[::-1]:
        target = backfill.asset_backfill_data.target_subset
        launches.append(
            {
                **{
                    key.to_user_string(): sorted(subset.get_partition_keys())
                    for key, subset in target.partitions_subsets_by_asset_key.items()
                },
                **{key.to_user_string(): [] for key in target.non_partitioned_asset_keys},
            }
        )
    return launches


def _one_sae(settings_file: Path) -> None:
    settings_file.write_text(settings_file.read_text().replace("seed = [0, 1]", "seed = 0"))


def _end_all(instance: dg.DagsterInstance) -> None:
    for backfill in instance.get_backfills():
        instance.update_backfill(backfill.with_status(type(backfill.status).COMPLETED_SUCCESS))


def _run(
    instance: dg.DagsterInstance, asset: str, partition: str, status: DagsterRunStatus
) -> None:
    instance.add_run(
        dg.DagsterRun(
            job_name="__ASSET_JOB",
            run_id=str(uuid.uuid4()),
            status=status,
            asset_selection=frozenset({dg.AssetKey(asset)}),
            tags={TAG: NAME, "dagster/partition": partition},
        )
    )


def test_new_saes_become_one_backfill_with_their_nodes(
    settings_file: Path, instance: dg.DagsterInstance
) -> None:
    message = _tick(instance, settings_file)
    (launched,) = _launched(instance)
    assert launched["normalization_constants"] == ["conv"]
    assert launched["trained_sae"] == launched["feature_browser"] == [KEY, OTHER]
    nodes = [f"{key}|n{node:04d}" for key in (KEY, OTHER) for node in range(N_NODES)]
    assert launched["seqlets"] == launched["tomtom_matches"] == nodes
    assert launched["sae_comparison"] == []
    assert instance.get_dynamic_partitions(HYPERPARAMETERS) == [KEY, OTHER]
    (backfill,) = instance.get_backfills()
    assert backfill.backfill_id in message
    assert backfill.tags == {TAG: NAME}, "the interface says that the schedule launched it"
    n = sum(len(keys) or 1 for keys in launched.values())
    for text in (message, backfill.description):
        assert f"{n} partitions of {len(launched)} assets, about " in text
        assert KEY in text
        assert " of disk" in text


def test_what_is_on_its_way_is_not_launched_again(
    settings_file: Path, instance: dg.DagsterInstance
) -> None:
    _tick(instance, settings_file)
    message = _tick(instance, settings_file)
    assert len(_launched(instance)) == 1
    assert message.endswith(f" is making {KEY}, {OTHER}")


def test_neither_is_what_a_person_launched(
    settings_file: Path, instance: dg.DagsterInstance
) -> None:
    pretend_made(settings_file, KEY, 1)
    instance.add_dynamic_partitions(HYPERPARAMETERS, [KEY])
    instance.add_run(
        dg.DagsterRun(
            job_name="__ASSET_JOB",
            run_id=str(uuid.uuid4()),
            status=DagsterRunStatus.STARTED,
            tags={
                "dagster/asset_partition_range_start": f"{KEY}|n0000",
                "dagster/asset_partition_range_end": f"{KEY}|n0003",
            },
        )
    )
    message = _tick(instance, settings_file)
    (launched,) = _launched(instance)
    assert launched["trained_sae"] == [OTHER]
    assert "sae_comparison" not in launched, "it waits for the other SAE"
    assert f" is making {KEY}" in message


def test_only_what_is_missing_and_what_is_made_from_it(
    settings_file: Path, instance: dg.DagsterInstance
) -> None:
    _one_sae(settings_file)
    pretend_made(settings_file, KEY, ALL)
    platform = Platform(settings_file=str(settings_file))
    with duckdb.connect(str(platform.catalog.path)) as connection:
        connection.execute(
            "DELETE FROM materialization WHERE asset = 'meme_motifs' AND owner = ? AND node = 3",
            [KEY],
        )
    _tick(instance, settings_file)
    (launched,) = _launched(instance)
    assert launched["meme_motifs"] == launched["tomtom_matches"] == [f"{KEY}|n0003"]
    assert launched["feature_browser"] == [KEY]
    assert not {"seqlets", "trained_sae", "top_activations"} & set(launched)


def test_a_tick_with_nothing_new_says_so(settings_file: Path, instance: dg.DagsterInstance) -> None:
    _one_sae(settings_file)
    pretend_made(settings_file, KEY, ALL)
    _tick(instance, settings_file)
    assert _launched(instance) == [{"sae_comparison": []}], "the comparison is all that lacks"
    _end_all(instance)
    platform = Platform(settings_file=str(settings_file))
    version = platform.version_of("sae_comparison", PROJECT)
    made = Made("sae_comparison", "run", "1", version.digest, Path("x"))
    platform.catalog.replace(made, Scope(), {})
    assert _tick(instance, settings_file) == "nothing is new: every SAE is complete"


def test_what_keeps_failing_is_left_and_holds_nobody_up(
    settings_file: Path, instance: dg.DagsterInstance
) -> None:
    for key in (KEY, OTHER):
        pretend_made(settings_file, key, 1)
    _run(instance, "trained_sae", KEY, DagsterRunStatus.FAILURE)
    _run(instance, "top_activations", KEY, DagsterRunStatus.FAILURE)
    _tick(instance, settings_file)
    assert _launched(instance)[-1]["trained_sae"] == [KEY, OTHER], "once is no reason to leave it"
    _end_all(instance)
    _run(instance, "trained_sae", KEY, DagsterRunStatus.FAILURE)
    message = _tick(instance, settings_file)
    assert _launched(instance)[-1]["trained_sae"] == [OTHER]
    assert f"{KEY}: training failed 2 times and is left" in message


def test_a_layer_that_may_fail_takes_no_other_layer_s_sae_with_it(
    settings_file: Path, instance: dg.DagsterInstance
) -> None:
    text = settings_file.read_text()
    layer = text[text.index("[[layer]]") : text.index("[[sae]]")]
    other = layer.replace('"conv"', '"other"')
    sae = '[[sae]]\nlayer = "other"\nexpansion = 3\ntopk = 0.25\n'
    settings_file.write_text(text.replace("[[sae]]", f"{other}{sae}[[sae]]", 1))
    _tick(instance, settings_file)
    first, second = _launched(instance)
    assert (first["normalization_constants"], len(first["trained_sae"])) == (["other"], 1)
    assert (second["normalization_constants"], len(second["trained_sae"])) == (["conv"], 2)
    assert not {"sae_comparison"} & {*first, *second}, "the next tick makes it"


def test_the_days_gpu_hours_hold_back_trainings(
    settings_file: Path, instance: dg.DagsterInstance
) -> None:
    settings_file.write_text(settings_file.read_text() + "gpu_hours_per_day = 1e-9\n")
    message = _tick(instance, settings_file)
    (launched,) = _launched(instance)
    assert launched["trained_sae"] == [KEY], "the first is within the budget"
    assert f"of today's 1e-09 are used or launched; {OTHER} waits" in message


def test_a_key_that_no_sae_has_holds_nobody_up(
    settings_file: Path, instance: dg.DagsterInstance
) -> None:
    instance.add_dynamic_partitions(HYPERPARAMETERS, ["foo"])
    message = _tick(instance, settings_file)
    assert _launched(instance)[0]["trained_sae"] == [KEY, OTHER]
    assert "foo" in message


def test_an_sae_wider_than_what_is_loaded_says_what_to_do(
    settings_file: Path, instance: dg.DagsterInstance
) -> None:
    loaded = Partitions.of(load_settings(settings_file))
    text = settings_file.read_text()
    settings_file.write_text(text.replace("expansion = 3", "expansion = [3, 5]"))
    platform = Platform(settings_file=str(settings_file))
    message = launch_missing(instance, platform, loaded, lambda line: None)
    assert _launched(instance)[0]["trained_sae"] == [KEY, OTHER]
    assert "reload them" in message
    assert "node 12 and later of its 20" in message


def test_cancelled_it_is_no_longer_under_way(
    settings_file: Path, instance: dg.DagsterInstance
) -> None:
    _tick(instance, settings_file)
    assert len(partitions_under_way(instance)) == 1
    (backfill,) = instance.get_backfills()
    instance.update_backfill(backfill.with_status(type(backfill.status).CANCELED))
    assert partitions_under_way(instance) == {}


def test_the_schedule_is_one_of_dagster_s(settings_file: Path) -> None:
    repository = build_definitions(settings_file).get_repository_def()
    schedule = repository.get_schedule_def(NAME)
    assert schedule.cron_schedule == "0 22 * * *"
    assert schedule.execution_timezone == local_timezone()
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    sensor = repository.get_sensor_def("materialize_missing")
    assert sensor.default_status is dg.DefaultSensorStatus.STOPPED


def test_nothing_is_launched_that_nobody_asked_for(settings_file: Path) -> None:
    text = settings_file.read_text()
    settings_file.write_text(text[: text.index("[automation]")])
    repository = build_definitions(settings_file).get_repository_def()
    assert not repository.schedule_defs
    running = {
        sensor.name
        for sensor in repository.sensor_defs
        if sensor.default_status is dg.DefaultSensorStatus.RUNNING
    }
    assert running == {
        "register_hyperparameters", "observe_input_files", "compare_results_with_files"
    }  # fmt: skip


def test_a_cron_that_is_none_is_refused(settings_file: Path) -> None:
    settings_file.write_text(settings_file.read_text().replace("0 22 * * *", "0 25 * * *"))
    with pytest.raises(SettingsError, match=r"'0 25 \* \* \*' is no cron; write minute"):
        build_definitions(settings_file)


def test_the_time_zone_is_this_machine_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    assert local_timezone() == "Europe/Berlin"
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0")
    assert local_timezone()
