"""The map of nodes: the same on every run, groups stay together, few nodes do not break it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from saeborzoi.nodes.embedding import embed_nodes, node_locus_matrix


def seqlets(n_groups: int, n_each: int, seed: int = 0) -> pd.DataFrame:
    """Nodes of one group fire at loci of the same 100, with strengths of their own."""
    rng = np.random.default_rng(seed)
    tables = []
    for node in range(n_groups * n_each):
        loci = rng.choice(100, 40, replace=False) + 1000 * (node % n_groups)
        tables.append(
            pd.DataFrame(
                {
                    "node": 3 * node,
                    "chrom": np.where(loci % 2, "chr1", "chr2"),
                    "start_bp": loci * 10,
                    "activation": rng.random(40) * rng.choice([1, 30]) + 0.5,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def test_matrix_shares_loci() -> None:
    frame = pd.DataFrame(
        {
            "node": [7, 7, 2, 2],
            "chrom": ["chr1", "chr2", "chr1", "chr1"],
            "start_bp": [5, 5, 5, 6],
            "activation": [1.0, 2.0, 3.0, 4.0],
        }
    )
    nodes, matrix = node_locus_matrix(frame)
    assert nodes.tolist() == [2, 7]
    assert matrix.toarray().tolist() == [[3, 4, 0], [1, 0, 2]]


def test_groups_come_out_as_clusters_whatever_their_strength() -> None:
    nodes, matrix = node_locus_matrix(seqlets(n_groups=3, n_each=25))
    result = embed_nodes(nodes, matrix, n_clusters=3)
    group = nodes // 3 % 3
    table = pd.crosstab(group, result["cluster"])
    assert (table > 0).sum().tolist() == [1, 1, 1], table
    assert result["cluster"].value_counts().is_monotonic_decreasing
    again = embed_nodes(nodes, matrix, n_clusters=3)
    pd.testing.assert_frame_equal(result, again)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 10, 16, 40])
def test_few_nodes(n: int) -> None:
    frame = seqlets(n_groups=2, n_each=n + 1)
    frame = frame[frame["node"] < 3 * n]
    nodes, matrix = node_locus_matrix(frame)
    assert len(nodes) == n
    result = embed_nodes(nodes, matrix)
    assert result["node"].tolist() == nodes.tolist()
    assert np.isfinite(result[["umap_1", "umap_2"]].to_numpy()).all()
    assert set(result["cluster"]) == set(range(min(n, 25)))


def test_nodes_at_one_place_are_one_cluster() -> None:
    frame = pd.concat([seqlets(1, 1).assign(node=n) for n in range(2)])
    result = embed_nodes(*node_locus_matrix(frame.iloc[:40]))
    assert result["cluster"].tolist() == [0]
