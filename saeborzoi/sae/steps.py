"""One training step's loss and derivatives on a CPU; only the nodes that are kept are touched.

Derivatives are left in the parameters' `.grad`; what is done with those belongs to `trainer.py`. On
a GPU `gpu/` does all of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from saeborzoi.activations.loader import to_float32
from saeborzoi.activations.reader import Raw
from saeborzoi.sae import kernels, selection
from saeborzoi.sae.distributed import Group
from saeborzoi.sae.model import EPS, SparseAutoencoder
from saeborzoi.sae.step_result import StepResult

_ROWS = 512
"""Positions that are ranked at once: the ranks of all nodes stay in the cache until the highest are
found."""


class Step(Protocol):
    """Computes derivatives of the mean squared error of a batch."""

    def __call__(self, sae: SparseAutoencoder, raw: Raw) -> StepResult: ...


class _Ranking(NamedTuple):
    """What ranks nodes: the encoder in bfloat16, and its largest row norm with the bias's."""

    weight: Tensor
    bias: Tensor
    norm: np.float32

    @classmethod
    def of(cls, sae: SparseAutoencoder) -> _Ranking:
        weight, bias = sae.encoder_weight.detach(), sae.encoder_bias.detach()
        norm = torch.linalg.vector_norm(weight, dim=1).max() + bias.abs().max()
        return cls(weight.bfloat16(), bias.bfloat16(), np.float32(norm))


