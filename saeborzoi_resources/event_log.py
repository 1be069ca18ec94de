"""Dagster's event log for runs over thousands of node partitions.

Dagster's SQLite event log writes each event of a batch in transactions of its own, each with a
new database engine: 10 ms of CPU a partition. The one here writes a batch in two transactions,
one for the run's file and one for the index of all runs, as dagster-postgres does in its
database. The files and what stands in them are the same, so that either class reads and goes on
with the other's. Nothing about what the events say belongs here.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy
from dagster import DagsterEventType, EventLogEntry, Field, StringSource
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData

from saeborzoi_resources.partition_status import PartitionStatus

EVENT_DEFAULTS = {
    # events of a step's partitions that go to the event log at once
    "DAGSTER_EVENT_BATCH_SIZE": "1000",
    # a run says once which partitions it is going to make, not once a partition
    "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "true",
}
"""Environment variables by which Dagster knows this; there is no other switch."""

_PAGE_BYTES = 16384
"""Of SQLite's default pages of 4 kB each would hold two events of 1.7 kB and waste the rest."""

_MOST_OPEN = 16
"""Databases that stay open in `kept_open`: the index, and of the runs those that events come of."""

_BATCHED = {
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_OBSERVATION,
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
}
_BATCHED_NAMES = {kind.value for kind in _BATCHED}


def set_event_defaults() -> None:
    """Set `EVENT_DEFAULTS` for this process and those that it starts, where they are not set."""
    for name, value in EVENT_DEFAULTS.items():
        os.environ.setdefault(name, value)


