"""Which nodes of an SAE come back in others of its layer.

What is read from the catalogue and where files lie is the asset's business. SAEs are compared
within their layer only, as directions of different layers mean different things.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from saeborzoi.errors import InputError
from saeborzoi.nodes.top_positions import read_top_positions
from saeborzoi.settings.hyperparameters import Hyperparameters

Float32s = NDArray[np.float32]
Int32s = NDArray[np.int32]

ROWS_AT_ONCE = 1024
"""Nodes of one SAE whose cosines with all nodes of another are in memory at once."""
TILE = 4
"""SAEs on each side of a tile of pairs: 2 x TILE are in memory at once."""


class Dictionary(NamedTuple):
    """What is compared of one SAE's nodes; dead nodes, which have no position, are left out.

    Attributes
    ----------
    node
        (n,) int32, ascending.
    direction
        (n, n_channels) float32, rows of the decoder at unit length.
    loci
        (n, n_top) int64, each node's top positions as numbers, -1 where it has fewer.
    """

    node: Int32s
    direction: Float32s
    loci: NDArray[np.int64]


class Matches(NamedTuple):
    """Nodes of two SAEs that are the same: each other's closest, with the same top positions.

    Attributes
    ----------
    node_a, node_b
        (m,) int32, nodes of the two SAEs, ascending in `node_a`.
    cosine
        (m,) float32, cosine of their decoder directions.
    jaccard
        (m,) float32, positions that are top positions of both / of either.
    n_close
        Pairs that are the same by direction, whatever their top positions.
    n_a, n_b
        Nodes of each SAE that fire.
    best_cosine_a, best_cosine_b
        Mean over the nodes of one SAE of the largest cosine with a node of the other.
    """

    node_a: Int32s
    node_b: Int32s
    cosine: Float32s
    jaccard: Float32s
    n_close: int
    n_a: int
    n_b: int
    best_cosine_a: float
    best_cosine_b: float


def read_dictionary(weights: Path | str, top_activations: Path | str) -> Dictionary:
    """Read an SAE's decoder and the top positions of its nodes.

    Parameters
    ----------
    weights
        `sae.safetensors`, of which only `W_dec` (n_nodes, n_channels) is read.
    top_activations
        `top_activations.parquet`.

    Raises
    ------
    InputError
        Where a file cannot be read, or a node has no row in the decoder.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="np") as file:
            decoder = np.asarray(file.get_tensor("W_dec"), dtype=np.float32)
        top = read_top_positions(Path(top_activations), ("node", "window", "position"))
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(
            f"{weights} or {top_activations}: cannot be read ({error}); materialize trained_sae "
            "and top_activations of that SAE again"
        ) from None
    of_node = top["node"].to_numpy(np.int64)
    counts = np.bincount(of_node)
    node = np.flatnonzero(counts).astype(np.int32)
    if len(node) and node[-1] >= len(decoder):
        raise InputError(
            f"{top_activations}: node {node[-1]}, but {weights} has {len(decoder)} nodes; "
            "materialize top_activations of that SAE again"
        )
    locus = top["window"].to_numpy(np.int64) << 32 | top["position"].to_numpy(np.int64)
    order = np.argsort(of_node, kind="stable")  # quick: the file is in this order
    of_node, locus = of_node[order], locus[order]
    first = np.cumsum(counts) - counts
    loci = np.full((len(counts), int(counts.max(initial=0))), -1, dtype=np.int64)
    loci[of_node, np.arange(len(locus)) - first[of_node]] = locus
    loci = loci[node]
    direction = decoder[node]
    length = np.linalg.norm(direction, axis=1, keepdims=True)
    return Dictionary(node, direction / np.maximum(length, np.finfo(np.float32).tiny), loci)


