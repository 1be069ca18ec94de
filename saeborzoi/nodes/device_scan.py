"""The pass over positions on a GPU: what `top_activations.py` computes, block by block.

Activations are exact in float32. A node's strongest positions are found by a running floor: what
does not reach the node's N-th largest so far is dropped where it is computed, and the few that do
are merged by sorting. How often two nodes are active together is a product of matrices of 0 and 1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from torch import Tensor

from saeborzoi.activations.loader import SlabPlan
from saeborzoi.jobs.job import Progress, silent
from saeborzoi.nodes import node_figures
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
from saeborzoi.sae.gpu.buffers import HALF
from saeborzoi.sae.gpu.feed import blocks
from saeborzoi.sae.gpu.products import product
from saeborzoi.sae.gpu.selector import DeviceSelector
from saeborzoi.sae.model import SparseAutoencoder

BLOCK_POSITIONS = 16_384
"""Positions of a block, about; the result does not depend on it."""
MERGED_AT = 4_000_000
"""Candidates that wait before they are merged, beside those that stand."""


def scan_on_device(
    sae: SparseAutoencoder,
    plan: SlabPlan,
    n_top: int,
    strong_fraction: float,
    threads: int = 1,
    progress: Progress = silent,
    work: Path | None = None,
) -> NodeActivations:
    """See `top_activations.top_activations`; the SAE is on the device."""
    device = sae.encoder_weight.device
    selector, sums, top = DeviceSelector(sae), Sums(sae), Top(sae.n_nodes, n_top, device)
    done, n_passes = 0, 1
    with torch.no_grad(), Spill(work) as spill:
        for block in blocks(plan, device, BLOCK_POSITIONS, threads):
            value, node = selector(block.raw)
            _require_finite(value, plan)
            sums.add(value, node)
            top.add(value, node, block.identity)
            spill.append(*(x.cpu().numpy() for x in _by_node(value, node, sae.n_nodes)))
            done += len(value)
            report(progress, done, plan.n_positions)
        figures = sums.figures()
        above = _Above(torch.from_numpy(figures.bounds(strong_fraction)).to(device))
        if spill.is_whole:
            for start, values in spill.read():
                above.add(torch.from_numpy(start).to(device), torch.tensor(values, device=device))
        else:
            n_passes, done = 2, 0
            for block in blocks(plan, device, BLOCK_POSITIONS, threads):
                above.add(*_by_node(*selector(block.raw), sae.n_nodes))
                done += len(block.raw)
                progress("counting strong positions", done, plan.n_positions)
    return NodeActivations(
        top.table(plan.source.n_positions),
        figures.table(plan.n_positions, above.counts.cpu().numpy()),
        sums.coactivation(),
        n_passes,
    )


def _require_finite(value: Tensor, plan: SlabPlan) -> None:
    """Activations of the SAE are finite where the data is; else reading names the place."""
    if not torch.isfinite(value).all():
        for _ in plan.in_order():
            pass


def _by_node(value: Tensor, node: Tensor, n_nodes: int) -> tuple[Tensor, Tensor]:
    """Activations above 0 in order of node, and where each node's begin (n_nodes + 1,) int32."""
    owner = node.where(value > 0, n_nodes).flatten().int()
    ordered, place = torch.sort(owner, stable=True)
    edges = torch.arange(n_nodes + 1, dtype=torch.int32, device=value.device)
    start = torch.searchsorted(ordered, edges).int()
    return start, value.flatten()[place[: int(start[-1])]]


