"""Results made from other files than there are now are named where people look first."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg
import pytest

from saeborzoi.catalog.scope import Made, Scope
from saeborzoi_assets.assets import input_files
from saeborzoi_assets.definitions import build_definitions
from saeborzoi_assets.sensors import stale_results
from saeborzoi_resources.platform import Platform
from tests.assets.small_project import KEY, make_small_project

CHECK_KEY = dg.AssetCheckKey(dg.AssetKey(input_files.NAME), stale_results.CHECK)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose catalogue says that three assets were made from the files as they are."""
    settings_file = make_small_project(tmp_path / "project")
    _record(settings_file, range(12))
    return settings_file


def _record(settings_file: Path, nodes: range) -> None:
    platform = _platform(settings_file)
    for name, owner, scope in (
        ("normalization_constants", "conv", Scope(layer="conv")),
        ("trained_sae", KEY, Scope(sae_key=KEY)),
        ("seqlets", KEY, Scope(sae_key=KEY, nodes=tuple(nodes))),
    ):
        version = platform.version_of(name, owner)
        made = Made(
            version.asset, "run", "1", version.digest, platform.store.root, version.made_from
        )
        platform.catalog.replace(made, scope, {})


def _change(file: Path) -> None:
    """One bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _platform(settings_file: Path) -> Platform:
    return Platform(settings_file=str(settings_file))


def _look(
    settings_file: Path, instance: dg.DagsterInstance, cursor: str | None
) -> tuple[str | None, bool | None]:
    """Cursor and outcome, None where the sensor has nothing to say."""
    context = dg.build_sensor_context(
        instance, cursor=cursor, resources={"platform": _platform(settings_file)}
    )
    result = stale_results.sensor()(context)
    if isinstance(result, dg.SkipReason):
        return cursor, None
    assert isinstance(result, dg.SensorResult)
    for event in result.asset_events:
        instance.report_runless_asset_event(event)
    summary = instance.event_log_storage.get_asset_check_summary_records([CHECK_KEY])
    record = summary[CHECK_KEY].last_check_execution_record
    assert record is not None
    evaluation = record.event.asset_check_evaluation  # type: ignore[union-attr]
    assert evaluation is not None
    return result.cursor, evaluation.passed


def test_what_was_made_from_changed_files_is_named(project: Path) -> None:
    assert stale_results.stale_results(_platform(project)) == {}
    shard = project.parent / "train" / "activations_0.h5"
    _change(shard)
    assert stale_results.stale_results(_platform(project)) == {
        "normalization_constants": {"conv": 1},
        "trained_sae": {KEY: 1},
    }
    (project.parent / "genome.fa").unlink()
    stale = stale_results.stale_results(_platform(project))
    assert stale["seqlets"] == {KEY: 12}
    result = stale_results.outcome(stale)
    assert not result.passed
    assert result.metadata["seqlets"].value == f"12 partitions, of {KEY}"


def test_touched_files_leave_results_as_they_are(project: Path) -> None:
    for file in project.parent.rglob("*"):
        os.utime(file, (1, 1))
    assert stale_results.stale_results(_platform(project)) == {}


def test_a_part_of_the_nodes_can_be_of_other_files(project: Path) -> None:
    genome = project.parent / "genome.fa"
    _change(genome)
    _record(project, range(3, 5))
    assert stale_results.stale_results(_platform(project)) == {"seqlets": {KEY: 10}}


def test_the_sensor_tells_a_change_once_and_when_it_is_mended(project: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        cursor, passed = _look(project, instance, None)
        assert passed is True
        assert _look(project, instance, cursor) == (cursor, None)
        _change(project.parent / "train" / "activations_0.h5")
        cursor, passed = _look(project, instance, cursor)
        assert passed is False
        assert _look(project, instance, cursor) == (cursor, None)
        _record(project, range(12))
        assert _look(project, instance, cursor)[1] is True


def test_a_project_without_results_has_none_that_are_stale(tmp_path: Path) -> None:
    settings_file = make_small_project(tmp_path / "project")
    assert stale_results.stale_results(_platform(settings_file)) == {}


def test_an_sae_of_a_layer_that_is_gone_is_not_called_stale(project: Path) -> None:
    text = project.read_text().replace('"conv"', '"other"')
    project.write_text(text)
    assert stale_results.stale_results(_platform(project)) == {}


def test_the_check_can_be_executed_by_hand(project: Path) -> None:
    _change(project.parent / "genome.fa")
    job = dg.define_asset_job("look", selection=dg.AssetSelection.checks(CHECK_KEY))
    definitions = dg.Definitions.merge(build_definitions(project), dg.Definitions(jobs=[job]))
    with dg.DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_job_def("look").execute_in_process(instance=instance)
    (evaluation,) = result.get_asset_check_evaluations()
    assert not evaluation.passed
    assert evaluation.severity == dg.AssetCheckSeverity.WARN
