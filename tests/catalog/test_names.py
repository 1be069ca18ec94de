"""Names of real nodes: of a network that was trained on MAX, JUND and FOXA1 alone."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd
import pytest

from saeborzoi.catalog.columns import HYPERPARAMETERS
from saeborzoi.catalog.schema import TABLE
from saeborzoi.catalog.tables import make_tables
from saeborzoi.motifs.databases import load_database
from saeborzoi.motifs.matching import match
from saeborzoi.motifs.meme_format import read_meme

NODES = Path(__file__).parents[1] / "motifs" / "data" / "hg38_chr1_nodes.meme"
"""The first motifs of four nodes of an SAE on that network's activations over hg38 chr1."""


@pytest.fixture(scope="module")
def names() -> pd.DataFrame:
    """View `node_name` of those nodes, matched with JASPAR; the index is the node."""
    motifs = pd.DataFrame(
        [
            {"node": int(m.identifier[1:5]), "motif": 1, "matrix": m.matrix.tolist(),
             "n_sites": m.n_sites, "is_significant": True}
            for m in read_meme(NODES)
        ]
    )  # fmt: skip
    matches = match(motifs, [load_database("J", "jaspar:JASPAR2024:CORE:vertebrates")])
    matches[HYPERPARAMETERS.name] = "stem_x4_k0.05_lr0.003_s0"
    with duckdb.connect() as connection:
        make_tables(connection)
        columns = ", ".join(column.name for column in TABLE["motif_match"].columns)
        connection.register("matches", matches)
        connection.execute(f"INSERT INTO motif_match SELECT {columns} FROM matches")
        return connection.execute("FROM node_name").df().set_index("node")


def test_a_node_is_called_by_the_family_that_the_network_was_trained_on(
    names: pd.DataFrame,
) -> None:
    assert names["archetype"].to_dict() == {176: "E-box", 232: "AP-1", 262: "FOX", 276: "CRE"}
    for node, factor in ((176, "MAX"), (232, "JUND"), (262, "FOXA1"), (276, "JUND")):
        assert factor in names.loc[node, "members"]
        # a paralogue wins by a hair
        assert names.loc[node, "target_name"] != factor
    assert names.loc[232, "name"] == "AP-1: FOSL2, FOSB::JUNB, FOSL1::JUNB …"
