"""A node through which variants of a trait act more often than controls do is found."""

from __future__ import annotations

import pandas as pd
import pytest

from saeborzoi.effects.variant_enrichment import node_enrichment


def acting(**nodes: int) -> pd.DataFrame:
    rows = [(f"v{i}", int(node[1:])) for node, n in nodes.items() for i in range(n)]
    return pd.DataFrame(rows, columns=["variant", "node"])


def test_enrichment_of_nodes() -> None:
    enrichment = node_enrichment(acting(n7=80, n3=10), 100, acting(n7=20, n3=10, n5=1), 100)
    assert enrichment["node"].tolist() == [7, 3, 5]
    row = enrichment.iloc[0]
    assert (row["n_variants"], row["n_controls"]) == (80, 20)
    assert row[["odds_ratio", "odds_ratio_low", "odds_ratio_high"]].tolist() == pytest.approx(
        [15.42, 7.77, 30.61], abs=0.01
    )
    assert row["q_value"] < 1e-10
    assert enrichment["q_value"].iloc[1] > 0.5
    # a node that acts on two tracks of a variant counts once
    twice = pd.concat([acting(n7=80)] * 2)
    assert node_enrichment(twice, 100, acting(n7=20), 100)["n_variants"].tolist() == [80]


def test_nothing_acts() -> None:
    assert node_enrichment(acting(), 5, acting(), 5).empty
