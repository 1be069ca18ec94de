"""A map of nodes: which fire at the same places. UMAP of the nodes and clusters on it."""

from __future__ import annotations

import warnings
from types import ModuleType

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from saeborzoi.extras import extra

_FEWEST_FOR_UMAP = 4
"""UMAP's spectral start needs more nodes than dimensions + 1."""


def node_locus_matrix(seqlets: pd.DataFrame) -> tuple[NDArray[np.int32], sparse.csr_array]:
    """Activation of each node at each seqlet's locus.

    Parameters
    ----------
    seqlets
        node, chrom, start_bp, activation; a locus is shared by the nodes that have a seqlet
        there.

    Returns
    -------
    tuple
        nodes (n_nodes,) int32, ascending; matrix (n_nodes, n_loci) float32, zero where the locus
        is not among a node's seqlets.
    """
    row, nodes = pd.factorize(seqlets["node"], sort=True)
    chrom, _ = pd.factorize(seqlets["chrom"])
    stride = int(seqlets["start_bp"].max()) + 1 if len(seqlets) else 1
    column, loci = pd.factorize(chrom * stride + seqlets["start_bp"].to_numpy(np.int64), sort=True)
    values = seqlets["activation"].to_numpy(np.float32)
    matrix = sparse.csr_array((values, (row, column)), shape=(len(nodes), len(loci)))
    return np.asarray(nodes, np.int32), matrix


def embed_nodes(
    nodes: ArrayLike,
    matrix: sparse.csr_array,
    *,
    min_dist: float = 0.02,
    n_neighbors: int = 15,
    n_clusters: int = 25,
    random_state: int = 42,
) -> pd.DataFrame:
    """UMAP coordinates and a cluster for each node, the same on every run.

    As in sae-borzoi, Euclidean UMAP of the nodes' activations and KMeans on the embedding; but
    each node's activations are scaled to unit length first, so that nodes are near where they
    fire at the same places, not where they happen to fire equally strongly. With fewer nodes
    than neighbours or clusters there are as many of those as nodes allow; up to three nodes
    stand on a line.

    Parameters
    ----------
    nodes
        (n_nodes,) int, the node of each row.
    matrix
        (n_nodes, n_loci) float32, activations at loci.
    min_dist, n_neighbors
        UMAP's.
    n_clusters
        KMeans's.
    random_state
        Seed of both.

    Returns
    -------
    DataFrame
        node (int32), umap_1, umap_2 (float64), cluster (int32, 0 is the largest).
    """
    nodes = np.asarray(nodes, np.int32)
    n = len(nodes)
    if n < _FEWEST_FOR_UMAP:
        coordinates = np.column_stack([np.arange(n, dtype=float), np.zeros(n)])
    else:
        coordinates = _umap(matrix, min_dist, n_neighbors, random_state)
    return pd.DataFrame(
        {
            "node": nodes,
            "umap_1": coordinates[:, 0],
            "umap_2": coordinates[:, 1],
            "cluster": _clusters(coordinates, n_clusters, random_state),
        }
    )


def _umap(
    matrix: sparse.csr_array, min_dist: float, n_neighbors: int, random_state: int
) -> NDArray[np.float64]:
    with warnings.catch_warnings(), extra("platform"):
        warnings.simplefilter("ignore", ImportWarning)  # of TensorFlow, which is not used
        import umap
        from sklearn.preprocessing import normalize
        from umap import layouts, umap_, utils
    for module in (umap_, utils, layouts):
        _keep_compiled(module)

    n = matrix.shape[0]
    reducer = umap.UMAP(
        n_components=2,
        n_neighbors=min(n_neighbors, n - 1),
        min_dist=min_dist,
        random_state=random_state,
        n_jobs=1,  # what a fixed random state allows
        # the spectral start solves an eigenproblem, which has no room for few nodes
        init="spectral" if n > 3 * n_neighbors else "random",
    )
    return reducer.fit_transform(normalize(sparse.csr_matrix(matrix))).astype(np.float64)


def _keep_compiled(module: ModuleType) -> None:
    """Let numba keep the compiled loops of a module for the next process, where the module does
    not ask for it: UMAP of 137 nodes took 13 s of CPU, of which 0.5 s were not compiling."""
    from numba.core.dispatcher import Dispatcher

    for loop in vars(module).values():
        if isinstance(loop, Dispatcher):
            loop.enable_caching()


def _clusters(
    coordinates: NDArray[np.float64], n_clusters: int, random_state: int
) -> NDArray[np.int32]:
    """KMeans, numbered by size and then by first node so that numbers mean something."""
    n_places = len(np.unique(coordinates, axis=0))
    if n_places <= 1:
        return np.zeros(len(coordinates), np.int32)
    with extra("platform"):
        from sklearn.cluster import KMeans

    kmeans = KMeans(
        n_clusters=min(n_clusters, n_places),
        random_state=random_state,
        n_init=10,
    )
    labels = pd.Series(kmeans.fit_predict(coordinates))
    by_size = labels.groupby(labels).size().sort_values(ascending=False, kind="stable").index
    return labels.map({label: i for i, label in enumerate(by_size)}).to_numpy(np.int32)
