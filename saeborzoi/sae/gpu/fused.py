"""The parts of a training step as kernels: selection, sparse decoding with slopes, Adam.

A position keeps k of n_nodes, and the decoder's rows of those are read once, for the reconstruction
and its derivatives. What is dense stays with PyTorch's products.
"""

from __future__ import annotations

import math

import torch
import triton
from torch import Tensor

from saeborzoi.sae.gpu import kernels, row_selection
from saeborzoi.sae.gpu.buffers import Batch, Progress, Weights
from saeborzoi.sae.gpu.plain import Constants, PlainLayer
from saeborzoi.sae.model import EPS

_UPDATE_ROWS = 4
"""Nodes of a program of `kernels.update`."""


class FusedLayer(PlainLayer):
    """See `PlainLayer`, whose parts these are."""

    name = "fused kernels"

    def __init__(
        self, weights: Weights, batch: Batch, progress: Progress, constants: Constants
    ) -> None:
        super().__init__(weights, batch, progress, constants)
        self._n, self._n_nodes = batch.h.shape
        self._n_channels, self._padded = len(weights.scale), batch.y.shape[1]
        self._k = batch.kept.shape[1]
        self._k_block = triton.next_power_of_2(self._k)
        self._ends = torch.tensor([0, *batch.group_ends], dtype=torch.int32).to(batch.h.device)
        self._adam = {
            "EPS": constants.eps, "BETA1": constants.betas[0], "BETA2": constants.betas[1],
        }  # fmt: skip

    @property
    def selection(self) -> str:
        """What compiles the selection."""
        return "NVRTC" if row_selection.fits(self.batch.h, self._k) else "Triton"

    def prepare(self) -> None:
        """See `PlainLayer`."""
        b, w = self.batch, self.weights
        kernels.prepare[(self._n,)](
            b.raw, w.scale, w.pre_bias, b.y, b.mean, b.std, C=self._n_channels, CP=self._padded,
            BLOCK=triton.next_power_of_2(self._padded), EPS=EPS, num_warps=1,
        )  # fmt: skip

    def select(self) -> None:
        """See `PlainLayer`; empties `z` and `slope` where the last step filled them."""
        b = self.batch
        fastest_select(b.h, b.kept, b.z, b.slope)

    def decode(self) -> None:
        """See `PlainLayer`."""
        b, w = self.batch, self.weights
        block, warps = decode_block(self._k_block)
        kernels.decode[(self._n,)](
            b.raw, w.scale, w.pre_bias, b.mean, b.std, b.kept, w.decoder_half, self._ends, b.s,
            b.z, b.slope, b.fired, b.error, b.residual, self.constants.gain,
            B=self._n, N=self._n_nodes, K=self._k, KP=self._k_block, C=self._n_channels,
            CP=self._padded, CB=block, GROUPS=len(b.group_ends), N_AUX=len(b.residual), EPS=EPS,
            num_warps=warps,
        )  # fmt: skip

    def advance(self) -> None:
        """See `PlainLayer`."""
        p, c = self.progress, self.constants
        kernels.advance[(1,)](
            p.done, p.failed, p.sums, p.total, p.rates, c.learning_rate, c.n_steps, c.rise, c.fall,
            LOG_BETA1=math.log(c.betas[0]), LOG_BETA2=math.log(c.betas[1]),
            RISES=c.rise > 0, FALLS=c.fall > 0, num_warps=1,
        )  # fmt: skip

    def select_dead(self, z: Tensor) -> None:
        """See `PlainLayer`."""
        b, p, c = self.batch, self.progress, self.constants
        kernels.select_dead[(len(z),)](
            b.h, p.since_fired, b.fired, z, c.dead_after, c.batch_size, N=self._n_nodes,
            K=c.n_dead_kept, BLOCK=triton.next_power_of_2(self._n_nodes), num_warps=4,
        )  # fmt: skip

    def update(self) -> None:
        """See `PlainLayer`."""
        w, b, p, c = self.weights, self.batch, self.progress, self.constants
        encoder, decoder = b.gradient[0], b.gradient[1]
        has_aux = b.aux_encoder is not None
        kernels.update[(triton.cdiv(self._n_nodes, _UPDATE_ROWS),)](
            w.encoder, encoder, b.aux_encoder if has_aux else encoder, w.encoder_mean,
            w.encoder_square, w.encoder_half, w.decoder, decoder,
            b.aux_decoder if has_aux else decoder, w.decoder_mean, w.decoder_square,
            w.decoder_half, p.rates, p.since_fired, b.fired, c.batch_size, c.gradient_scale,
            N=self._n_nodes, C=self._n_channels, CP=self._padded,
            BLOCK=triton.next_power_of_2(self._padded), ROWS=_UPDATE_ROWS, AUX=has_aux,
            UNIT=c.unit_norm, num_warps=8 if self._n_channels < 1024 else 4, **self._adam,
        )  # fmt: skip
        kernels.update_vector[(triton.cdiv(self._n_channels, 256),)](
            w.pre_bias, b.pre_bias_sum, w.pre_bias_mean, w.pre_bias_square, p.rates,
            c.gradient_scale, self._n_channels, BLOCK=256, num_warps=4, **self._adam,
        )  # fmt: skip


def fastest_select(
    h: Tensor, kept: Tensor, z: Tensor | None = None, slope: Tensor | None = None
) -> None:
    """As `select`, by NVRTC's kernel where that fits."""
    if row_selection.fits(h, kept.shape[1]):
        row_selection.select(h, kept, z, slope)
    else:
        select(h, kept, z, slope)


def score(y: Tensor, encoder: Tensor, bias: Tensor, kept: Tensor) -> Tensor:
    """(rows, k) float32, pre-activations of the nodes of ``kept``; see `kernels.score`."""
    n, k = kept.shape
    out = torch.empty(n, k, device=y.device)
    k_block = triton.next_power_of_2(k)
    block, warps = decode_block(k_block)
    kernels.score[(n,)](
        y, encoder, bias, kept, out, K=k, KP=k_block, C=y.shape[1], CB=block, num_warps=warps
    )
    return out


def select(h: Tensor, kept: Tensor, z: Tensor | None = None, slope: Tensor | None = None) -> None:
    """``kept`` (rows, k) of ``h`` (rows, n_nodes) half, by Triton; see `plain.largest`.

    Parameters
    ----------
    z, slope
        (rows, n_nodes) half, made 0 where the list that `kept` held names an entry.
    """
    n_rows, n_nodes = h.shape
    k = kept.shape[1]
    first, second = tiles(n_nodes)
    kernels.select[(n_rows,)](
        h, kept, h if z is None else z, h if slope is None else slope, N=n_nodes, K=k,
        KP=triton.next_power_of_2(k), R1=first, R2=second, CLEAR=z is not None, num_warps=1,
    )  # fmt: skip


def decode_block(k_block: int) -> tuple[int, int]:
    """Channels of a piece of `kernels.decode` and its warps, so that the piece of every row fits
    the registers.

    >>> decode_block(32), decode_block(64), decode_block(128)
    ((128, 1), (64, 1), (64, 2))
    """
    block = 128 if k_block <= 32 else 64
    return block, max(1, k_block * block // 4096)


def tiles(n_nodes: int) -> tuple[int, int]:
    """Rows of 256 of the two tiles, powers of two, that hold a row together.

    >>> tiles(2432), tiles(4224), tiles(80)
    ((8, 2), (16, 1), (1, 1))
    """
    rows = -(-n_nodes // 256)
    first = 1 << (rows.bit_length() - 1)
    return first, triton.next_power_of_2(max(1, rows - first))
