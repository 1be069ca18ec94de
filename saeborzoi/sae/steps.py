"""One training step's loss and derivatives on a CPU; only the nodes that are kept are touched.

Derivatives are left in the parameters' `.grad`; what is done with those belongs to `trainer.py`. On
a GPU `gpu/` does all of it. Threads meet twice a step: each takes its rows as far as the loss, then
its nodes as far as their new weights.
"""

from __future__ import annotations

import itertools
import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from saeborzoi.activations.reader import Raw
from saeborzoi.sae import kernels
from saeborzoi.sae.distributed import Group
from saeborzoi.sae.model import EPS, SparseAutoencoder
from saeborzoi.sae.ranking import array
from saeborzoi.sae.selector import Selector, block_rows
from saeborzoi.sae.step_result import OfNodes, StepResult, nothing_more

_NODES = 16
"""Nodes whose part in the derivative of `pre_bias` is summed at once."""
_COST_OF_NODE = 16
"""What a node costs whose weights are moved, in entries of which its derivatives are summed."""

_LEAST_WORK = 100_000
"""Numbers that a thread adds up in a tenth of a millisecond."""


class Step(Protocol):
    """Computes derivatives of the mean squared error of a batch."""

    def __call__(self, sae: SparseAutoencoder, raw: Raw) -> StepResult: ...


class SparseStep:
    """The step on a CPU: bfloat16 ranks, float32 decides, and only kept nodes are touched.

    Parameters
    ----------
    threads
        Ranges of rows and of nodes that are worked on at once; the result does not depend on it.
    group
        Processes that share the batch.
    """

    def __init__(self, threads: int = 1, group: Group | None = None) -> None:
        self._selector = Selector(threads)
        self._group = group or Group()

    def __call__(self, sae: SparseAutoencoder, raw: Raw) -> StepResult:
        """See `Step`."""
        selector, buffer = self._selector, self._selector.buffer
        n, n_channels = raw.shape
        select = selector.of_rows(sae, raw, training=True)
        value, node, count = selector.active(sae, n)
        ranges = selector.ranges(n, sae.n_nodes)
        part = {first: i for i, (first, _) in enumerate(ranges)}
        group_end = np.array(sae.group_ends)
        scale = np.float32(1 / (n * n_channels * len(group_end)))
        centred, std = buffer("centred", (n, n_channels)), buffer("std", (n,))
        slope = buffer("slope", (len(group_end), n, n_channels))
        node_slope = buffer("node_slope", value.shape)
        squared_error = buffer("squared_error", (n,))
        start = buffer("start", (len(ranges), sae.n_nodes + 1), np.int64)
        row, column = buffer("entry", (2, value.size), np.int32)
        block = block_rows(n, sae.n_nodes)
        output_slope = buffer("output_slope", (-(-n // block), n_channels), np.float64)
        decoder, pre_bias = array(sae.decoder_weight), array(sae.pre_bias)

        def decode(first: int, last: int) -> None:
            kernels.reconstruct(
                value, node, count, decoder, pre_bias, centred, std, group_end, scale, slope,
                node_slope, squared_error, first, last,
            )  # fmt: skip
            kernels.sum_in_blocks(slope[0], block, output_slope, first, last)
            kernels.sort_by_node(node, count, start[part[first]], row, column, first, last)

        def select_and_decode(first: int, last: int) -> None:
            select(first, last)
            decode(first, last)

        if sae.variant == "batch_topk":
            selector.threads.map(select, ranges)
            _keep_largest_of_batch(value, node, count, sae.k, self._group)
            selector.threads.map(decode, ranges)
        else:
            selector.threads.map(select_and_decode, ranges)
        n_entries = (start[:, 1:] - start[:, :-1]).sum(0)

        def derive(then: OfNodes = nothing_more) -> None:
            encoder_slope, bias_slope, decoder_slope, pre_bias_slope = map(_gradient, (
                sae.encoder_weight, sae.encoder_bias, sae.decoder_weight, sae.pre_bias,
            ))  # fmt: skip
            encoder = array(sae.encoder_weight)
            input_slope = buffer("input_slope", (-(-sae.n_nodes // _NODES), n_channels))

            def of_nodes(first: int, last: int) -> None:
                kernels.weight_slopes(
                    start, row, column, value, node_slope, slope, centred, group_end,
                    encoder_slope, bias_slope, decoder_slope, first, last,
                )  # fmt: skip
                kernels.pre_bias_slopes(bias_slope, encoder, _NODES, input_slope, first, last)
                then(first, last)

            selector.threads.map(of_nodes, _even(n_entries, n_channels, selector.threads.n))
            # pre_bias enters the output, and (subtracted) the encoder's input
            pre_bias_slope[:] = output_slope.sum(0) + input_slope.sum(0, dtype=np.float64)

        def residual(first: int, last: int) -> Tensor:
            spread = np.maximum(std[first:last], EPS)[:, None]
            return torch.from_numpy(slope[-1, first:last] / (-2 * scale * spread * spread))

        return StepResult(
            squared_error=float(squared_error.sum(dtype=np.float64)),
            n_active=int(count.sum()),
            fired=torch.from_numpy(n_entries > 0),
            lowest=_lowest(value, count) if sae.variant == "batch_topk" else math.inf,
            centred=torch.from_numpy(centred),
            residual=residual,
            derive=derive,
            threads=selector.threads,
            ranking=selector.ranking,
        )


def _gradient(parameter: torch.nn.Parameter) -> np.ndarray:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad.numpy()


def _even(n_entries: np.ndarray, n_channels: int, n_parts: int) -> list[tuple[int, int]]:
    """Ranges of nodes, of whole units of `_NODES`, that take about the same time; at most n_parts,
    and none that takes less than handing it to a thread does."""
    n_nodes = len(n_entries)
    done = np.cumsum(n_entries + _COST_OF_NODE)
    n_parts = min(n_parts, max(1, int(done[-1]) * n_channels // _LEAST_WORK))
    if n_parts == 1:
        return [(0, n_nodes)]
    shares = done[-1] * np.arange(1, n_parts) / n_parts
    ends = np.round(np.searchsorted(done, shares) / _NODES).astype(int) * _NODES
    edges = [0, *np.minimum(ends, n_nodes).tolist(), n_nodes]
    return [(a, b) for a, b in itertools.pairwise(edges) if a < b]


def _lowest(value: np.ndarray, count: np.ndarray) -> float:
    held = value[np.arange(value.shape[1]) < count[:, None]]
    return float(held.min()) if held.size else math.inf


def _keep_largest_of_batch(
    value: np.ndarray, node: np.ndarray, count: np.ndarray, k: int, group: Group
) -> None:
    """Keep the k x positions largest activations of the whole batch, which the processes share
    (Bussmann et al. 2024)."""
    held = np.arange(value.shape[1]) < count[:, None]
    n_kept = len(value) * k * group.size
    kept = held & (value >= group.nth_largest(torch.from_numpy(value[held]), n_kept, value.size))
    order = np.argsort(~kept, axis=1, kind="stable")
    value[:] = np.take_along_axis(value, order, 1)
    node[:] = np.take_along_axis(node, order, 1)
    count[:] = kept.sum(1)
