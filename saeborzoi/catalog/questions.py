"""Questions to the catalogue that automation, cleaning and freshness each ask in one place."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.scope import PROJECT
from saeborzoi.pipeline import MAKER

if TYPE_CHECKING:
    import pandas as pd


def resting_on(catalog: Catalog, assets: Iterable[str], sae_key: str) -> list[str]:
    """Results of an SAE or the whole project that were made from some assets' partitions of
    it, directly or not."""
    results = catalog.frame(
        "SELECT asset, json_keys(made_from, '$.inputs') AS inputs FROM materialization "
        "WHERE list_contains(?, owner) AND node IS NULL",
        [[sae_key, PROJECT]],
    )
    inputs = {
        row.asset: set(() if row.inputs is None else row.inputs) for row in results.itertuples()
    }
    touched = set(assets)
    while more := {name for name, made_from in inputs.items() if made_from & touched} - touched:
        touched |= more
    return sorted(touched & set(inputs))


def files_made_from(catalog: Catalog) -> pd.DataFrame:
    """Fingerprint of the user's files that standing rows were made from, where they were: a
    row for each asset, owner, variant_set and fingerprint, with n_partitions."""
    return catalog.frame(
        "SELECT asset, owner, variant_set, files, sum(n)::BIGINT AS n_partitions FROM (SELECT "
        "asset, owner, variant_set, count(*) AS n, any_value(made_from)->>'$.files' AS files "
        "FROM materialization GROUP BY asset, owner, variant_set, data_version) "
        "WHERE files IS NOT NULL GROUP BY ALL ORDER BY ALL"
    )


def training_hours_since(catalog: Catalog, moment: datetime) -> float:
    """Hours that the trainings took that were catalogued since a moment."""
    if not catalog.path.exists():
        return 0.0
    training_hours = catalog.frame(
        "SELECT coalesce(sum(training_s), 0) / 3600 AS hours FROM sae "
        "JOIN materialization ON asset = ? AND owner = hyperparameters "
        "WHERE made_at >= ?",
        [MAKER["sae"], moment],
    )
    return float(training_hours["hours"].iloc[0])


def versions_by_owner(catalog: Catalog, asset: str) -> dict[str, dict[str, int]]:
    """Layer or SAE to the data versions of an asset's standing rows, and how many partitions
    have each."""
    if not catalog.path.exists():
        return {}
    counts = catalog.frame(
        "SELECT owner, data_version, count(*) AS n "
        "FROM materialization WHERE asset = ? GROUP BY ALL ORDER BY ALL",
        [asset],
    )
    versions: dict[str, dict[str, int]] = {}
    for owner, version, n in counts.itertuples(index=False):
        versions.setdefault(owner, {})[version] = int(n)
    return versions
