"""One streaming pass over positions: the strongest positions of every node, and its statistics.

Exact and in bounded memory: a heap of N for each node, sums, and counts. Which positions count
belongs to `saeborzoi.genome`, what becomes of the strongest ones to `saeborzoi.nodes.seqlets`, the
pass on a GPU to `device_scan.py`.
"""

from __future__ import annotations

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
        for slab in plan.in_order():
            value, node, count = active(slab.activation)
            identity = slab.window * plan.source.n_positions + slab.position
            start, row, column = by_node(node, count, sae.n_nodes)
            entries = (start, row, column, *_ascending(start, row, node.shape))
            active.threads.map(
                lambda a, b: statistics.update(value, count, entries, identity, a, b),  # noqa: B023
                parts(sae.n_nodes, active.threads.n),
            )
            spill.append(start, value[row, column])
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
            for slab in plan.in_order():
                value, node, count = active(slab.activation)
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
        self._heap_value = np.zeros((n_nodes, n_top), np.float32)
        self._heap_id = np.zeros((n_nodes, n_top), np.int64)
        self._heap_size = np.zeros(n_nodes, np.int64)
        self._count = np.zeros(n_nodes, np.int64)
        self._sum = np.zeros(n_nodes)
        self._sum_squares = np.zeros(n_nodes)
        self._max = np.zeros(n_nodes, np.float32)
        self._histogram = np.zeros((n_nodes, N_BINS), np.int64)
        width = n_nodes if n_nodes <= node_figures.MAX_COACTIVATION_NODES else 0
        self._together = np.zeros((width, width), np.uint32)

    def update(
        self, value: np.ndarray, count: np.ndarray, entries: tuple[np.ndarray, ...],
        identity: np.ndarray, first: int, last: int,
    ) -> None:  # fmt: skip
        """Take in active nodes of positions; nodes `first ... last` only."""
        _update(  # type: ignore[call-arg]
            value, count, *entries, identity, first, last, self._heap_value, self._heap_id,
            self._heap_size, self._count, self._sum, self._sum_squares, self._max,
            self._histogram, self._together,
        )  # fmt: skip

    def sums(self) -> NodeSums:
        """What was summed up so far."""
        return NodeSums(self._count, self._sum, self._sum_squares, self._max, self._histogram)

    def top(self) -> pd.DataFrame:
        """See `NodeActivations.top`."""
        filled = np.arange(self._heap_value.shape[1]) < self._heap_size[:, None]
        strength = np.where(filled, self._heap_value, -np.inf)
        order = np.lexsort((self._heap_id, -strength), axis=1)
        node, rank = np.nonzero(filled)  # the sorted rows are filled as far as the heaps
        place = order[node, rank]
        value, identity = self._heap_value[node, place], self._heap_id[node, place]
        return top_table(node, rank, identity, value, self._n_positions)

    def coactivation_matrix(self) -> scipy.sparse.csr_array | None:
        """See `NodeActivations.coactivation`."""
        return scipy.sparse.csr_array(self._together) if self._together.size else None


@numba.njit(nogil=True, cache=True)
def _weaker(value_a, id_a, value_b, id_b):  # type: ignore[no-untyped-def]
    return value_a < value_b or (value_a == value_b and id_a > id_b)


@numba.njit(nogil=True, cache=True)
def _ascending(start, row, shape):  # type: ignore[no-untyped-def]
    """Nodes of each row in ascending order, and where in its row each entry stands."""
    node = np.empty(shape, np.int32)
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
    value, count, start, row, column, node, rank, identity, first, last, heap_value, heap_id,
    heap_size, n, total, squares, largest, histogram, together,
):  # fmt: skip
    """Node by node, so that a node's heap and its row of co-activations stay in the cache.

    Heaps have the weakest at the root; of equals the later position is weaker.
    """
    n_top = heap_value.shape[1]
    n_bins = histogram.shape[1]
    counts_together = together.shape[0] > 0
    bits = np.empty(1, np.float32)
    as_bits = bits.view(np.uint32)
    for j in range(first, last):
        hv, hid = heap_value[j], heap_id[j]
        for e in range(start[j], start[j + 1]):
            i = row[e]
            v = value[i, column[e]]
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
            if heap_size[j] < n_top:
                place = heap_size[j]
                heap_size[j] += 1
                while place > 0:
                    parent = (place - 1) // 2
                    if not _weaker(v, identity[i], hv[parent], hid[parent]):
                        break
                    hv[place], hid[place] = hv[parent], hid[parent]
                    place = parent
            elif _weaker(hv[0], hid[0], v, identity[i]):
                place = 0
                while True:
                    child = 2 * place + 1
                    if child >= n_top:
                        break
                    if child + 1 < n_top and _weaker(
                        hv[child + 1], hid[child + 1], hv[child], hid[child]
                    ):
                        child += 1
                    if not _weaker(hv[child], hid[child], v, identity[i]):
                        break
                    hv[place], hid[place] = hv[child], hid[child]
                    place = child
            else:
                continue
            hv[place], hid[place] = v, identity[i]


@numba.njit(nogil=True, cache=True)
def _count_above(start, value, bounds, above):  # type: ignore[no-untyped-def]
    for j in range(len(start) - 1):
        for e in range(start[j], start[j + 1]):
            for b in range(bounds.shape[0]):
                if value[e] > bounds[b, j]:
                    above[b, j] += 1
