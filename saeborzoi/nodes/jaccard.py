"""How far the seqlets of any two nodes cover the same base pairs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from saeborzoi.genome.intervals import Intervals, covered_bp, merge, on_one_axis


def node_jaccard(seqlets: pd.DataFrame) -> pd.DataFrame:
    """Jaccard index of every pair of nodes whose seqlets overlap.

    The seqlets of a node are merged where they overlap or touch; the index is, as in bedtools,
    base pairs covered by both over base pairs covered by either. sae-borzoi compares only nodes
    that share a best match; here all pairs are compared.

    Parameters
    ----------
    seqlets
        node, chrom, start_bp, end_bp of the nodes to compare.

    Returns
    -------
    DataFrame
        node_a, node_b (int32, node_a < node_b), n_overlapping (int32, merged loci of a that
        overlap a locus of b), jaccard (float64, above 0), sorted by node_a and node_b.
    """
    code, nodes = pd.factorize(seqlets["node"], sort=True)
    group, loci = merge(code.astype(np.int64), on_one_axis(seqlets)[0])
    order = np.argsort(loci.start)  # neighbours together: half the time
    group, loci = group[order], Intervals(loci.start[order], loci.end[order])
    n = len(nodes)
    shared = covered_bp(loci, group, loci, n)
    of_node = sparse.csr_array(
        (np.ones(len(group), np.int64), (group, np.arange(len(group)))), shape=(n, len(group))
    )
    intersection = sparse.triu(of_node @ shared, k=1, format="csr")
    shared.data[:] = 1
    n_overlapping = sparse.triu(of_node @ shared, k=1, format="csr")
    # both hold the same pairs: a pair shares base pairs exactly where loci overlap
    for matrix in (intersection, n_overlapping):
        matrix.sort_indices()
    covered = np.bincount(group, weights=loci.end - loci.start, minlength=n)
    a, b = np.repeat(np.arange(n), np.diff(intersection.indptr)), intersection.indices
    both = intersection.data
    node = np.asarray(nodes, np.int32)
    return pd.DataFrame(
        {
            "node_a": node[a],
            "node_b": node[b],
            "n_overlapping": n_overlapping.data.astype(np.int32),
            "jaccard": both / (covered[a] + covered[b] - both),
        }
    )


def jaccard_matrix(pairs: pd.DataFrame, nodes: ArrayLike) -> NDArray[np.float64]:
    """Pairs as a dense matrix, for plots: (n, n) float64, symmetric, 1 on the diagonal.

    Parameters
    ----------
    pairs
        As `node_jaccard` gives them.
    nodes
        (n,) nodes in the order of rows and columns; pairs with others are left out.
    """
    place = pd.Series(np.arange(len(np.asarray(nodes))), index=np.asarray(nodes))
    pairs = pairs[pairs["node_a"].isin(place.index) & pairs["node_b"].isin(place.index)]
    matrix = np.eye(len(place))
    a, b = place[pairs["node_a"]].to_numpy(), place[pairs["node_b"]].to_numpy()
    matrix[a, b] = matrix[b, a] = pairs["jaccard"]
    return matrix