def match_nodes(a: Dictionary, b: Dictionary, min_cosine: float, min_jaccard: float) -> Matches:
    """Nodes of two SAEs of a layer that are the same by direction and by where they fire.

    A pair counts where each node is the other's closest by cosine of the decoder directions, the
    cosine is at least `min_cosine` and the Jaccard index of their top positions at least
    `min_jaccard`; so each node is in one pair at most. The direction alone does not do: SAEs of
    one seed start from the same directions, and nodes that training left near their start look
    the same without firing at the same places. Takes ``2 n_a n_b n_channels`` floating-point
    operations and holds `ROWS_AT_ONCE` x n_b cosines.

    Parameters
    ----------
    a, b
        The two SAEs.
    min_cosine
        0.7 is what Paulo & Belrose, "Sparse autoencoders trained on the same data learn different
        features" (2025), call the same feature.
    min_jaccard
        0 goes by direction alone.
    """
    n_a, n_b = len(a.node), len(b.node)
    if n_a == 0 or n_b == 0:
        none = np.empty(0, np.int32), np.empty(0, np.float32)
        return Matches(none[0], none[0], none[1], none[1], 0, n_a, n_b, 0.0, 0.0)
    closest_of_a = np.empty(n_a, np.int64)
    best_of_a = np.empty(n_a, np.float32)
    closest_of_b = np.zeros(n_b, np.int64)
    best_of_b = np.full(n_b, -np.inf, np.float32)
    for start in range(0, n_a, ROWS_AT_ONCE):
        cosine = a.direction[start : start + ROWS_AT_ONCE] @ b.direction.T
        stop = start + len(cosine)
        closest_of_a[start:stop] = cosine.argmax(axis=1)
        best_of_a[start:stop] = cosine.max(axis=1)
        best = cosine.max(axis=0)
        better = best > best_of_b
        closest_of_b[better] = cosine.argmax(axis=0)[better] + start
        best_of_b[better] = best[better]
    row = np.flatnonzero(closest_of_b[closest_of_a] == np.arange(n_a))
    row = row[best_of_a[row] >= min_cosine]
    column = closest_of_a[row]
    jaccard = jaccard_of_sets(a.loci[row], b.loci[column])
    same = jaccard >= min_jaccard
    return Matches(
        a.node[row[same]],
        b.node[column[same]],
        best_of_a[row[same]],
        jaccard[same],
        len(row),
        n_a,
        n_b,
        float(best_of_a.mean()),
        float(best_of_b.mean()),
    )


