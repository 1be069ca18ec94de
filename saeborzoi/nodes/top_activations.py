"""One streaming pass over positions: the strongest positions of every node, and its statistics.

Exact and in bounded memory: a few more than N positions of each node, sums, and counts. Which
positions count belongs to `saeborzoi.genome`, what becomes of the strongest ones to
`saeborzoi.nodes.seqlets`, the pass on a GPU to `device_scan.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np
import pandas as pd
import scipy.sparse
import torch

from saeborzoi.activations.loader import SlabPlan, to_float32
from saeborzoi.activations.reader import Raw
from saeborzoi.jobs.job import Progress, silent
from saeborzoi.nodes import node_figures
from saeborzoi.nodes.device_scan import scan_on_device
from saeborzoi.nodes.node_figures import (
    BIN_SHIFT,
    FIRST_BITS,
    N_BINS,
    NodeActivations,
    NodeSums,
    report,
    top_table,
)
from saeborzoi.nodes.spill import Spill
from saeborzoi.sae.kernels import by_node
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sae.selector import Selector
from saeborzoi.sae.threads import parts

_POSITIONS = 8192
"""Positions at once, about: what is kept of all nodes does not stay in a cache meanwhile."""
_SPARE = 64
"""Positions that a node holds beyond those that are asked for, at least."""


def top_activations(
    sae: SparseAutoencoder,
    plan: SlabPlan,
    n_top: int,
    strong_fraction: float,
    threads: int = 1,
    progress: Progress = silent,
    work: Path | None = None,
) -> NodeActivations:
    """Strongest positions and statistics of every node over the kept positions of shards.

    How many activations are above a fraction of mean and maximum is known only once those are:
    until then all activations lie in a temporary file, 4 bytes each (about a tenth of the
    shards' size at k = 5 % of the channels). Memory stays bounded.

    Parameters
    ----------
    sae
        On any device.
    plan
        The positions.
    n_top
        Positions kept for each node (N).
    strong_fraction
        Count positions above this fraction of the node's mean, and of its maximum.
    threads
        Cores to use; the result does not depend on it.
    work
        Folder of the temporary file; None is the system's.

    Raises
    ------
    InputError
        Where a shard cannot be read.
    StageInterrupted
        Where `job.stop_requested` was set.
    """
    if sae.encoder_weight.device.type != "cpu":
        return scan_on_device(sae, plan, n_top, strong_fraction, threads, progress, work)
    active = ActiveNodes(sae, threads)
    statistics = _Statistics(sae.n_nodes, n_top, plan.source.n_positions)
    done = 0
    above = np.zeros((2, sae.n_nodes), np.int64)
    with Spill(work) as spill:
        for value, node, count, identity in _batches(plan, active):
            start, row, column = by_node(node, count, sae.n_nodes)
            values = value[row, column]
            entries = (start, row, values, *_ascending(start, row, node.shape))
            active.threads.map(
                lambda a, b: statistics.update(count, entries, identity, a, b),  # noqa: B023
                parts(sae.n_nodes, active.threads.n),
            )
            spill.append(start, values)
            done += len(count)
            report(progress, done, plan.n_positions)
        sums = statistics.sums()
        bounds = sums.bounds(strong_fraction)
        n_passes = 1 if spill.is_whole else 2
        if spill.is_whole:
            for start, values in spill.read():
                _count_above(start, values, bounds, above)
        else:
            done = 0
            for value, node, count, _ in _batches(plan, active):
                start, row, column = by_node(node, count, sae.n_nodes)
                _count_above(start, value[row, column], bounds, above)
                done += len(count)
                progress("counting strong positions", done, plan.n_positions)
    return NodeActivations(
        statistics.top(),
        sums.table(plan.n_positions, above),
        statistics.coactivation_matrix(),
        n_passes,
    )


def _batches(plan: SlabPlan, active: ActiveNodes) -> Iterator[tuple[np.ndarray, ...]]:
    """Active nodes of some `_POSITIONS` positions, as `ActiveNodes` gives them, and the positions
    (n,) int64, window x positions of a window + position."""
    waiting: list[tuple[np.ndarray, ...]] = []
    n = 0
    for slab in plan.in_order():
        identity = slab.window * plan.source.n_positions + slab.position
        waiting.append((*(each.copy() for each in active(slab.activation)), identity))
        n += len(identity)
        if n >= _POSITIONS:
            yield tuple(map(np.concatenate, zip(*waiting, strict=True)))
            waiting, n = [], 0
    if waiting:
        yield tuple(map(np.concatenate, zip(*waiting, strict=True)))


class ActiveNodes:
    """Active nodes of positions, on the SAE's device, as arrays on the CPU."""

    def __init__(self, sae: SparseAutoencoder, threads: int) -> None:
        self._sae = sae
        self._selector = Selector(threads)
        self.threads = self._selector.threads

    def __call__(self, raw: Raw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(n, width) float32 and int32, of which the first count[i] of row i hold; (n,) int32."""
        device = self._sae.encoder_weight.device
        if device.type == "cpu":
            return self._selector(self._sae, raw)
        with torch.no_grad():
            value, node = self._sae.encode(to_float32(raw, device))
        # torch.topk sorts in descending order, so the active ones come first
        count = (value > 0).sum(1)
        return value.cpu().numpy(), node.int().cpu().numpy(), count.int().cpu().numpy()


class _Statistics:
    """Running figures of every node."""

    def __init__(self, n_nodes: int, n_top: int, n_positions: int) -> None:
        self._n_positions = n_positions
        self._n_top = n_top
        shape = n_nodes, n_top + max(_SPARE, n_top // 4)
        self._value, self._id = np.zeros(shape, np.float32), np.zeros(shape, np.int64)
        self._n_held = np.zeros(n_nodes, np.int64)
        self._weakest = np.zeros(n_nodes, np.float32), np.zeros(n_nodes, np.int64)
        self._count = np.zeros(n_nodes, np.int64)
        self._sum = np.zeros(n_nodes)
        self._sum_squares = np.zeros(n_nodes)
        self._max = np.zeros(n_nodes, np.float32)
        self._histogram = np.zeros((n_nodes, N_BINS), np.int64)
        width = n_nodes if n_nodes <= node_figures.MAX_COACTIVATION_NODES else 0
        self._together = np.zeros((width, width), np.uint32)

    def update(
        self, count: np.ndarray, entries: tuple[np.ndarray, ...], identity: np.ndarray,
        first: int, last: int,
    ) -> None:  # fmt: skip
        """Take in active nodes of positions; nodes `first ... last` only."""
        _update(  # type: ignore[call-arg]
            count, *entries, identity, first, last, self._n_top, self._value, self._id,
            self._n_held, *self._weakest, self._count, self._sum, self._sum_squares, self._max,
            self._histogram, self._together,
        )  # fmt: skip

    def sums(self) -> NodeSums:
        """What was summed up so far."""
        return NodeSums(self._count, self._sum, self._sum_squares, self._max, self._histogram)

    def top(self) -> pd.DataFrame:
        """See `NodeActivations.top`."""
        for j in np.flatnonzero(self._n_held > self._n_top):
            _cut(self._value[j], self._id[j], self._n_held[j], self._n_top)
        n_top = self._n_top
        n_held = np.minimum(self._n_held, n_top)
        value, identity = self._value[:, :n_top], self._id[:, :n_top]
        earliest = np.argsort(identity, axis=1)
        # one number a position, as NumPy sorts those many times faster than pairs: the strongest
        # first, of equals the earliest; what holds nothing at the end
        weakness = ~np.take_along_axis(value, earliest, 1).view(np.uint32)
        weakness[earliest >= n_held[:, None]] = 0xFFFFFFFF
        key = weakness.astype(np.uint64) << np.uint64(32) | np.arange(n_top, dtype=np.uint64)
        key.sort(axis=1)
        order = np.take_along_axis(earliest, (key & np.uint64(0xFFFFFFFF)).astype(np.int64), 1)
        node, rank = np.nonzero(np.arange(n_top) < n_held[:, None])
        place = order[node, rank]
        return top_table(node, rank, identity[node, place], value[node, place], self._n_positions)

    def coactivation_matrix(self) -> scipy.sparse.csr_array | None:
        """See `NodeActivations.coactivation`."""
        return scipy.sparse.csr_array(self._together) if self._together.size else None


@numba.njit(nogil=True, cache=True)
def _weaker(value_a, id_a, value_b, id_b):  # type: ignore[no-untyped-def]
    return value_a < value_b or (value_a == value_b and id_a > id_b)


@numba.njit(nogil=True, cache=True)
def _cut(value, identity, n, n_kept):  # type: ignore[no-untyped-def]
    """Bring the n_kept strongest of the first n positions to the front, the weakest of them last
    (Hoare 1961)."""
    low, high = 0, n - 1
    while low < high:
        middle = (low + high) // 2
        v, position = value[middle], identity[middle]
        i, j = low, high
        while i <= j:
            while _weaker(v, position, value[i], identity[i]):
                i += 1
            while _weaker(value[j], identity[j], v, position):
                j -= 1
            if i <= j:
                value[i], value[j] = value[j], value[i]
                identity[i], identity[j] = identity[j], identity[i]
                i += 1
                j -= 1
        if n_kept - 1 <= j:
            high = j
        elif n_kept - 1 >= i:
            low = i
        else:
            break


@numba.njit(nogil=True, cache=True)
def _ascending(start, row, shape):  # type: ignore[no-untyped-def]
    """Nodes of each row in ascending order, and where in its row each entry stands.

    The nodes are uint16 for the cache's sake: co-activations of more nodes are not counted.
    """
    node = np.empty(shape, np.uint16)
    rank = np.empty(len(row), np.int32)
    filled = np.zeros(shape[0], np.int32)
    for j in range(len(start) - 1):
        for e in range(start[j], start[j + 1]):
            i = row[e]
            rank[e] = filled[i]
            node[i, filled[i]] = j
            filled[i] += 1
    return node, rank


@numba.njit(nogil=True, cache=True)
def _update(  # type: ignore[no-untyped-def]
    count, start, row, values, node, rank, identity, first, last, n_top, top_value, top_id,
    n_held, weakest_value, weakest_id, n, total, squares, largest, histogram, together,
):  # fmt: skip
    """Node by node, so that what is of a node, as its row of co-activations, stays in the cache.

    A node holds whatever is stronger than the weakest of its n_top strongest was when they were
    last sorted out, until its memory is full. Of equals the later position is weaker.
    """
    n_bins = histogram.shape[1]
    counts_together = together.shape[0] > 0
    bits = np.empty(1, np.float32)
    as_bits = bits.view(np.uint32)
    for j in range(first, last):
        held = n_held[j]
        for e in range(start[j], start[j + 1]):
            i = row[e]
            v = values[e]
            n[j] += 1
            total[j] += v
            squares[j] += np.float64(v) * v
            largest[j] = max(largest[j], v)
            bits[0] = v
            slot = np.int64(as_bits[0] >> BIN_SHIFT) - FIRST_BITS
            histogram[j, min(max(slot, 0), n_bins - 1)] += 1
            if counts_together:
                for m in range(rank[e] + 1, count[i]):
                    together[j, node[i, m]] += 1
            if v < weakest_value[j] or _weaker(v, identity[i], weakest_value[j], weakest_id[j]):
                continue
            top_value[j, held], top_id[j, held] = v, identity[i]
            held += 1
            if held == top_value.shape[1]:
                _cut(top_value[j], top_id[j], held, n_top)
                held = n_top
                weakest_value[j], weakest_id[j] = top_value[j, held - 1], top_id[j, held - 1]
        n_held[j] = held


@numba.njit(nogil=True, cache=True)
def _count_above(start, value, bounds, above):  # type: ignore[no-untyped-def]
    for j in range(len(start) - 1):
        for e in range(start[j], start[j + 1]):
            for b in range(bounds.shape[0]):
                if value[e] > bounds[b, j]:
                    above[b, j] += 1
