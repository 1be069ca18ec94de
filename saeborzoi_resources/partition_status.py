"""Which partitions are made, as Dagster's web server and daemon ask the event log for it.

Dagster keeps, for each asset, the list of the partitions made up to some event: 16 MB of JSON
for 422,400 nodes. Here what stands is not written out again only to find that nothing has changed,
and single partitions can be taken out of the list. What the answers are is Dagster's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy
from dagster import AssetKey, DagsterEventType, PartitionsDefinition
from dagster._core.definitions.partitions.context import partition_loading_context
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
    get_last_planned_storage_id,
)

_OF_PARTITIONS = (
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    DagsterEventType.ASSET_OBSERVATION,
)
_KEYS_AT_ONCE = 500
"""Partition keys in one statement: SQLite takes 999 or more."""


class PartitionStatus(SqlEventLogStorage):
    """To be mixed into an event log over SQL, SQLite's or PostgreSQL's."""

    def get_asset_status_cache_values(
        self,
        partitions_defs_by_key: Iterable[tuple[AssetKey, PartitionsDefinition | None]],
        context: LoadingContext,
    ) -> Sequence[AssetStatusCacheValue | None]:
        """The standing status of each asset where nothing happened since, else Dagster's way."""
        return [
            self._standing(key, partitions_def, context)
            or super(PartitionStatus, self).get_asset_status_cache_values(
                [(key, partitions_def)], context
            )[0]
            for key, partitions_def in partitions_defs_by_key
        ]

    def _standing(
        self, key: AssetKey, partitions_def: PartitionsDefinition | None, context: LoadingContext
    ) -> AssetStatusCacheValue | None:
        """The stored status if it is what Dagster would work out now, None where it may not be.

        It is where no event of the asset came after it, none of its partitions was under way, and
        the partitions are defined as they were.
        """
        record = AssetRecord.blocking_get(context, key)
        stored = record.asset_entry.cached_status if record else None
        if record is None or stored is None or partitions_def is None:
            return None
        newest = max(
            record.asset_entry.last_materialization_storage_id or 0,
            get_last_planned_storage_id(self._instance, key, record),
        )
        if (
            stored.latest_storage_id != newest
            or stored.earliest_in_progress_materialization_event_id is not None
        ):
            return None
        with partition_loading_context(None, self._instance):
            if stored.partitions_def_id != partitions_def.get_serializable_unique_identifier():
                return None
        return stored

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
