"""Which partitions are made, as Dagster's web server and daemon ask the event log for it.

Dagster keeps, for each asset, the list of the partitions made up to some event: 16 MB of JSON
for 422,400 nodes. This module answers without writing that list out again where nothing has
changed, and takes single partitions out of it. The answers are the same as Dagster's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy
from dagster import AssetKey, DagsterEventType, MultiPartitionsDefinition, PartitionsDefinition
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.definitions.partitions.utils.multi import MULTIPARTITION_KEY_DELIMITER
from dagster._core.loader import LoadingContext
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.base import AssetRecord
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

_OF_PARTITIONS = (
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    DagsterEventType.ASSET_OBSERVATION,
)
_KEYS_AT_ONCE = 500
"""Partition keys in one statement: SQLite takes 999 or more."""


def _valid(partitions_def: MultiPartitionsDefinition, keys: set[str]) -> set[str]:
    """Those of the keys that are defined, found at a fraction of the time of
    `filter_valid_partition_keys`, which makes an object of each: an SAE that is added or removed
    changes the definition, and with it all of 422,400 are looked at."""
    found: tuple[set[str], set[str]] = (set(), set())
    for key in keys:
        first, _, second = key.partition(MULTIPARTITION_KEY_DELIMITER)
        found[0].add(first)
        found[1].add(second)
    # a second part with a delimiter in it is no key of its dimension
    firsts, seconds = (
        dimension.partitions_def.filter_valid_partition_keys(own)
        for dimension, own in zip(partitions_def.partitions_defs, found, strict=True)
    )
    valid = set()
    for key in keys:
        first, _, second = key.partition(MULTIPARTITION_KEY_DELIMITER)
        if first in firsts and second in seconds:
            valid.add(key)
    return valid


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
            made = _valid(partitions_def, self.get_materialized_partitions(key))
            failed, in_progress_now, earliest = build_failed_and_in_progress_partition_subset(
                self._instance, key, partitions_def, last_planned_materialization_storage_id=planned
            )
            status = AssetStatusCacheValue(
                newest,
                definition,
                partitions_def.empty_subset().with_partition_keys(made).serialize(),
                failed.serialize(),
                in_progress_now.serialize(),
                earliest,
            )
        self.update_asset_cached_status_data(key, status)
        return status

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
