"""What the clusters of a map are called: something true of their nodes, or why nothing is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from saeborzoi.catalog.schema import TABLE
from saeborzoi.nodes.cluster_labels import cluster_labels, composition, traits_of

N = 80
NO_LABELS = pd.Series(dtype=object)
OVERLAPS = ["node", "annotation_class", "odds_ratio_low", "n_overlapping"]
EVEN = pd.DataFrame({"A-rich": np.tile([0.2, 0.3], N // 2)}, index=range(N))


def embedding() -> pd.DataFrame:
    """80 nodes in four clusters of 20."""
    return pd.DataFrame({"node": range(N), "cluster": [node // 20 for node in range(N)]})


def labelled(
    families: pd.Series = NO_LABELS,
    unmatched: pd.Series = NO_LABELS,
    classes: pd.DataFrame | None = None,
    shares: pd.DataFrame = EVEN,
) -> pd.DataFrame:
    traits = traits_of(
        embedding()["node"],
        families,
        families,
        unmatched,
        pd.DataFrame(columns=OVERLAPS) if classes is None else classes,
    )
    return cluster_labels(embedding(), traits, shares).set_index("cluster")


def test_a_cluster_is_called_by_what_it_is_rich_in_and_not_by_what_every_cluster_has() -> None:
    # zinc fingers are everywhere; the second cluster is rich in GATA though it is not the commonest
    families = pd.Series("zinc finger", index=range(0, N, 2), dtype=object)
    families = pd.concat([families, pd.Series("GATA", index=range(21, 33, 2))])
    labels = labelled(families)
    columns = [c.name for c in TABLE["embedding_cluster"].columns if c.name != "hyperparameters"]
    assert list(labels.reset_index().columns) == columns
    gata = labels.loc[1]
    assert (gata["name"], gata["kind"]) == ("GATA", "family of motifs")
    assert (gata["n_named_nodes"], gata["n_on_map"]) == (6, 6)
    # two families in four clusters are tried
    assert gata["p_value"] == pytest.approx(stats.hypergeom.sf(5, N, 6, 20))
    assert gata["q_value"] == pytest.approx(gata["p_value"] * 2 * 4)
    # half of each other cluster is what half of the map is: true of it, and no more than chance
    assert labels.loc[[0, 2, 3], "name"].tolist() == ["zinc finger"] * 3
    assert (labels.loc[[0, 2, 3], "q_value"] > 0.5).all()
    assert labels["n_nodes"].tolist() == [20] * 4


def test_without_a_family_it_is_a_class_of_annotation_or_a_composition() -> None:
    rows = [(node, "Alu", 2.0, 9) for node in range(12)]
    # odds that may be 1, and a class that none of the seqlets met
    rows += [(node, "exon", 0.9, 9) for node in range(20, 32)]
    rows += [(node, "PLS", 2.0, 0) for node in range(40, 52)]
    shares = EVEN.assign(**{"A-rich": [0.4 if node >= 60 else s for node, s in EVEN.itertuples()]})
    labels = labelled(classes=pd.DataFrame(rows, columns=OVERLAPS), shares=shares)
    assert labels.loc[0, ["name", "n_named_nodes", "n_on_map"]].tolist() == ["Alu", 12, 12]
    assert labels.loc[3, ["name", "kind", "n_named_nodes"]].tolist() == [
        "A-rich", "composition", 20,
    ]  # fmt: skip
    assert (labels.loc[[0, 3], "q_value"] < 1e-5).all()
    # all of the map has no motif: true of each of the others, and said to be no more than chance
    assert labels.loc[[1, 2], "name"].tolist() == ["no motif"] * 2
    assert labels.loc[[1, 2], "q_value"].tolist() == [1, 1]


def test_a_cluster_without_a_label_says_what_comes_nearest() -> None:
    kinds = ["mixed", "unknown", "repeat or composition"]
    unmatched = pd.Series([kinds[node % 3] for node in range(N - 20)], dtype=object)
    families = pd.Series("FOX", index=[0, 1], dtype=object)
    labels = labelled(families, unmatched)
    assert pd.isna(labels.loc[0, "name"])
    assert labels.loc[0, "unnamed_because"].endswith("nearest: FOX, 2 of 20, q = 0.24")
    assert labels.loc[3, "name"] == "no motif"
    assert pd.isna(labels.loc[3, "unnamed_because"])


def test_a_map_of_one_node() -> None:
    one = pd.DataFrame({"node": [7], "cluster": [0]})
    no_overlaps = pd.DataFrame(columns=OVERLAPS)
    traits = traits_of(
        one["node"], pd.Series({7: "FOX"}), pd.Series({7: "FOX"}), NO_LABELS, no_overlaps
    )
    shares = composition(pd.DataFrame({"node": [7], "sequence": ["ACG"]}))
    (row,) = cluster_labels(one, traits, shares).to_dict("records")
    assert (row["name"], row["n_named_nodes"], row["q_value"]) == ("FOX", 1, 1)


def test_composition_is_of_the_letters_that_are_there() -> None:
    seqlets = pd.DataFrame({"node": [1, 1, 2, 3], "sequence": ["ACGN", "CGCG", "TTTT", "NNNN"]})
    shares = composition(seqlets)
    assert shares.loc[1, "GC-rich"] == pytest.approx(6 / 7)
    # not across two seqlets
    assert shares.loc[1, "CpG-rich"] == pytest.approx(3 / 7)
    assert shares.loc[2, ["T-rich", "AT-rich", "CT-rich", "GC-rich"]].tolist() == [1, 1, 1, 0]
    assert shares.loc[3].isna().all()
