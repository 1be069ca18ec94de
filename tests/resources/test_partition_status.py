"""Which partitions are made: the same answer as Dagster's own event logs give, with less work."""

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from saeborzoi_assets.commands.instance import HOME_VARIABLE, ensure_home
from saeborzoi_assets.partitions import HYPERPARAMETERS, NODE
from saeborzoi_resources.event_log import EVENT_DEFAULTS
from saeborzoi_resources.widths import note_widths
from tests.dagster_own import (
    SERIALIZE_SUBSET,
    AssetStatusCacheValue,
    DynamicPartitionsStore,
    LoadingContextForTest,
    SqlEventLogStorage,
    partition_loading_context,
)

KEYS = ("conv1d_1_x4_k0.05_lr0.003_s0", "conv1d_1_x4_k0.05_lr0.003_s1")
N_NODES = 8
NODES = dg.MultiPartitionsDefinition(
    {
        HYPERPARAMETERS: dg.DynamicPartitionsDefinition(name=HYPERPARAMETERS),
        NODE: dg.StaticPartitionsDefinition([f"n{node:04d}" for node in range(N_NODES)]),
    }
)


@dg.asset(
    partitions_def=NODES,
    backfill_policy=dg.BackfillPolicy.single_run(),
    config_schema={"fail": dg.Field(bool, default_value=False)},
)
def made(context: dg.AssetExecutionContext) -> None:
    """An asset over nodes."""
    if context.op_execution_context.op_config["fail"]:
        raise dg.Failure("told to", allow_retries=False)


