"""Which partitions are made, failed or under way, as Dagster's web server and daemon ask for it.

Dagster keeps, for each asset, the list of the partitions made up to some event: 16 MB of JSON
for 422,400 nodes. This module answers without writing that list out again where nothing has
changed, and takes single partitions out of it. A run says once which partitions it is going to
make (`EVENT_DEFAULTS` of `event_log.py`); Dagster's own event logs do not look into that event and
never find one of them failed or under way: here they are. Nodes that a narrow SAE does not have
count as made, else a finished sweep would never look finished. The other answers are Dagster's own.

A process that has such an event log takes keys of two dimensions apart without Dagster's checks of
each part: the partition page does so with every key.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy
from dagster import (
    AssetKey,
    DagsterEventType,
    DagsterRunStatus,
    EventLogEntry,
    MultiPartitionKey,
    MultiPartitionsDefinition,
    PartitionsDefinition,
    RunsFilter,
)
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.definitions.partitions.utils.multi import (
    MULTIPARTITION_KEY_DELIMITER,
    PartitionDimensionKey,
)
from dagster._core.loader import LoadingContext
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.base import AssetRecord, PlannedMaterializationInfo
from dagster._core.storage.event_log.schema import (
    AssetEventTagsTable,
    AssetKeyTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.partition_status_cache import (
    AssetStatusCacheValue,
    build_failed_and_in_progress_partition_subset,
    get_last_planned_storage_id,
)
from dagster._serdes import deserialize_value

from saeborzoi_resources.widths import noted_widths

_OF_PARTITIONS = (
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    DagsterEventType.ASSET_OBSERVATION,
)
_KEYS_AT_ONCE = 500
"""Partition keys in one statement: SQLite takes 999 or more."""


def _taken_apart(
    partitions_def: MultiPartitionsDefinition,
    partition_key_str: str,
    dagster_s_own: Callable[
        [MultiPartitionsDefinition, str], MultiPartitionKey
    ] = MultiPartitionsDefinition.get_partition_key_from_str,
) -> MultiPartitionKey:
    """The key of a text, at a fraction of the time that Dagster takes, which checks the type of
    each part several times. What is no key of two dimensions is left to Dagster."""
    dimensions = partitions_def.partitions_defs
    if len(dimensions) != 2 or not isinstance(partition_key_str, str):
        return dagster_s_own(partitions_def, partition_key_str)
    first, delimiter, second = partition_key_str.partition(MULTIPARTITION_KEY_DELIMITER)
    if not delimiter or MULTIPARTITION_KEY_DELIMITER in second:
        return dagster_s_own(partitions_def, partition_key_str)
    key = str.__new__(MultiPartitionKey, partition_key_str)
    make = tuple.__new__
    key.dimension_keys = [
        make(PartitionDimensionKey, (dimensions[0].name, first)),
        make(PartitionDimensionKey, (dimensions[1].name, second)),
    ]
    return key


# the partition page asks Dagster's own definitions in Dagster's web server: no object of ours there
MultiPartitionsDefinition.get_partition_key_from_str = _taken_apart  # type: ignore[method-assign, assignment]


def _valid(partitions_def: MultiPartitionsDefinition, keys: set[str]) -> set[str]:
    """Those of the keys that are defined, found at a fraction of the time of
    `filter_valid_partition_keys`, which makes an object of each: an SAE that is added or removed
    changes the definition, and with it all of 422,400 are looked at."""
    keys_of_dimensions: tuple[set[str], set[str]] = (set(), set())
    for key in keys:
        first, _, second = key.partition(MULTIPARTITION_KEY_DELIMITER)
        keys_of_dimensions[0].add(first)
        keys_of_dimensions[1].add(second)
    # a second part with a delimiter in it is no key of its dimension
    firsts, seconds = (
        dimension.partitions_def.filter_valid_partition_keys(dimension_keys)
        for dimension, dimension_keys in zip(
            partitions_def.partitions_defs, keys_of_dimensions, strict=True
        )
    )
    valid = set()
    for key in keys:
        first, _, second = key.partition(MULTIPARTITION_KEY_DELIMITER)
        if first in firsts and second in seconds:
            valid.add(key)
    return valid


def _none(partitions_def: MultiPartitionsDefinition, widths: Mapping[str, int]) -> set[str]:
    """Keys of nodes that their SAE does not have."""
    if [each.name for each in partitions_def.partitions_defs][1:] != ["node"]:
        return set()
    saes, nodes = (
        each.partitions_def.get_partition_keys() for each in partitions_def.partitions_defs
    )
    return {
        f"{sae}{MULTIPARTITION_KEY_DELIMITER}{node}"
        for sae in saes
        if sae in widths
        for node in nodes[widths[sae] :]
    }


class PartitionStatus(SqlEventLogStorage):
    """To be mixed into an event log over SQL, SQLite's or PostgreSQL's."""

    def get_asset_status_cache_values(
        self,
        partitions_defs_by_key: Iterable[tuple[AssetKey, PartitionsDefinition | None]],
        context: LoadingContext,
    ) -> Sequence[AssetStatusCacheValue | None]:
        """The standing status of each asset where nothing happened since, a new one where its
        partitions are not defined as they were, else Dagster's way."""
        return [
            self._status(key, partitions_def, context)
            or super(PartitionStatus, self).get_asset_status_cache_values(
                [(key, partitions_def)], context
            )[0]
            for key, partitions_def in partitions_defs_by_key
        ]

    def _status(
        self, key: AssetKey, partitions_def: PartitionsDefinition | None, context: LoadingContext
    ) -> AssetStatusCacheValue | None:
        """What Dagster would work out, None where that is left to Dagster."""
        record = AssetRecord.blocking_get(context, key)
        if record is None or not isinstance(partitions_def, MultiPartitionsDefinition):
            return None
        stored = record.asset_entry.cached_status
        planned = get_last_planned_storage_id(self._instance, key, record)
        newest = max(record.asset_entry.last_materialization_storage_id or 0, planned)
        with partition_loading_context(None, self._instance):
            definition = partitions_def.get_serializable_unique_identifier()
            if stored and stored.partitions_def_id == definition:
                in_progress = stored.earliest_in_progress_materialization_event_id is not None
                return stored if stored.latest_storage_id == newest and not in_progress else None
            if not newest:
                return None
            made_keys = _valid(partitions_def, self.get_materialized_partitions(key))
            made_keys |= _none(partitions_def, noted_widths(self._instance))
            failed, in_progress_now, earliest = build_failed_and_in_progress_partition_subset(
                self._instance, key, partitions_def, last_planned_materialization_storage_id=planned
            )
            status = AssetStatusCacheValue(
                newest,
                definition,
                partitions_def.empty_subset().with_partition_keys(made_keys).serialize(),
                failed.serialize(),
                in_progress_now.serialize(),
                earliest,
            )
        self.update_asset_cached_status_data(key, status)
        return status

    def get_latest_asset_partition_materialization_attempts_without_materializations(
        self, asset_key: AssetKey, after_storage_id: int | None = None
    ) -> Mapping[str, tuple[str, int]]:
        """Partitions whose last attempt made nothing: its run and the id of the event that
        announced it."""
        latest_attempts = dict(
            super().get_latest_asset_partition_materialization_attempts_without_materializations(
                asset_key, after_storage_id
            )
        )
        event = SqlEventLogStorageTable.c
        announced = self._announced(asset_key, event.id > (after_storage_id or 0))
        if not announced:
            return latest_attempts
        runs = self._instance.get_runs(RunsFilter(run_ids=sorted({run for _, run in announced})))
        successful = {run.run_id for run in runs if run.status is DagsterRunStatus.SUCCESS}
        first = min((i for i, run in announced if run not in successful), default=None)
        if first is None:
            return latest_attempts
        attempts: dict[str, tuple[str, int]] = {}
        # later successes, too: they are the last attempts of what they made
        for event_id, run_id, keys in self._announcements(asset_key, event.id >= first):
            attempts.update(dict.fromkeys(keys, (run_id, event_id)))
        with self.index_connection() as connection:
            rows = connection.execute(
                sqlalchemy.select(event.partition, sqlalchemy.func.max(event.id))
                .where(
                    event.asset_key == asset_key.to_string(),
                    event.dagster_event_type == DagsterEventType.ASSET_MATERIALIZATION.value,
                    event.partition.is_not(None),
                    event.id > first,
                )
                .group_by(event.partition)
            ).fetchall()
        made_at = {str(row[0]): int(row[1]) for row in rows}
        for key, (run_id, event_id) in attempts.items():
            is_latest = event_id > latest_attempts.get(key, ("", 0))[1]
            if is_latest and made_at.get(key, 0) < event_id and run_id not in successful:
                latest_attempts[key] = run_id, event_id
            elif is_latest:
                latest_attempts.pop(key, None)
        return latest_attempts

    def get_latest_planned_materialization_info(
        self, asset_key: AssetKey, partition: str | None = None
    ) -> PlannedMaterializationInfo | None:
        """The last attempt to make an asset, or one of its partitions."""
        latest = super().get_latest_planned_materialization_info(asset_key, partition)
        if partition is None:
            return latest
        event = SqlEventLogStorageTable.c
        # most events of other partitions are left out by their text
        names_it = sqlalchemy.or_(
            event.event.contains(json.dumps(partition)[1:-1], autoescape=True),
            ~event.event.contains('"DefaultPartitionsSubset"'),
        )
        newer = sqlalchemy.and_(event.id > (latest.storage_id if latest else 0), names_it)
        for event_id, run_id, keys in self._announcements(asset_key, newer):
            if partition in keys:
                latest = PlannedMaterializationInfo(storage_id=event_id, run_id=run_id)
        return latest

    def _announced(self, asset_key: AssetKey, where: Any) -> list[tuple[int, str]]:
        """Id and run of the events that announce many partitions at once, oldest first."""
        event = SqlEventLogStorageTable.c
        query = (
            sqlalchemy.select(event.id, event.run_id)
            .where(self._of_announcements(asset_key), where)
            .order_by(event.id)
        )
        with self.index_connection() as connection:
            return [(int(row[0]), str(row[1])) for row in connection.execute(query)]

    def _announcements(
        self, asset_key: AssetKey, where: Any
    ) -> Iterator[tuple[int, str, frozenset[str]]]:
        """The same with the partitions that each announces."""
        event = SqlEventLogStorageTable.c
        query = (
            sqlalchemy.select(event.id, event.run_id, event.event)
            .where(self._of_announcements(asset_key), where)
            .order_by(event.id)
        )
        with (
            partition_loading_context(None, self._instance),
            self.index_connection() as connection,
        ):
            for event_id, run_id, text in connection.execute(query):
                planned = deserialize_value(text, EventLogEntry).get_dagster_event()
                subset = planned.asset_materialization_planned_data.partitions_subset
                if subset is not None:
                    keys = frozenset(map(str, subset.get_partition_keys()))
                    yield int(event_id), str(run_id), keys

    @staticmethod
    def _of_announcements(asset_key: AssetKey) -> Any:
        event = SqlEventLogStorageTable.c
        return sqlalchemy.and_(
            event.asset_key == asset_key.to_string(),
            event.dagster_event_type == DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value,
            event.partition.is_(None),
        )

    def forget_statuses(self) -> None:
        """Have the status of every asset worked out anew, as where an SAE's width is told."""
        with self.index_transaction() as connection:
            connection.execute(AssetKeyTable.update().values(cached_status_data=None))

    def wipe_asset_partitions(self, asset_key: AssetKey, partition_keys: Sequence[str]) -> None:
        """Forget that partitions of an asset were made, so that they show as missing.

        Dagster calls it to wipe partitions, in the interface, too; its own event logs over SQL
        refuse. In SQLite the log of the run that made them goes on telling of it.
        """
        name, keys = asset_key.to_string(), list(partition_keys)
        event = SqlEventLogStorageTable.c
        latest = self.get_latest_materialization_events([asset_key]).get(asset_key)
        changed: dict[str, Any] = {"cached_status_data": None}
        if latest and latest.get_dagster_event().partition in set(keys):
            # Dagster looks for the last of those that stand where none is noted
            changed["last_materialization"] = None
        with self.index_transaction() as connection:
            for first in range(0, len(keys), _KEYS_AT_ONCE):
                of_partitions = sqlalchemy.and_(
                    event.asset_key == name,
                    event.dagster_event_type.in_([kind.value for kind in _OF_PARTITIONS]),
                    event.partition.in_(keys[first : first + _KEYS_AT_ONCE]),
                )
                ids = sqlalchemy.select(event.id).where(of_partitions)
                connection.execute(
                    AssetEventTagsTable.delete().where(AssetEventTagsTable.c.event_id.in_(ids))
                )
                connection.execute(SqlEventLogStorageTable.delete().where(of_partitions))
            connection.execute(
                AssetKeyTable.update().where(AssetKeyTable.c.asset_key == name).values(**changed)
            )
