"""What is said of Dagster's runs in several places: which are under way, what they are about."""

import contextlib
from collections.abc import Iterable, Sequence

import dagster as dg

from saeborzoi.errors import PartitionKeyError
from saeborzoi.settings.hyperparameters import PartitionKey, set_key
from saeborzoi_resources.backfills import partitions_under_way

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
"""States of a run that waits or works."""

RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
"""Dagster's tags of a run over a range of partitions: the first and the last."""


def owners_of(run: dg.DagsterRun, order: Sequence[str]) -> set[str]:
    """Layers, SAEs or sets of variants of a run's partitions.

    Parameters
    ----------
    run
        The run.
    order
        Partition keys of the SAEs as Dagster has them, by which a range of them is meant.
    """
    named = _owners(run.tags[tag] for tag in ("dagster/partition", *RANGE_TAGS) if tag in run.tags)
    places = [order.index(key) for key in named if key in order]
    between = order[min(places) : max(places) + 1] if places else []
    return {*named, *between}


def under_way(instance: dg.DagsterInstance, order: Sequence[str]) -> dict[str, str]:
    """Layers, SAEs and sets of variants of which something is being made or waits to be, each with
    what makes it.

    Parameters
    ----------
    instance
        The project's instance.
    order
        Partition keys of the SAEs as Dagster has them.
    """
    makers = {}
    for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):
        makers.update(dict.fromkeys(owners_of(run, order), f"run {run.run_id[:8]}"))
    for backfill, keys in partitions_under_way(instance).items():
        makers.update(dict.fromkeys(_owners(keys), f"backfill {backfill}"))
    return makers


def _owners(keys: Iterable[str]) -> set[str]:
    """Layers, SAEs and sets of variants of partition keys; a key that somebody typed is of none."""
    owners = set()
    for key in keys:
        with contextlib.suppress(PartitionKeyError):
            parsed = PartitionKey.parse(key)
            owners.add(parsed.owner)
            if parsed.variant_set is not None:
                owners.add(set_key(parsed.variant_set))
    return owners
