"""What a run over thousands of node partitions leaves in the event log, and in how few writes."""

import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterEventType

from saeborzoi_assets.commands.instance import ensure_home
from saeborzoi_assets.common import run_result
from saeborzoi_assets.partitions import HYPERPARAMETERS, NODE
from saeborzoi_assets.shown import check
from saeborzoi_resources.event_log import EVENT_DEFAULTS, BatchedSqliteEventLogStorage
from tests.dagster_own import SqliteEventLogStorage, create_engine, sqlite_event_log

KEY = "conv1d_1_x4_k0.05_lr0.003_s0"
N_NODES = 60
NODES = dg.MultiPartitionsDefinition(
    {
        HYPERPARAMETERS: dg.DynamicPartitionsDefinition(name=HYPERPARAMETERS),
        NODE: dg.StaticPartitionsDefinition([f"n{node:04d}" for node in range(N_NODES)]),
    }
)


@dg.asset(
    partitions_def=NODES,
    backfill_policy=dg.BackfillPolicy.single_run(),
    code_version="7",
    check_specs=[dg.AssetCheckSpec("all_there", asset="made")],
)
def made(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """An asset over nodes as the project's are."""
    n = len(context.partition_keys)
    figures = {str(key): {"state": f"motif of {key}", "more": 1} for key in context.partition_keys}
    checks = [check("all_there", n == N_NODES, n=n)]
    return run_result(context, ["v1"], {"n_nodes": n}, figures, checks)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DAGSTER_HOME", *EVENT_DEFAULTS):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return ensure_home(tmp_path)


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.add_dynamic_partitions(HYPERPARAMETERS, [KEY])
        yield instance


def _materialize(instance: dg.DagsterInstance, n: int = N_NODES) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [made],
        instance=instance,
        tags={
            "dagster/asset_partition_range_start": f"{KEY}|n0000",
            "dagster/asset_partition_range_end": f"{KEY}|n{n - 1:04d}",
        },
    )


def _materializations(instance: dg.DagsterInstance, n: int = 1000) -> list[dg.EventLogRecord]:
    return list(instance.fetch_materializations(made.key, limit=n).records)


def test_each_node_gets_its_materialization_once(instance: dg.DagsterInstance) -> None:
    run = _materialize(instance)
    assert run.success
    records = _materializations(instance)
    keys = [f"{KEY}|n{node:04d}" for node in range(N_NODES)]
    assert sorted(str(record.partition_key) for record in records) == keys
    for record in records:
        tags = record.asset_materialization.tags  # type: ignore[union-attr]
        assert tags["dagster/data_version"] == "v1"
        assert tags["dagster/code_version"] == "7"
        assert tags["dagster/partition/node"] == str(record.partition_key)[-5:]
    storage = instance.event_log_storage
    assert storage.get_materialized_partitions(made.key) == set(keys)
    # the ids that a partition's data version hangs on are those of its own event
    by_id = {record.storage_id: str(record.partition_key) for record in records}
    latest = storage.get_latest_storage_id_by_partition(
        made.key, DagsterEventType.ASSET_MATERIALIZATION
    )
    assert {by_id[i]: i for i in by_id} == latest
    versions = storage.get_latest_tags_by_partition(
        made.key, DagsterEventType.ASSET_MATERIALIZATION, tag_keys=["dagster/data_version"]
    )
    assert versions == {key: {"dagster/data_version": "v1"} for key in keys}


def test_each_node_says_what_came_of_it(instance: dg.DagsterInstance) -> None:
    _materialize(instance)
    for record in _materializations(instance):
        made_of_it = record.asset_materialization
        assert made_of_it is not None
        node = int(str(record.partition_key)[-4:])
        assert {name: value.value for name, value in made_of_it.metadata.items()} == {
            "node": f"motif of {record.partition_key}, more 1",
            "page": f"/pages/{KEY}/index.html#node={node}",
        }


