"""Families: discovered motifs that are alike (redundant nodes), and what the clusters of an
embedding are rich in."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from saeborzoi.motifs.matching import align, best_matches, with_pseudocount
from saeborzoi.motifs.properties import as_matrix

MAX_CLUSTER_P = 0.05
_MIN_FAMILY_NODES = 2
_AT_ONCE = 512
"""Motifs matched with all others at once: bounds the memory."""


def motif_families(
    motifs: pd.DataFrame, max_q_value: float = 1e-3, threads: int = 1
) -> pd.DataFrame:
    """Discovered motifs matched against one another, and the families that they form.

    A motif joins the family of the earlier, more significant founder that it matches best; where
    it matches none it founds a family (leader clustering: no chains of pairwise likeness).

    Parameters
    ----------
    motifs
        Columns node, motif, matrix, n_sites, log10_e_value; those to be grouped, e.g. the
        significant ones.
    max_q_value
        Largest q-value of a match (over all motifs, for one query) that makes kin.

    Returns
    -------
    node, motif, motif_family (0 is the largest family), n_family_motifs, n_family_nodes,
    founder_node, founder_motif, orientation (+ or -, against the founder), offset_bp (start of
    the motif minus start of the founder) and q_value of the match with the founder.
    """
    columns = [
        "node", "motif", "motif_family", "n_family_motifs", "n_family_nodes", "founder_node",
        "founder_motif", "orientation", "offset_bp", "q_value",
    ]  # fmt: skip
    if motifs.empty:
        return pd.DataFrame({name: [] for name in columns})
    ranked = motifs.sort_values(["log10_e_value", "node", "motif"], ignore_index=True)
    matrices = [
        with_pseudocount(as_matrix(matrix), n_sites)
        for matrix, n_sites in zip(ranked["matrix"], ranked["n_sites"], strict=True)
    ]
    n = len(ranked)
    founder = np.arange(n)
    is_founder = np.zeros(n, bool)
    is_reverse = np.zeros(n, bool)
    offset = np.zeros(n, np.int64)
    q_value = np.zeros(n)
    for first in range(0, n, _AT_ONCE):
        found = align(matrices[first : first + _AT_ONCE], matrices, threads)
        q = stats.false_discovery_control(found.p_value, axis=-1)
        for row, i in enumerate(range(first, min(first + _AT_ONCE, n))):
            kin = np.flatnonzero(is_founder[:i] & (q[row, :i] < max_q_value))
            if kin.size == 0:
                is_founder[i] = True
                continue
            j = kin[found.p_value[row, kin].argmin()]
            founder[i] = j
            is_reverse[i] = found.is_reverse[row, j]
            offset[i] = -found.offset_bp[row, j]
            q_value[i] = q[row, j]
    result = pd.DataFrame(
        {
            "node": ranked["node"],
            "motif": ranked["motif"],
            "founder": founder,
            "founder_node": ranked["node"].to_numpy()[founder],
            "founder_motif": ranked["motif"].to_numpy()[founder],
            "orientation": np.where(is_reverse, "-", "+"),
            "offset_bp": offset,
            "q_value": q_value,
        }
    )
    groups = result.groupby("founder")
    result["n_family_motifs"] = groups["motif"].transform("size")
    result["n_family_nodes"] = groups["node"].transform("nunique")
    order = result.drop_duplicates("founder").sort_values(
        ["n_family_nodes", "n_family_motifs", "founder"], ascending=[False, False, True]
    )
    rank = pd.Series(np.arange(len(order)), index=order["founder"])
    result["motif_family"] = result["founder"].map(rank)
    return result[columns].sort_values(["motif_family", "node", "motif"], ignore_index=True)


def node_families(matches: pd.DataFrame) -> pd.Series:
    """Factor family of each node: that of its best significant match which has one.

    Parameters
    ----------
    matches
        Columns node, motif, database, target_id, factor_family, p_value, is_significant of table
        `motif_match`.

    Returns
    -------
    Family, indexed by node.
    """
    best = best_matches(matches[matches["factor_family"].notna()])
    return best.set_index("node")["factor_family"].sort_index()


def cluster_families(embedding: pd.DataFrame, matches: pd.DataFrame) -> pd.DataFrame:
    """What each cluster of an embedding is rich in.

    For every family and cluster the hypergeometric probability of at least so many of the
    family's nodes in a cluster of that size, over all embedded nodes, times the families and
    clusters tried (Bonferroni). The cluster is named by the smallest, where it is below 0.05 and
    holds at least two nodes of the family.

    Parameters
    ----------
    embedding
        Columns node, cluster.
    matches
        As for `node_families`.

    Returns
    -------
    Columns of table `embedding_cluster` but the key of the SAE.
    """
    family_of = node_families(matches)
    nodes = embedding[["node", "cluster"]].assign(factor_family=embedding["node"].map(family_of))
    n_nodes = len(nodes)
    sizes = nodes["cluster"].value_counts()
    family_sizes = nodes["factor_family"].value_counts()
    n_tested = max(1, len(family_sizes) * len(sizes))
    rows = []
    for cluster in sorted(sizes.index):
        own = nodes.loc[nodes["cluster"] == cluster, "factor_family"].value_counts()
        best: tuple[float, str, int] | None = None
        for family, n_own in sorted(own.items(), key=lambda item: str(item[0])):
            p = stats.hypergeom.sf(n_own - 1, n_nodes, family_sizes[family], sizes[cluster])
            p = min(1.0, float(p) * n_tested)
            if n_own >= _MIN_FAMILY_NODES and p < MAX_CLUSTER_P and (best is None or p < best[0]):
                best = (p, str(family), int(n_own))
        rows.append(
            {
                "cluster": int(cluster),
                "n_nodes": int(sizes[cluster]),
                "factor_family": best[1] if best else None,
                "n_family_nodes": best[2] if best else 0,
                "p_value": best[0] if best else np.nan,
            }
        )
    return pd.DataFrame(rows).astype({"factor_family": "str"})
