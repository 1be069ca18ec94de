"""Which nodes are like a node: by decoder direction, by motif, by shared seqlets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeborzoi.catalog.store import SAE_WEIGHTS
from saeborzoi.errors import InputError
from saeborzoi.motifs.properties import column_bits

if TYPE_CHECKING:
    import pandas as pd

N_NEAREST = 8
_BLOCK = 512
_MAX_SHIFT = 10


class Nearest(NamedTuple):
    """The most similar nodes of each node that has any, strongest first."""

    node: dict[int, list[int]]
    similarity: dict[int, list[float]]


def read_decoder(artifact: Path, n_nodes: int) -> NDArray[np.float32]:
    """Decoder of a trained SAE, (n_nodes, n_channels) float32.

    Parameters
    ----------
    artifact
        `sae.safetensors`, or the folder with it.
    n_nodes
        Nodes that the catalogue has.

    Raises
    ------
    InputError
        Where the file has no ``W_dec`` or one of another number of nodes.
    """
    from safetensors.numpy import load_file

    path = artifact / SAE_WEIGHTS if artifact.is_dir() else artifact
    tensors = load_file(path)
    if "W_dec" not in tensors:
        raise InputError(
            f"{path}: no tensor 'W_dec' among {sorted(tensors)}; needed is a decoder "
            "(n_nodes, n_channels), as the artifact trained_sae has it"
        )
    decoder = tensors["W_dec"].astype(np.float32)
    if decoder.ndim != 2 or len(decoder) != n_nodes:
        raise InputError(
            f"{path}: W_dec has shape {decoder.shape}, but the catalogue has {n_nodes} nodes; "
            "materialize trained_sae and what follows it again"
        )
    return decoder


def by_decoder(decoder: NDArray[np.float32]) -> Nearest:
    """Nodes by cosine of their decoder directions."""
    length = np.linalg.norm(decoder, axis=1, keepdims=True)
    unit = decoder / np.where(length > 0, length, 1)
    names = np.arange(len(unit))

    def rows(start: int) -> NDArray[np.float32]:
        return np.asarray(unit[start : start + _BLOCK] @ unit.T)

    return _strongest(rows, names)


def by_motif(matrices: Mapping[int, NDArray[np.float64]]) -> Nearest:
    """Nodes by similarity of their motifs, both strands.

    Each matrix (width, 4) has 0.25 taken off and its columns weighted by their information
    content; the similarity is the cosine of two such matrices at their best alignment, shifted by
    up to 10 bp from where their centres of information meet. 1 is the same motif; what one has
    and the other lacks counts against it.
    """
    if len(matrices) < 2:
        return Nearest({}, {})
    names = np.array(sorted(matrices))
    forward = _centred([matrices[node] for node in names])
    reverse = _centred([matrices[node][::-1, ::-1] for node in names])
    n, columns, _ = forward.shape
    shifted = []
    reach = min(_MAX_SHIFT, columns - 1)
    for shift in range(-reach, reach + 1):
        for strand in (forward, reverse):
            moved = np.zeros_like(strand)
            here = slice(max(0, shift), columns + min(0, shift))
            source_columns = slice(max(0, -shift), columns + min(0, -shift))
            moved[:, here] = strand[:, source_columns]
            shifted.append(moved.reshape(n, -1).T)
    flat = forward.reshape(n, -1)

    def rows(start: int) -> NDArray[np.float32]:
        block = flat[start : start + _BLOCK]
        best = block @ shifted[0]
        for moved in shifted[1:]:
            np.maximum(best, block @ moved, out=best)
        return np.asarray(best)

    return _strongest(rows, names)


def by_jaccard(node_jaccard: pd.DataFrame) -> Nearest:
    """Nodes by Jaccard index of the base pairs that their seqlets cover."""
    a, b = node_jaccard["node_a"].to_numpy(np.int64), node_jaccard["node_b"].to_numpy(np.int64)
    return _of_pairs(a, b, node_jaccard["jaccard"].to_numpy(np.float64))


def _of_pairs(a: NDArray[np.int64], b: NDArray[np.int64], value: NDArray[np.float64]) -> Nearest:
    """The nearest of each node where likeness is known of some pairs, each there once."""
    of_node, other, both = (
        np.concatenate([a, b]),
        np.concatenate([b, a]),
        np.concatenate([value] * 2),
    )
    order = np.lexsort((other, -both, of_node))
    of_node, other, both = of_node[order], other[order], both[order]
    nodes, starts = np.unique(of_node, return_index=True)
    stops = np.minimum(np.append(starts[1:], len(of_node))[: len(starts)], starts + N_NEAREST)
    nearest = Nearest({}, {})
    for node, start, stop in zip(nodes.tolist(), starts, stops, strict=True):
        nearest.node[node] = other[start:stop].tolist()
        nearest.similarity[node] = both[start:stop].tolist()
    return nearest


def by_coactivation(file: Path, node: pd.DataFrame) -> Nearest:
    """Nodes by the share of positions where both fire, of those where either does.

    Parameters
    ----------
    file
        `coactivation.npz`: positions where two nodes both fire, upper triangle.
    node
        Columns node, n_nonzero of table `node`.
    """
    from scipy import sparse

    pairs = sparse.coo_array(sparse.load_npz(file))
    fires = np.zeros(pairs.shape[0])
    fires[node["node"].to_numpy(np.int64)] = node["n_nonzero"].to_numpy(float)
    a, b, both = pairs.row, pairs.col, pairs.data.astype(float)
    either = fires[a] + fires[b] - both
    share = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    return _of_pairs(a.astype(np.int64), b.astype(np.int64), share)


def _centred(matrices: list[NDArray[np.float64]]) -> NDArray[np.float32]:
    """Weighted unit matrices in one array (n, columns, 4), centres of information in line."""
    reach = max(len(matrix) for matrix in matrices)
    out = np.zeros((len(matrices), 2 * reach, 4), dtype=np.float32)
    for row, matrix in enumerate(matrices):
        bits = column_bits(matrix)
        weighted = (matrix - 0.25) * bits[:, None]
        norm = np.linalg.norm(weighted)
        if norm > 0:
            centre = round(float((bits * np.arange(len(bits))).sum() / bits.sum()))
            out[row, reach - centre : reach - centre + len(matrix)] = weighted / norm
    used = np.flatnonzero(out.any(axis=(0, 2)))
    # what a shift pushes over these edges would meet only empty columns
    return out[:, used[0] : used[-1] + 1] if len(used) else out[:, :1]


def _strongest(rows: Callable[[int], NDArray[np.float32]], names: NDArray[np.int64]) -> Nearest:
    """The `N_NEAREST` largest of each row but the node itself; `rows(start)` gives a block."""
    n = len(names)
    k = min(N_NEAREST, n - 1)
    nearest = Nearest({}, {})
    if k < 1:
        return nearest
    for start in range(0, n, _BLOCK):
        block = rows(start)
        at = np.arange(len(block))
        block[at, start + at] = -np.inf
        top = np.argpartition(-block, k - 1, axis=1)[:, :k]
        value = np.take_along_axis(block, top, axis=1)
        order = np.lexsort((top, -value), axis=1)
        top, value = np.take_along_axis(top, order, 1), np.take_along_axis(value, order, 1)
        for i in at:
            node = int(names[start + i])
            nearest.node[node] = names[top[i]].tolist()
            nearest.similarity[node] = value[i].tolist()
    return nearest