@pytest.fixture(params=["sqlite", "postgres"])
def instance(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    """An instance as the project configures it, without history."""
    for name in (HOME_VARIABLE, *EVENT_DEFAULTS):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    home = ensure_home(tmp_path)
    if request.param == "postgres":
        pytest.importorskip("dagster_postgres")
        url = os.environ.get("SAEBORZOI_TEST_POSTGRES")
        if not url:
            pytest.skip("needs PostgreSQL: the URL of an empty database in SAEBORZOI_TEST_POSTGRES")
        (home / "dagster.yaml").write_text(
            "telemetry: {enabled: false}\nstorage:\n  custom:\n"
            "    module: saeborzoi_resources.event_log_postgres\n    class: PostgresStorage\n"
            f"    config: {{postgres_url: '{url}'}}\n"
        )
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.wipe()
        for key in instance.get_dynamic_partitions(HYPERPARAMETERS):
            instance.delete_dynamic_partition(HYPERPARAMETERS, key)
        instance.wipe_assets([made.key])
        instance.add_dynamic_partitions(HYPERPARAMETERS, list(KEYS))
        yield instance


def _materialize(
    instance: dg.DagsterInstance, key: str = KEYS[0], first: int = 0, last: int = 4, **config: Any
) -> None:
    dg.materialize(
        [made],
        instance=instance,
        raise_on_error=False,
        run_config={"ops": {"made": {"config": config}}},
        tags={
            "dagster/asset_partition_range_start": f"{key}|n{first:04d}",
            "dagster/asset_partition_range_end": f"{key}|n{last:04d}",
        },
    )


def _status(instance: dg.DagsterInstance) -> AssetStatusCacheValue | None:
    context = LoadingContextForTest(instance)
    storage: Any = instance.event_log_storage
    return storage.get_asset_status_cache_values([(made.key, NODES)], context)[0]  # type: ignore[no-any-return]


def _dagster_s(instance: dg.DagsterInstance) -> AssetStatusCacheValue | None:
    """What Dagster works out from the events alone."""
    context = LoadingContextForTest(instance)
    storage: Any = instance.event_log_storage
    storage.wipe_asset_cached_status(made.key)
    values = SqlEventLogStorage.get_asset_status_cache_values(storage, [(made.key, NODES)], context)
    return values[0]


def _keys(instance: dg.DagsterInstance, serialized: str | None) -> set[str]:
    store: DynamicPartitionsStore = instance
    with partition_loading_context(dynamic_partitions_store=store):
        return set(NODES.deserialize_subset(serialized or "[]").get_partition_keys())


def _require_same(instance: dg.DagsterInstance) -> AssetStatusCacheValue | None:
    first, again = _status(instance), _status(instance)
    assert first == again == _dagster_s(instance)
    return first


def test_the_same_answer_as_dagster_s_whatever_happens(instance: dg.DagsterInstance) -> None:
    assert _require_same(instance) is None
    _materialize(instance)
    status = _require_same(instance)
    assert status is not None
    assert _keys(instance, status.serialized_materialized_partition_subset) == {
        f"{KEYS[0]}|n{node:04d}" for node in range(5)
    }
    _materialize(instance, KEYS[1])
    _require_same(instance)
    _materialize(instance, first=3, last=6, fail=True)
    _require_same(instance)
    instance.add_dynamic_partitions(HYPERPARAMETERS, ["conv1d_1_x8_k0.05_lr0.003_s0"])
    _require_same(instance)
    instance.delete_dynamic_partition(HYPERPARAMETERS, KEYS[1])
    status = _require_same(instance)
    assert status is not None
    assert KEYS[1] not in str(status.serialized_materialized_partition_subset)


def test_nodes_that_fail_or_are_under_way_are_told_as_dagster_tells_them(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS", "false")
    _materialize(instance)
    _materialize(instance, first=3, last=6, fail=True)
    status = _require_same(instance)
    assert status is not None
    assert len(_keys(instance, status.serialized_failed_partition_subset)) == 4
    run = instance.create_run_for_job(
        dg.define_asset_job("job", [made]).resolve(
            asset_graph=dg.Definitions([made]).resolve_asset_graph()
        ),
        tags={
            "dagster/asset_partition_range_start": f"{KEYS[0]}|n0000",
            "dagster/asset_partition_range_end": f"{KEYS[0]}|n0001",
        },
        status=dg.DagsterRunStatus.STARTED,
    )
    status = _require_same(instance)
    assert status is not None
    assert len(_keys(instance, status.serialized_in_progress_partition_subset)) == 2
    instance.report_run_failed(run)
    status = _require_same(instance)
    assert status is not None
    assert not _keys(instance, status.serialized_in_progress_partition_subset)


def test_what_stands_is_not_written_out_again(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    _materialize(instance)
    before = _status(instance)
    written = []
    monkeypatch.setattr(
        SERIALIZE_SUBSET,
        lambda subset: written.append(subset),
    )
    assert _status(instance) == before
    assert written == []


def test_wiped_partitions_show_as_missing_and_can_be_made_again(
    instance: dg.DagsterInstance,
) -> None:
    for key in KEYS:
        _materialize(instance, key)
    _status(instance)
    gone = [f"{KEYS[1]}|n{node:04d}" for node in (2, 4)]
    instance.wipe_asset_partitions(made.key, gone)
    everything = {f"{key}|n{node:04d}" for key in KEYS for node in range(5)}
    status = _require_same(instance)
    assert status is not None
    made_now = _keys(instance, status.serialized_materialized_partition_subset)
    assert made_now == everything - set(gone)
    assert instance.get_materialized_partitions(made.key) == everything - set(gone)
    last = instance.get_latest_materialization_event(made.key)
    assert last is not None
    assert last.get_dagster_event().partition in everything - set(gone)
    _materialize(instance, KEYS[1], 2, 4)
    status = _require_same(instance)
    assert status is not None
    assert _keys(instance, status.serialized_materialized_partition_subset) == everything


def test_wiping_everything_leaves_an_asset_that_was_never_made(
    instance: dg.DagsterInstance,
) -> None:
    _materialize(instance)
    instance.wipe_asset_partitions(made.key, [f"{KEYS[0]}|n{node:04d}" for node in range(N_NODES)])
    assert instance.get_latest_materialization_event(made.key) is None
    assert instance.get_materialized_partitions(made.key) == set()
    storage = instance.event_log_storage
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    assert not storage.get_latest_storage_id_by_partition(made.key, kind)
    assert not storage.get_latest_tags_by_partition(
        made.key, kind, tag_keys=["dagster/data_version"]
    )


def _sets(instance: dg.DagsterInstance) -> tuple[set[str], set[str], set[str]]:
    """Partitions that show as made, failed and under way."""
    status = _status(instance)
    assert status is not None
    made_keys, failed, in_progress = (
        set() if text is None else set(NODES.deserialize_subset(text).get_partition_keys())
        for text in (
            status.serialized_materialized_partition_subset,
            status.serialized_failed_partition_subset,
            status.serialized_in_progress_partition_subset,
        )
    )
    return made_keys, failed, in_progress


def _of_sae(*nodes: int, key: str = KEYS[0]) -> set[str]:
    return {f"{key}|n{node:04d}" for node in nodes}


def test_what_failed_shows_as_failed_until_it_is_made(instance: dg.DagsterInstance) -> None:
    _materialize(instance, last=2)
    _materialize(instance, first=1, last=4, fail=True)
    made_keys, failed, _ = _sets(instance)
    assert failed == _of_sae(1, 2, 3, 4), "its last attempt failed, though 1 and 2 stand"
    assert made_keys >= _of_sae(0)
    _materialize(instance, first=2, last=3)
    _, failed, _ = _sets(instance)
    assert failed == _of_sae(1, 4)
    _materialize(instance, first=0, last=7)
    made_keys, failed, _ = _sets(instance)
    assert (made_keys, failed) == (_of_sae(*range(8)), set())


def test_a_partition_names_the_run_that_failed(instance: dg.DagsterInstance) -> None:
    _materialize(instance, last=2)
    _materialize(instance, first=1, last=1, fail=True)
    _materialize(instance, key=KEYS[1])
    (failed,) = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
    planned = instance.event_log_storage.get_latest_planned_materialization_info
    info = planned(made.key, f"{KEYS[0]}|n0001")
    assert info is not None
    assert info.run_id == failed.run_id
    other = planned(made.key, f"{KEYS[0]}|n0002")
    assert other is not None
    assert other.run_id != failed.run_id
    assert planned(made.key, f"{KEYS[0]}|n0007") is None


def test_what_is_under_way_shows_so(instance: dg.DagsterInstance) -> None:
    run_id = _start(instance, last=3)
    _, failed, in_progress = _sets(instance)
    assert (failed, in_progress) == (set(), _of_sae(0, 1, 2, 3))
    run = instance.get_run_by_id(run_id)
    assert run is not None
    instance.report_run_failed(run)
    _, failed, in_progress = _sets(instance)
    assert (failed, in_progress) == (_of_sae(0, 1, 2, 3), set())


def _start(instance: dg.DagsterInstance, last: int) -> str:
    """A run over nodes that is under way."""
    job = dg.Definitions(assets=[made]).resolve_implicit_global_asset_job_def()
    run = instance.create_run_for_job(
        job,
        asset_selection=frozenset({made.key}),
        status=dg.DagsterRunStatus.STARTED,
        tags={
            "dagster/asset_partition_range_start": f"{KEYS[0]}|n0000",
            "dagster/asset_partition_range_end": f"{KEYS[0]}|n{last:04d}",
        },
    )
    return run.run_id


def test_nodes_that_a_narrow_sae_lacks_are_not_missing(instance: dg.DagsterInstance) -> None:
    note_widths(instance, {KEYS[0]: 5, KEYS[1]: N_NODES})
    _materialize(instance, last=4)
    made_keys, _, _ = _sets(instance)
    assert made_keys == _of_sae(*range(N_NODES)), "5 are made, 3 are none"
    _materialize(instance, key=KEYS[1], last=1)
    made_keys, _, _ = _sets(instance)
    assert made_keys == _of_sae(*range(N_NODES)) | _of_sae(0, 1, key=KEYS[1])


def test_keys_are_taken_apart_as_by_dagster_itself() -> None:
    ours = dg.MultiPartitionsDefinition.get_partition_key_from_str
    (theirs,) = ours.__defaults__ or ()
    assert theirs.__module__.startswith("dagster.")
    by_name_backwards = dg.MultiPartitionsDefinition(
        {name: dg.StaticPartitionsDefinition(["x"]) for name in ("node", "hyperparameters")}
    )
    for definition in (NODES, by_name_backwards):
        for text in (f"{KEYS[0]}|n0003", "|", " é|ü "):
            key, own = ours(definition, text), theirs(definition, text)
            assert (type(key), str(key), key) == (type(own), str(own), own)
            assert key.dimension_keys == own.dimension_keys
            assert key.dimension_keys[0].dimension_name == HYPERPARAMETERS
            assert key.keys_by_dimension == own.keys_by_dimension
            assert pickle.loads(pickle.dumps(key)).dimension_keys == own.dimension_keys
        for wrong in ("no delimiter", "a|b|c", None, 3):
            for take_apart in (ours, theirs):
                with pytest.raises(Exception, match=r"Expected 2 partition keys|is not a str"):
                    take_apart(definition, wrong)  # type: ignore[arg-type]