class Selector:
    """Finds the active nodes of positions on the CPU; used in training and in inference.

    Parameters
    ----------
    threads
        Ranges of rows that are worked on at once; the result does not depend on it.
    finished
        An SAE whose parameters will not change: the only one to be asked about.
    """

    def __init__(self, threads: int = 1, finished: SparseAutoencoder | None = None) -> None:
        self.threads = threads
        self._ranking = _Ranking.of(finished) if finished is not None else None
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._buffers: dict[str, np.ndarray] = {}

    def buffer(self, name: str, shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
        """A reused array; its contents are whatever was there."""
        if name not in self._buffers or self._buffers[name].shape != shape:
            self._buffers[name] = np.empty(shape, dtype)
        return self._buffers[name]

    def over(self, n: int, work: Callable[[int, int], None]) -> None:
        """Call `work(first, last)` on ranges that cover 0 ... n-1."""
        if self._pool is None:
            work(0, n)
            return
        ends = np.linspace(0, n, self.threads + 1).astype(int).tolist()
        list(self._pool.map(work, ends[:-1], ends[1:]))

    def __call__(
        self, sae: SparseAutoencoder, raw: Raw, *, training: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Active nodes of positions as stored.

        Parameters
        ----------
        sae
            On the CPU.
        raw
            (n, n_channels), as stored in shards.
        training
            Ignore the threshold of a `batch_topk` SAE: the batch decides.

        Returns
        -------
        (value, node, count)
            (n, max_active) float32 and int32, of which the first count[i] of row i hold; (n,)
            int32. Buffers that the next call overwrites; `centred` and `std` are left in
            buffers of those names.
        """
        n, n_channels = raw.shape
        keep = sae.max_active
        centred = self.buffer("centred", (n, n_channels))
        std, length = self.buffer("std", (n,)), self.buffer("length", (n,))
        value = self.buffer("value", (n, keep))
        node = self.buffer("node", (n, keep), np.int32)
        count = self.buffer("count", (n,), np.int32)
        channel_max, pre_bias = sae.channel_max.numpy(), array(sae.pre_bias)
        ranking = self._ranking or _Ranking.of(sae)
        weight, bias = array(sae.encoder_weight), array(sae.encoder_bias)
        by_floor = sae.variant == "batch_topk" and not training
        floor = np.float32(sae.threshold) if by_floor else np.float32(0)
        width = selection.capacity(keep)
        candidate = self.buffer("candidate", (n, width), np.int32)
        rank = self.buffer("rank", (n, width), np.int16)
        score = self.buffer("score", (n, width))
        n_candidates = self.buffer("n_candidates", (n,), np.int32)
        bound = self.buffer("bound", (n,))
        at_once = _ROWS * self.threads
        bits = self.buffer("bits", (min(n, at_once), n_channels), np.uint16)

        def rank_rows(rows: slice) -> None:
            x = to_float32(raw[rows]).numpy()
            self.over(
                len(x),
                lambda a, b: kernels.prepare(
                    x, channel_max, pre_bias, centred[rows], bits, std[rows], length[rows], a, b
                ),
            )
            y = torch.from_numpy(bits[: len(x)]).view(torch.bfloat16)
            approximate = torch.nn.functional.linear(y, ranking.weight, ranking.bias)
            ranked = approximate.view(torch.int16).numpy()
            self.over(
                len(x),
                lambda a, b: selection.candidates(
                    ranked, length[rows], ranking.norm, n_channels, keep, floor, by_floor,
                    bound[rows], candidate[rows], rank[rows], n_candidates[rows], a, b,
                ),
            )  # fmt: skip

        def decide(a: int, b: int) -> None:
            kernels.score(centred, weight, bias, candidate, n_candidates, score, a, b)
            selection.keep_largest(
                centred, weight, bias, keep, floor, bound, candidate, rank, score, n_candidates,
                value, node, count, a, b,
            )  # fmt: skip

        for start in range(0, n, at_once):
            rank_rows(slice(start, start + at_once))
        self.over(n, decide)
        return value, node, count


class SparseStep:
    """The step on a CPU: bfloat16 ranks, float32 decides, and only kept nodes are touched.

    Parameters
    ----------
    threads
        See `Selector`.
    group
        Processes that share the batch.
    """

    def __init__(self, threads: int = 1, group: Group | None = None) -> None:
        self._selector = Selector(threads)
        self._group = group or Group()

    def __call__(self, sae: SparseAutoencoder, raw: Raw) -> StepResult:
        """See `Step`."""
        selector, buffer = self._selector, self._selector.buffer
        value, node, count = selector(sae, raw, training=True)
        n, n_channels = raw.shape
        if sae.variant == "batch_topk":
            _keep_largest_of_batch(value, node, count, sae.k, self._group)
        group_end = np.array(sae.group_ends)
        scale = np.float32(1 / (n * n_channels * len(group_end)))
        centred, std = buffer("centred", (n, n_channels)), buffer("std", (n,))
        slope = buffer("slope", (len(group_end), n, n_channels))
        node_slope = buffer("node_slope", value.shape)
        squared_error = buffer("squared_error", (n,))
        encoder, decoder = array(sae.encoder_weight), array(sae.decoder_weight)
        pre_bias = array(sae.pre_bias)
        selector.over(
            n,
            lambda a, b: kernels.reconstruct(
                value, node, count, decoder, pre_bias, centred, std, group_end, scale, slope,
                node_slope, squared_error, a, b,
            ),
        )  # fmt: skip
        start, row, column = kernels.by_node(node, count, sae.n_nodes)
        encoder_slope, bias_slope, decoder_slope, pre_bias_slope = (
            _gradient(parameter)
            for parameter in (
                sae.encoder_weight, sae.encoder_bias, sae.decoder_weight, sae.pre_bias,
            )
        )  # fmt: skip
        selector.over(
            sae.n_nodes,
            lambda a, b: kernels.weight_slopes(
                start, row, column, value, node_slope, slope, centred, group_end, encoder_slope,
                bias_slope, decoder_slope, a, b,
            ),
        )  # fmt: skip
        # pre_bias enters the output, and (subtracted) the encoder's input
        pre_bias_slope[:] = slope[0].sum(0, dtype=np.float64) - bias_slope @ encoder
        n_active = int(count.sum())

        def residual(n_rows: int) -> Tensor:
            slope_of_rows = slope[-1][:n_rows]
            spread = np.maximum(std[:n_rows], EPS)[:, None]
            return torch.from_numpy(slope_of_rows / (-2 * scale * spread * spread))

        return StepResult(
            squared_error=float(squared_error.sum(dtype=np.float64)),
            n_active=n_active,
            fired=torch.from_numpy(np.diff(start) > 0),
            lowest=_lowest(value, count) if sae.variant == "batch_topk" else math.inf,
            centred=torch.from_numpy(centred),
            residual=residual,
        )


def array(parameter: Tensor) -> np.ndarray:
    """A CPU parameter's memory as an array; a copy where its rows have gaps."""
    return np.ascontiguousarray(parameter.detach().numpy())


def _gradient(parameter: torch.nn.Parameter) -> np.ndarray:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad.numpy()


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
