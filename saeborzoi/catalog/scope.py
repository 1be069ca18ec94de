"""Which rows of the catalogue belong together, what made them, and whether they fit a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from saeborzoi.catalog.schema import FORMER_NAMES, TABLE, TABLES
from saeborzoi.errors import CatalogError
from saeborzoi.pipeline import NODE_TABLES
from saeborzoi.settings.hyperparameters import PartitionKey, partition_keys, set_key

if TYPE_CHECKING:
    import pandas as pd

PROJECT = "project"
"""Owner in `materialization` of what belongs to the whole project."""


class Scope(NamedTuple):
    """Which rows belong together: a layer's, an SAE's, those of some nodes of an SAE, of a set of
    variants or of one looked at with an SAE, or, where nothing is given, whole tables."""

    layer: str | None = None
    sae_key: str | None = None
    nodes: tuple[int, ...] | None = None
    variant_set: str | None = None

    @property
    def owner(self) -> str:
        """The layer, SAE or set, as in a partition key; `PROJECT` for whole tables."""
        if self.sae_key is None and self.variant_set is not None:
            return set_key(self.variant_set)
        return self.sae_key or self.layer or PROJECT

    @property
    def partition_keys(self) -> list[PartitionKey]:
        """Partitions of the scope."""
        if self.sae_key is not None and self.variant_set is not None:
            return [PartitionKey(self.sae_key, variant_set=self.variant_set)]
        return partition_keys(self.owner, self.nodes)

    @property
    def columns(self) -> dict[str, str]:
        """Columns that have one value in all of its rows."""
        values = {
            "layer": self.layer, "hyperparameters": self.sae_key, "variant_set": self.variant_set
        }  # fmt: skip
        return {name: value for name, value in values.items() if value is not None}


class Made(NamedTuple):
    """What made the rows: one line of the table `materialization`."""

    asset: str
    run_id: str
    code_version: str
    data_version: str
    artifact: Path
    made_from: Mapping[str, Any] | None = None


def fitted(name: str, frame: pd.DataFrame, scope: Scope) -> pd.DataFrame:
    """The frame with the scope's own column and today's names, refused where it does not fit."""
    whole = frame.rename(columns=FORMER_NAMES.get(name, {})).assign(**scope.columns)
    expected = [column.name for column in TABLE[name].columns]
    missing = sorted(set(expected) - set(whole.columns))
    unknown = sorted(set(whole.columns) - set(expected))
    if missing or unknown:
        raise CatalogError(
            f"table {name}: columns missing {missing}, unknown {unknown}; needed are {expected}"
        )
    if scope.nodes is not None:
        outside = sorted(set(whole["node"]) - set(scope.nodes))
        if outside:
            raise CatalogError(f"table {name}: nodes {outside[:5]} are not of this partition")
    key = list(TABLE[name].key)
    twice = whole.duplicated(key)
    if twice.any():
        first = whole.loc[twice, key].iloc[0].to_dict()
        raise CatalogError(f"table {name}: {int(twice.sum())} rows stand twice, first {first}")
    return whole


def where_of(scope: Scope) -> tuple[str, list[Any]]:
    """SQL condition and parameters for the rows of a scope."""
    conditions = [f"{column} = ?" for column in scope.columns]
    parameters: list[Any] = list(scope.columns.values())
    if scope.nodes is not None:
        conditions.append("list_contains(?, node)")
        parameters.append(list(scope.nodes))
    return " AND ".join(conditions) or "TRUE", parameters


def of_partitions(scope: Scope) -> tuple[str, list[Any]]:
    """SQL condition and parameters for the rows of `materialization` of exactly a scope's
    partitions: those of an SAE's nodes are not the SAE's own."""
    if scope.nodes is None:
        variant_set = scope.partition_keys[0].variant_set
        return (
            "owner = ? AND node IS NULL AND variant_set IS NOT DISTINCT FROM ?",
            [scope.owner, variant_set],
        )
    return (
        "owner = ? AND list_contains(?::INTEGER[], node)",
        [scope.owner, list(map(int, scope.nodes))],
    )


def belonging_to(scopes: Iterable[Scope]) -> dict[str, tuple[str, list[Any]]]:
    """Table to the SQL condition and parameters of the rows that go with layers, SAEs, nodes of
    SAEs or sets of variants when they are removed.

    With nodes go the rows of the assets that have a partition a node; what an asset of the SAE
    says of them belongs to the SAE.
    """
    condition_of_table: dict[str, tuple[str, list[Any]]] = {}
    for scope in scopes:
        for table, condition, parameters in _belonging_to(scope):
            conditions, before = condition_of_table.get(table, ("", []))
            joined = f"{conditions} OR {condition}" if conditions else condition
            condition_of_table[table] = joined, [*before, *parameters]
    return condition_of_table


def _belonging_to(scope: Scope) -> Iterator[tuple[str, str, list[Any]]]:
    table_name = "materialization"
    if scope.sae_key is None and scope.variant_set is not None:
        yield table_name, "(owner = ? OR variant_set = ?)", [scope.owner, scope.variant_set]
        for table in TABLES:
            if "variant_set" in table.key and table.name != table_name:
                yield table.name, "variant_set = ?", [scope.variant_set]
    elif scope.sae_key is None:
        yield table_name, "owner = ?", [scope.layer]
        for table in TABLES:
            if table.key[0] == "layer":
                yield table.name, "layer = ?", [scope.layer]
    elif scope.nodes is None:
        key = scope.sae_key
        yield table_name, "owner = ?", [key]
        for table in TABLES:
            for column in table.key:
                if column.startswith("hyperparameters"):
                    yield table.name, f"{column} = ?", [key]
    else:
        condition, parameters = of_partitions(scope)
        yield table_name, f"({condition})", parameters
        condition, parameters = where_of(scope)
        for name in NODE_TABLES:
            yield name, f"({condition})", parameters
