"""Dagster's backfills over partitions of several assets: launching one, and which are under way.

A schedule can request runs, no backfill. A backfill is a row of the instance, which the daemon
works on; here it is written as the web interface writes it. A part of the door to Dagster's inside.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.execution.backfill import (
    BulkActionsFilter,
    BulkActionStatus,
    PartitionBackfill,
)
from dagster._core.utils import make_new_backfill_id

_UNDER_WAY = [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING]


def launch_backfill(
    instance: dg.DagsterInstance,
    partitions: Mapping[str, tuple[dg.PartitionsDefinition | None, Collection[str]]],
    *,
    tags: Mapping[str, str],
    title: str,
    description: str,
) -> str:
    """Write a backfill for the daemon to work on.

    Parameters
    ----------
    instance
        The project's instance.
    partitions
        Asset to its partitions' definition and the keys to make; None and no keys for an asset
        without partitions.
    tags
        Of the backfill and each of its runs.
    title, description
        What the interface shows.

    Returns
    -------
    The backfill's id.
    """
    subsets = {
        dg.AssetKey(asset): definition.empty_subset().with_partition_keys(keys)
        for asset, (definition, keys) in partitions.items()
        if definition is not None
    }
    whole = {dg.AssetKey(asset) for asset, (definition, _) in partitions.items() if not definition}
    backfill = PartitionBackfill.from_asset_graph_subset(
        backfill_id=make_new_backfill_id(),
        backfill_timestamp=time.time(),
        tags=tags,
        dynamic_partitions_store=instance,
        asset_graph_subset=AssetGraphSubset(subsets, whole),  # type: ignore[call-arg]
        title=title,
        description=description,
        run_config=None,
    )
    instance.add_backfill(backfill)
    return backfill.backfill_id


def partitions_under_way(instance: dg.DagsterInstance) -> dict[str, set[str]]:
    """Partition keys that backfills under way are to make, whoever launched them, by backfill."""
    keys_by_backfill: dict[str, set[str]] = {}
    for backfill in instance.get_backfills(filters=BulkActionsFilter(statuses=_UNDER_WAY)):
        keys = set(backfill.partition_names or ())
        if backfill.asset_backfill_data is not None:
            target = backfill.asset_backfill_data.target_subset
            for subset in target.partitions_subsets_by_asset_key.values():
                keys |= set(subset.get_partition_keys())
        keys_by_backfill[backfill.backfill_id] = keys
    return keys_by_backfill
