"""Families of discovered motifs, clusters of an embedding, and the fan-in over an SAE."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from saeborzoi.motifs.databases import load_database
from saeborzoi.motifs.families import motif_families, node_labels
from saeborzoi.motifs.fan_in import fan_in_evidence, motifs_as_meme
from saeborzoi.motifs.meme_format import parse_meme
from tests.motifs.test_evidence import seqlets_with
from tests.motifs.test_properties import matrix_of


def motif_rows(entries: list[tuple[int, np.ndarray, float]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "node": [node for node, _, _ in entries],
            "motif": 1,
            "consensus": "N",
            "matrix": [matrix.tolist() for _, matrix, _ in entries],
            "n_sites": 400,
            "llr": 1000.0,
            "log10_e_value": [e for _, _, e in entries],
            "is_significant": True,
            "odds_ratio": 9.0,
            "enrichment_p_value": 1e-30,
        }
    )


def test_redundant_nodes_form_one_family() -> None:
    known = load_database("j", "jaspar:JASPAR2024:CORE:vertebrates")
    by_name = {m.name: m.matrix for m in known.motifs}
    ctcf, gata, jun = by_name["CTCF"], by_name["GATA1"], by_name["JUN"]
    others = [m.matrix for m in known.motifs[5:400:13]]
    entries = [(1, ctcf, -900.0), (2, ctcf[2:][::-1, ::-1], -300.0), (3, ctcf[1:-1], -400.0)]
    entries += [(4, gata, -200.0), (5, jun, -100.0)]
    entries += [(10 + i, m, -20.0) for i, m in enumerate(others)]
    families = motif_families(motif_rows(entries)).set_index("node")
    assert families.loc[[1, 2, 3], "motif_family"].nunique() == 1
    assert families.loc[1, "n_family_nodes"] >= 3
    assert families.loc[[1, 4, 5], "motif_family"].nunique() == 3
    assert families.loc[[2, 3], "founder_node"].tolist() == [1, 1]
    assert families.loc[[1, 2, 3], "orientation"].tolist() == ["+", "-", "+"]
    assert families.loc[3, "offset_bp"] == 1
    assert families["motif_family"].min() == 0


def test_no_motif_no_family() -> None:
    assert motif_families(motif_rows([])).empty


def test_a_node_is_labelled_by_its_archetype_or_by_its_family_s_consensus() -> None:
    motifs = pd.DataFrame(
        {"node": [1, 2, 3, 4], "motif": 1, "consensus": ["NGATAN", "NNCACGTGV", "CACGTG", "AAA"]}
    )
    evidence = pd.DataFrame(
        {
            "node": [1, 2, 3, 4], "motif": 1, "motif_family": [1.0, 0.0, 0.0, None],
            "founder_node": [1.0, 2.0, 2.0, None], "founder_motif": [1.0, 1.0, 1.0, None],
        }
    )  # fmt: skip
    matches = pd.DataFrame(
        {
            "node": [1, 1], "motif": 1, "database": "known", "target_id": ["a", "b"],
            "target_name": ["GATA4", "MECOM"], "archetype": ["GATA", "other"],
            "p_value": [1e-9, 1e-5], "is_significant": True,
        }
    )  # fmt: skip
    labels = node_labels(motifs, evidence, matches)
    assert labels.to_dict() == {1: "GATA", 2: "CACGTG", 3: "CACGTG"}


def test_fan_in_supports_what_both_controls_lack() -> None:
    seqlets = pd.concat(
        [seqlets_with("TGATAAGA", 0, 1), seqlets_with("CACGTGAC", 3, 2)]
        + [seqlets_with(None, node, 10 + node) for node in (4, 5)]
    )
    motifs = motif_rows(
        [
            (0, matrix_of("TGATAAGA"), -80.0),
            (3, matrix_of("CACGTGAC"), -90.0),
            (4, matrix_of("CCAATCAG"), -5.0),
        ]
    )
    table = fan_in_evidence(motifs, seqlets, "sae")
    assert table["is_supported"].tolist() == [True, True, False]
    assert table["motif_family"].notna().tolist() == [True, True, False]
    assert len(table) == len(motifs)


def test_motifs_as_a_database() -> None:
    motifs = motif_rows([(3, matrix_of("TGATAAGA"), -80.0), (12, matrix_of("CACGTGAC"), -9.0)])
    again = parse_meme(motifs_as_meme(motifs), "x")
    assert [m.identifier for m in again] == ["n0003_1", "n0012_1"]
    np.testing.assert_allclose(again[0].matrix, matrix_of("TGATAAGA"), atol=1e-5)
    assert again[0].log10_e_value == pytest.approx(-80, abs=0.01)