def test_saying_so_takes_no_list_of_all_nodes_for_each(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = []
    in_range = dg.MultiPartitionsDefinition.get_partition_keys_in_range

    def counted(*args: Any, **kwargs: Any) -> Any:
        listed.append(args)
        return in_range(*args, **kwargs)

    monkeypatch.setattr(dg.MultiPartitionsDefinition, "get_partition_keys_in_range", counted)
    _materialize(instance, 25)
    few = len(listed)
    listed.clear()
    _materialize(instance, N_NODES)
    assert len(listed) == few


def test_the_run_s_own_log_shows_every_materialization(instance: dg.DagsterInstance) -> None:
    run = _materialize(instance)
    connection = instance.get_records_for_run(
        run.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION
    )
    assert len(connection.records) == N_NODES
    summaries = instance.event_log_storage.get_asset_check_summary_records(
        [dg.AssetCheckKey(made.key, "all_there")]
    )
    assert next(iter(summaries.values())).last_check_execution_record is not None


def test_the_asset_s_last_materialization_is_the_last_of_the_batch(
    instance: dg.DagsterInstance,
) -> None:
    run = _materialize(instance)
    newest = max(_materializations(instance), key=lambda record: record.storage_id)
    (record,) = instance.get_asset_records([made.key])
    assert record.asset_entry.last_materialization_storage_id == newest.storage_id
    assert record.asset_entry.last_run_id == run.run_id


def test_a_run_plans_its_partitions_in_one_event(instance: dg.DagsterInstance) -> None:
    run = _materialize(instance)
    planned = instance.get_records_for_run(
        run.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    ).records
    (event,) = [record.event_log_entry.get_dagster_event() for record in planned]
    subset = event.asset_materialization_planned_data.partitions_subset
    assert subset is not None
    assert len(list(subset.get_partition_keys())) == N_NODES


def test_marks_of_single_nodes_can_be_asked_for(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS", "false")
    run = _materialize(instance)
    planned = instance.get_records_for_run(
        run.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    ).records
    assert len({record.partition_key for record in planned}) == N_NODES
    storage = instance.event_log_storage
    assert not storage.get_latest_asset_partition_materialization_attempts_without_materializations(
        made.key
    )


@pytest.mark.parametrize("in_one_event", ["true", "false"])
def test_nodes_cost_no_connections_of_their_own(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, in_one_event: str
) -> None:
    monkeypatch.setenv("DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS", in_one_event)
    engines: list[Any] = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        engines.append(args)
        return create_engine(*args, **kwargs)

    monkeypatch.setattr(sqlite_event_log, "create_engine", counted)
    _materialize(instance, 10)
    few = len(engines)
    assert few > 0
    engines.clear()
    _materialize(instance, N_NODES)
    assert len(engines) == few


def test_dagster_s_own_event_log_reads_and_continues_the_same_files(
    instance: dg.DagsterInstance, home: Path
) -> None:
    run = _materialize(instance)
    plain = SqliteEventLogStorage(str(home / "history" / "runs"))
    assert len(plain.get_materialized_partitions(made.key)) == N_NODES
    assert len(plain.get_logs_for_run(run.run_id)) == len(instance.all_logs(run.run_id))


def test_kept_open_an_event_costs_no_connection_and_is_there_for_others_at_once(
    instance: dg.DagsterInstance, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _materialize(instance)
    plain = SqliteEventLogStorage(str(home / "history" / "runs"))
    storage = instance.event_log_storage
    assert isinstance(storage, BatchedSqliteEventLogStorage)
    event = instance.all_logs(run.run_id)[0]
    n_before = len(plain.get_logs_for_run(run.run_id))
    opened = []
    connect = sqlite3.connect

    def counted(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        opened.append(args)
        return connect(*args, **kwargs)

    monkeypatch.setattr(sqlite3, "connect", counted)
    with storage.kept_open():
        for _ in range(20):
            storage.store_event(event)
        assert len(opened) <= 2  # the run's file, and the index
        assert len(plain.get_logs_for_run(run.run_id)) == n_before + 20
        for i in range(20):  # of many runs the last ones stay open
            storage.store_event(event._replace(run_id=f"run{i}"))
            assert len(storage.get_logs_for_run(run.run_id)) == n_before + 20
    assert sorted(path.suffix for path in (home / "history" / "runs").iterdir()) == [".db"] * 22
    assert all(len(plain.get_logs_for_run(f"run{i}")) == 1 for i in range(20))
    plain.store_event(event._replace(run_id="by Dagster"))
    assert _made_of(home, "run19") == _made_of(home, "run0") == _made_of(home, "by Dagster")


def _made_of(home: Path, run_id: str) -> list[Any]:
    """Tables and indexes of a run's file, and the revision that it is of."""
    with closing(sqlite3.connect(home / "history" / "runs" / f"{run_id}.db")) as file:
        made = file.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
        return [*made, file.execute("SELECT * FROM alembic_version").fetchall()]


def test_a_batch_that_fails_is_stored_event_by_event(
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(
        "saeborzoi_resources.event_log.BatchedSqliteEventLogStorage.prepare_insert_event_batch",
        fail,
    )
    assert _materialize(instance).success
    assert "Falling back" in capsys.readouterr().err
    assert len(_materializations(instance)) == N_NODES


def test_runs_that_write_at_once_lose_nothing(instance: dg.DagsterInstance, home: Path) -> None:
    run = _materialize(instance)
    entries = [
        record.event_log_entry
        for record in instance.get_records_for_run(
            run.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION
        ).records
    ]
    n_runs, n_batches = 6, 5

    def write(i: int) -> None:
        storage = BatchedSqliteEventLogStorage(str(home / "history" / "runs"))
        for _ in range(n_batches):
            storage.store_event_batch([e._replace(run_id=f"run{i}") for e in entries])

    with ThreadPoolExecutor(n_runs) as pool:
        list(pool.map(write, range(n_runs)))
    records = [r for r in _materializations(instance, 10_000) if r.run_id.startswith("run")]
    per_run = Counter(record.run_id for record in records)
    assert per_run == {f"run{i}": n_batches * N_NODES for i in range(n_runs)}


def test_what_the_user_set_stays(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "7")
    with dg.DagsterInstance.from_config(str(home)):
        assert os.environ["DAGSTER_EVENT_BATCH_SIZE"] == "7"


def test_a_node_takes_no_more_room_than_is_published(
    instance: dg.DagsterInstance, home: Path
) -> None:
    """With all that its partition says no more than the 1,521 bytes of the first release, which
    made 5 kB of its three assets; told by the events, as few nodes half fill a page."""
    _materialize(instance)
    index = home / "history" / "runs" / "index.db"
    with sqlite3.connect(index) as connection:
        sizes = connection.execute(
            "SELECT length(event), instr(event, 'logging_tags') FROM event_logs "
            "WHERE dagster_event_type = 'ASSET_MATERIALIZATION'"
        ).fetchall()
    assert len(sizes) == N_NODES
    assert max(size for size, _ in sizes) < 1500
    assert not any(place for _, place in sizes), "what tells loggers is not stored"


def test_what_is_stored_is_read_as_it_was(instance: dg.DagsterInstance) -> None:
    """Though fields that say nothing are left out."""
    run = _materialize(instance)
    reported = [e for e in run.all_events if e.event_type is DagsterEventType.ASSET_MATERIALIZATION]
    read = instance.get_records_for_run(
        run.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION
    ).records
    stored = [record.event_log_entry.get_dagster_event() for record in read]
    assert [e.event_specific_data for e in stored] == [e.event_specific_data for e in reported]