class BatchedSqliteEventLogStorage(PartitionStatus, SqliteEventLogStorage):
    """SQLite event log that writes a batch of events at once.

    Configured in `dagster.yaml` as ``event_log_storage: {module: saeborzoi_resources.event_log,
    class: BatchedSqliteEventLogStorage}``; `base_dir` is `$DAGSTER_HOME/history/runs` unless
    given, where Dagster's own lies too.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        # here, as every process that writes events opens the event log: web server, daemon, runs
        set_event_defaults()
        self.engines: dict[str, sqlalchemy.Engine] | None = None
        self.tables: str | None = None
        self.one_at_a_time = threading.Lock()
        index = Path(base_dir) / f"{INDEX_SHARD_NAME}.db"
        is_new = _make_database(index)
        super().__init__(base_dir, inst_data)
        if is_new:
            # as the base class does for an index that it makes itself: marks it as up to date
            self.reindex_events()
            self.reindex_assets()

    @classmethod
    def config_type(cls) -> Any:
        """`base_dir`, which may be left out."""
        return {"base_dir": Field(StringSource, is_required=False)}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> BatchedSqliteEventLogStorage:
        """The event log of an instance."""
        base_dir = config_value.get("base_dir")
        if base_dir is None:
            home = os.environ.get("DAGSTER_HOME")
            if not home:
                raise ValueError("no place for the event log: set DAGSTER_HOME, or give base_dir")
            base_dir = str(Path(home) / "history" / "runs")
        return cls(base_dir, inst_data)

    def run_connection(self, run_id: str | None = None) -> Any:
        """Connection to a run's own file, which is made where it is missing."""
        if run_id is None:
            raise ValueError("a run's own file needs the run's id")
        _make_database(Path(self.path_for_shard(run_id)))
        return super().run_connection(run_id)

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """While this lasts, databases stay open between events, for a process that runs many steps.

        Dagster opens and closes one for each event, and who closes it last writes its log back to
        the disk and waits for that: 30 ms an event. An event is not lost where this process is
        killed; of a machine that loses its power the last ones may be.
        """
        self.engines = {}
        try:
            yield
        finally:
            with self.one_at_a_time:
                engines, self.engines = self.engines, None
            for engine in engines.values():
                engine.dispose()

    @contextmanager
    def _connect(self, shard: str) -> Iterator[sqlalchemy.Connection]:
        with self.one_at_a_time:
            if self.engines is not None:
                engine = self.engines.pop(shard, None)
                if engine is None:
                    engine = self._engine(shard)
                    with closing(engine.raw_connection()) as pooled:
                        self._make_tables(shard, pooled.driver_connection)
                self.engines[shard] = engine
                if len(self.engines) > _MOST_OPEN:
                    self.engines.pop(next(iter(self.engines))).dispose()
                with engine.connect() as connection, connection.begin():
                    yield connection
                return
        with super()._connect(shard) as connection:
            yield connection

    def _make_tables(self, shard: str, file: Any) -> None:
        """Make the tables of a new file. Dagster looks through its migrations for each, 0.05 s of
        CPU: what it made for one run is made for the next ones by the same statements."""
        is_new = _schema(file) == []
        if is_new and self.tables is not None:
            try:
                file.executescript(self.tables)
                return
            except sqlite3.OperationalError:
                file.rollback()  # another process makes them at this moment
        with super()._connect(shard):
            pass
        if is_new:
            (revision,) = file.execute("SELECT version_num FROM alembic_version").fetchone()
            mark = f"INSERT INTO alembic_version VALUES ('{revision}')"
            self.tables = ";\n".join(["BEGIN IMMEDIATE", *_schema(file), mark, "COMMIT;"])

    def _engine(self, shard: str) -> sqlalchemy.Engine:
        engine = sqlalchemy.create_engine(
            self.conn_string_for_shard(shard),
            poolclass=sqlalchemy.StaticPool,
            connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
        )

        @sqlalchemy.event.listens_for(engine, "connect")
        def without_waiting(connection: sqlite3.Connection, _: object) -> None:
            connection.execute("PRAGMA synchronous = NORMAL")

        return engine

    def get_asset_tags_to_index(self, tag_keys: set[str]) -> set[str]:
        """Only data versions, which staleness hangs on: the key of a partition is in the event,
        and its parts once more for each of its dimensions would be a tenth of what is stored."""
        return super().get_asset_tags_to_index(tag_keys) & {DATA_VERSION_TAG}

    def _event_to_row(self, event: EventLogEntry) -> dict[str, Any]:
        """A row of the table of events, the JSON in it without what says nothing: each event is
        stored twice, and of those with a line of metadata a page holds two more."""
        row = super()._event_to_row(event)
        compact = json.dumps(_without_defaults(json.loads(row["event"])), separators=(",", ":"))
        return {**row, "event": compact}

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events of one run at once, as far as they are about an asset's partitions.

        Other events are stored one by one. Where it fails nothing is stored in the index, and
        Dagster stores the events one by one.
        """
        batch = [event for event in events if event.dagster_event_type in _BATCHED]
        runs = {event.run_id for event in batch}
        if len(runs) != 1:
            super().store_event_batch(events)
            return
        self._store_at_once(runs.pop(), batch)
        super().store_event_batch([e for e in events if e.dagster_event_type not in _BATCHED])

    def _store_at_once(self, run_id: str, events: Sequence[EventLogEntry]) -> None:
        insert = self.prepare_insert_event_batch(events)
        # The index is written last. If that fails, Dagster stores the events again one by one, and
        # as none is in the index yet, each stands there once.
        with self.run_connection(run_id) as connection:
            connection.execute(insert)
        with self.index_transaction() as connection:
            stored = connection.execute(insert.returning(SqlEventLogStorageTable.c.id))
            # rows get rising ids in the order of the statement, but may be returned in another
            ids = sorted(row[0] for row in stored.fetchall())
            self._store_asset_event_tags(connection, events, ids)
            latest = {
                event.get_dagster_event().asset_key: (event, event_id)
                for event, event_id in zip(events, ids, strict=True)
            }
            for event, event_id in latest.values():
                self._store_asset_event(connection, event, event_id)


def _without_defaults(event: dict[str, Any]) -> dict[str, Any]:
    """A partition's event without fields that Dagster reads as the same where they are missing,
    and without what tells loggers once more which step of which run it is of."""
    dagster_event = event.get("dagster_event") or {}
    if dagster_event.get("event_type_value") not in _BATCHED_NAMES:
        return event
    dagster_event.pop("logging_tags", None)
    about = dagster_event["event_specific_data"]
    if about.get("asset_lineage") == []:
        del about["asset_lineage"]
    materialization = about.get("materialization") or about.get("asset_observation")
    for each in [materialization, *materialization["metadata_entries"]] if materialization else []:
        if each.get("description", "") is None:
            del each["description"]
    return event


def _schema(file: Any) -> list[str]:
    """Statements that made the tables and indexes of a file."""
    rows = file.execute(
        "SELECT sql FROM sqlite_master WHERE sql NOT NULL AND name NOT LIKE 'sqlite_%' "
        "ORDER BY rowid"
    ).fetchall()
    return [sql for (sql,) in rows]


def _make_database(path: Path) -> bool:
    """Make an empty SQLite file with pages of `_PAGE_BYTES`; says whether there was none."""
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=SQLITE_BUSY_TIMEOUT_SECONDS)) as connection:
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        # writes the file's head, and with it the size
        connection.execute("PRAGMA journal_mode = WAL")
    return True
