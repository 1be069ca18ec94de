"""What names a node, and the names of real ones: of a network that was trained on MAX, JUND and
FOXA1 alone."""

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
from tests.catalog.test_views import Catalogue, motif
from tests.catalog.test_views import match as match_row

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


def test_a_match_that_so_many_motifs_have_by_chance_does_not_count() -> None:
    catalogue = Catalogue()

    def matched(key: str, n_motifs: int, n_strong: int, e_value: float) -> bool:
        e_values = [1e-9] * n_strong + [e_value]
        frame = pd.DataFrame({"node": range(n_motifs)}).assign(
            hyperparameters=key, motif=1, database="J", target_id="id", is_significant=False
        )
        frame["e_value"] = [*e_values, *[5.0] * (n_motifs - len(e_values))]
        frame.loc[:n_strong, "is_significant"] = True
        catalogue.connection.register("frame", frame)
        catalogue.connection.execute("INSERT INTO motif_match BY NAME SELECT * FROM frame")
        nodes = catalogue.view("supported_match").query("hyperparameters == @key")["node"]
        assert set(range(n_strong)) <= set(nodes)
        return n_strong in set(nodes)

    # one of these is expected at less than 0.9, two at less than 2, however many hold for sure
    assert matched("few, below one", 100, 10, 0.009)
    assert not matched("few, two by chance", 100, 10, 0.02)
    # two in three hundred is less than one in a hundred
    assert matched("many", 1000, 300, 0.002)
    assert not matched("many, more by chance", 1000, 300, 0.004)


def test_a_motif_of_fewer_than_half_of_the_seqlets_does_not_name_its_node() -> None:
    catalogue = Catalogue()
    for node, (first, second) in ((30, (39, 41)), (31, (39, 10))):
        catalogue.add("node_selection", {"node": node, "selected": True, "n_seqlets": 80})
        for number, n_sites, factor in ((1, first, "NFKB1"), (2, second, "RFX5")):
            catalogue.add("motif", motif(node, number) | {"n_sites": n_sites})
            catalogue.add("motif_match", match_row(node, number, factor, 1e-9))
            catalogue.add(
                "motif_evidence",
                {"node": node, "motif": number, "is_supported": True, "core_bits": 9.0,
                 "motif_family": 1},
            )  # fmt: skip
    named = catalogue.view("best_match").set_index("node")["target_name"]
    assert named[30] == "RFX5"
    assert 31 not in named
    # what it is like is known all the same, and that it is one of several things
    assert set(catalogue.view("supported_match").query("node == 31")["target_name"]) == {
        "NFKB1", "RFX5"
    }  # fmt: skip
    assert catalogue.view("unmatched_node").set_index("node")["kind"].to_dict()[31] == "mixed"


def test_the_family_of_a_name_has_a_motif_that_is_like_the_node_s() -> None:
    """Which is best by TomTom's p may be a longer matrix that is less like it."""
    catalogue = Catalogue()
    for node, similarities in ((1, (0.73, 0.86)), (2, (0.73, 0.79))):
        for factor, p, similarity in zip(
            ("FOXD3", "FOXC2"), (1e-9, 1e-8), similarities, strict=True
        ):
            fits = {"archetype": "FOX", "similarity": similarity}
            catalogue.add("motif_match", match_row(node, 1, factor, p) | fits)
    named = catalogue.view("best_match").set_index("node")["target_name"]
    assert named.to_dict() == {1: "FOXD3"}
    assert set(catalogue.view("supported_match")["node"]) == {1, 2}