class Sums:
    """Counts and sums of every node, and of every pair."""

    def __init__(self, sae: SparseAutoencoder) -> None:
        n, device = sae.n_nodes, sae.encoder_weight.device

        def zeros(*shape: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(*shape, dtype=dtype, device=device)

        self._count = zeros(n, dtype=torch.int64)
        self._total, self._squares = zeros(2, n, dtype=torch.float64)
        self._largest = zeros(n, dtype=torch.float32)
        self._histogram = zeros(n * N_BINS, dtype=torch.int64)
        width = n if n <= node_figures.MAX_COACTIVATION_NODES else 0
        self._together = zeros(width, width, dtype=torch.int64)
        self._of_block = zeros(width, width, dtype=torch.float32)

    def add(self, value: Tensor, node: Tensor) -> None:
        """Take in (n, k) activations and their nodes."""
        n = len(self._count)
        z = torch.zeros(len(value), n, device=value.device).scatter_add_(1, node, value)
        is_active = z > 0
        self._count += is_active.sum(0)
        self._total += z.sum(0, dtype=torch.float64)
        self._squares += z.square().sum(0, dtype=torch.float64)
        torch.maximum(self._largest, z.amax(0), out=self._largest)
        slot = (value.view(torch.int32) >> BIN_SHIFT).sub_(FIRST_BITS).clamp_(0, N_BINS - 1)
        fires = (value > 0).to(torch.int64)
        self._histogram.index_add_(0, (node * N_BINS + slot).flatten(), fires.flatten())
        if len(self._together):
            ones = is_active.to(HALF)
            product(ones.T, ones, self._of_block)  # exact: a block has fewer than 2^24 positions
            self._together += self._of_block.to(torch.int64)

    def figures(self) -> NodeSums:
        """What was summed up."""
        sums = self._count, self._total, self._squares, self._largest
        count, total, squares, largest = (x.cpu().numpy() for x in sums)
        histogram = self._histogram.view(-1, N_BINS).cpu().numpy()
        return NodeSums(count, total, squares, largest, histogram)

    def coactivation(self) -> scipy.sparse.csr_array | None:
        """See `NodeActivations`."""
        if not len(self._together):
            return None
        upper = torch.triu(self._together, 1).cpu().numpy().astype(np.uint32)
        return scipy.sparse.csr_array(upper)


class Top:
    """The strongest positions of every node, of equals the earlier one."""

    def __init__(self, n_nodes: int, n_top: int, device: torch.device) -> None:
        self._n_nodes, self._n_top = n_nodes, n_top
        self._floor = torch.zeros(n_nodes, device=device)
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []
        self._n_waiting = 0

    def add(self, value: Tensor, node: Tensor, identity: Tensor) -> None:
        """Take in (n, k) activations, their nodes and (n,) positions."""
        row, place = torch.nonzero((value > 0) & (value >= self._floor[node]), as_tuple=True)
        self._parts.append((node[row, place], identity[row], value[row, place]))
        self._n_waiting += len(row)
        if self._n_waiting > MERGED_AT:
            self._merge()

    def _merge(self) -> Tensor:
        """Leave each node its strongest, in order; their ranks."""
        node, identity, value = (torch.cat(part) for part in zip(*self._parts, strict=True))
        order = torch.argsort(identity)
        order = order[torch.argsort(value[order], descending=True, stable=True)]
        order = order[torch.argsort(node[order], stable=True)]
        node, identity, value = node[order], identity[order], value[order]
        first = torch.searchsorted(node, torch.arange(self._n_nodes, device=node.device))
        rank = torch.arange(len(node), device=node.device) - first[node]
        stays = rank < self._n_top
        node, identity, value, rank = node[stays], identity[stays], value[stays], rank[stays]
        is_last = rank == self._n_top - 1
        self._floor[node[is_last]] = value[is_last]
        self._parts, self._n_waiting = [(node, identity, value)], 0
        return rank

    def table(self, n_positions: int) -> pd.DataFrame:
        """See `NodeActivations.top`."""
        rank = self._merge()
        node, identity, value = (x.cpu().numpy() for x in self._parts[0])
        return top_table(node, rank.cpu().numpy(), identity, value, n_positions)


class _Above:
    """How many activations of each node are above bounds (n_bounds, n_nodes) float64."""

    def __init__(self, bounds: Tensor) -> None:
        self._bounds = bounds
        self.counts = torch.zeros(bounds.shape, dtype=torch.int64, device=bounds.device)

    def add(self, start: Tensor, value: Tensor) -> None:
        """Take in activations in order of node; see `_by_node`."""
        n_nodes = self._bounds.shape[1]
        nodes = torch.arange(n_nodes, device=value.device)
        node = nodes.repeat_interleave(start.diff().to(torch.int64))
        for bound, count in zip(self._bounds, self.counts, strict=True):
            count.index_add_(0, node, (value.double() > bound[node]).to(torch.int64))