def jaccard_of_sets(a: NDArray[np.int64], b: NDArray[np.int64]) -> Float32s:
    """Jaccard index of the sets in two matrices, row by row.

    Parameters
    ----------
    a, b
        (n, any) int64 >= 0, each value once a row; -1 is no value.

    Returns
    -------
    ndarray
        (n,) float32; 0 where both sets are empty.

    Examples
    --------
    >>> jaccard_of_sets(np.array([[1, 2, -1]]), np.array([[2, 3]]))
    array([0.33333334], dtype=float32)
    """
    shared = np.empty(len(a), np.int64)
    for start in range(0, len(a), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        both = np.sort(np.hstack([a[rows], b[rows]]), axis=1)
        shared[rows] = ((both[:, 1:] == both[:, :-1]) & (both[:, 1:] >= 0)).sum(axis=1)
    either = (a >= 0).sum(axis=1) + (b >= 0).sum(axis=1) - shared
    return np.asarray(shared / np.maximum(either, 1), dtype=np.float32)


def tiled_pairs(keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every pair of keys once, in an order in which the same few SAEs are needed again and again.

    With the last 2 x `TILE` SAEs kept in memory, n SAEs are read n² / (2 `TILE`) times, not n².
    """
    tiles = [keys[i : i + TILE] for i in range(0, len(keys), TILE)]
    for i, first in enumerate(tiles):
        for second in tiles[i:]:
            for a, left in enumerate(first):
                for right in first[a + 1 :] if second is first else second:
                    yield left, right


def differs_in(a: str, b: str) -> str:
    """What tells two SAEs of a layer apart.

    >>> differs_in("conv_x4_k0.05_lr0.003_s0", "conv_x8_k0.05_lr0.003_s1")
    'expansion, seed'
    """
    first, second = (Hyperparameters.from_key(key).model_dump() for key in (a, b))
    return ", ".join(name for name in first if first[name] != second[name])


class Stability(NamedTuple):
    """Tables of the catalogue: `sae_stability`, one row a pair of SAEs, and `node_recurrence`, one
    row a node that another SAE of its layer has too."""

    pairs: pd.DataFrame
    nodes: pd.DataFrame


def summarize(matched: Iterable[tuple[str, str, Matches]]) -> Stability:
    """Sum up pairs of SAEs.

    Parameters
    ----------
    matched
        Keys of two SAEs of a layer and what `match_nodes` found; taken one at a time, so that
        the nodes of all pairs need not be in memory together.
    """
    pairs: list[dict[str, object]] = []
    sums: dict[str, NDArray[np.float64]] = {}
    for a, b, matches in matched:
        n_matched = len(matches.node_a)
        different = differs_in(a, b)
        pairs.append(
            {
                "hyperparameters_a": a,
                "hyperparameters_b": b,
                "layer": Hyperparameters.from_key(a).layer,
                "differs_in": different,
                "n_nodes_a": matches.n_a,
                "n_nodes_b": matches.n_b,
                "n_close": matches.n_close,
                "n_matched": n_matched,
                "share_a": n_matched / max(matches.n_a, 1),
                "share_b": n_matched / max(matches.n_b, 1),
                "best_cosine_a": matches.best_cosine_a,
                "best_cosine_b": matches.best_cosine_b,
                "jaccard": float(matches.jaccard.mean()) if n_matched else None,
            }
        )
        is_seed = float(different == "seed")
        for key, node in ((a, matches.node_a), (b, matches.node_b)):
            if n_matched == 0:
                continue
            # by node: seeds and settings that have it, sum of cosine, sum of Jaccard
            old = sums.get(key, np.zeros((0, 4)))
            new = np.zeros((max(len(old), int(node.max()) + 1), 4))
            new[: len(old)] = old
            new[node] += np.column_stack(
                [
                    np.full(n_matched, is_seed),
                    np.full(n_matched, 1 - is_seed),
                    matches.cosine,
                    matches.jaccard,
                ]
            )
            sums[key] = new
    nodes = [_recurrence(key, sums[key]) for key in sorted(sums)]
    return Stability(
        pd.DataFrame(pairs, columns=_PAIR_COLUMNS),
        pd.concat(nodes) if nodes else _recurrence("", np.zeros((0, 4))),
    )


_PAIR_COLUMNS = [
    "hyperparameters_a", "hyperparameters_b", "layer", "differs_in", "n_nodes_a", "n_nodes_b",
    "n_close", "n_matched", "share_a", "share_b", "best_cosine_a", "best_cosine_b", "jaccard",
]  # fmt: skip


def _recurrence(key: str, sums: NDArray[np.float64]) -> pd.DataFrame:
    """Rows of `node_recurrence` of one SAE."""
    times = sums[:, 0] + sums[:, 1]
    node = np.flatnonzero(times)
    return pd.DataFrame(
        {
            "hyperparameters": key,
            "node": node.astype(np.int32),
            "n_seeds": sums[node, 0].astype(np.int32),
            "n_settings": sums[node, 1].astype(np.int32),
            "cosine": sums[node, 2] / times[node],
            "jaccard": sums[node, 3] / times[node],
        }
    )


def save_matches(matches: Matches, file: Path | str) -> None:
    """Keep what `match_nodes` found."""
    with open(file, "wb") as stream:
        np.savez(stream, **matches._asdict())


def load_matches(file: Path | str) -> Matches:
    """What `save_matches` kept.

    Raises
    ------
    InputError
        Where the file is damaged.
    """
    try:
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            fields = {name: arrays[name] for name in Matches._fields}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{file}: cannot be read ({error}); remove it, it is made again") from None
    return Matches(**{name: a if a.ndim else a.item() for name, a in fields.items()})
