"""The parts of a training step between its matrix products, in PyTorch alone.

Every GPU that PyTorch knows runs them, and a CPU; nothing waits for the device. `fused.py` has the
same parts as kernels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from saeborzoi.sae.gpu.buffers import HALF, LARGEST, Batch, Progress, Weights
from saeborzoi.sae.gpu.products import product
from saeborzoi.sae.model import EPS


class Constants(NamedTuple):
    """What does not change while an SAE trains.

    Attributes
    ----------
    learning_rate, n_steps, rise, fall
        Peak, steps of the schedule, and those in which the rate rises and falls (0: none).
    betas, eps
        Adam's.
    unit_norm
        Whether decoder rows keep norm 1.
    gain
        What slopes are multiplied by while they are in half precision.
    gradient_scale
        What takes `Batch.gradient` to the derivative of the loss.
    batch_size
        Positions of a step, of all processes.
    dead_after, n_dead_kept
        Positions without firing that make a node dead, and the dead nodes a position may use.
    """

    learning_rate: float
    n_steps: int
    rise: float
    fall: float
    betas: tuple[float, float]
    eps: float
    unit_norm: bool
    gain: float
    gradient_scale: float
    batch_size: int
    dead_after: int
    n_dead_kept: int


def pack(value: Tensor, node: Tensor) -> Tensor:
    """Half activations, 0 or above, and their nodes as `Batch.kept` has them."""
    return value.view(torch.int16).to(torch.int32) << 16 | node.to(torch.int32).where(value > 0, 0)


def unpack(kept: Tensor) -> tuple[Tensor, Tensor]:
    """Half activations and int64 nodes of `Batch.kept`."""
    return (kept >> 16).to(torch.int16).view(HALF), (kept & 0xFFFF).to(torch.int64)


def largest(h: Tensor, n: int, out: Tensor) -> None:
    """``out`` (rows, n) int32: the n largest of each row that are above 0, packed."""
    value, node = torch.topk(h, n, dim=1)
    out.copy_(pack(value.clamp_min(0), node))


def to_half(x: Tensor) -> Tensor:
    """Half precision, without infinities where x is finite."""
    return x.clamp(-LARGEST, LARGEST).to(HALF)


class PlainLayer:
    """Parts of the step; each reads and writes `Weights`, `Batch` and `Progress`."""

    name = "plain PyTorch"

    def __init__(
        self, weights: Weights, batch: Batch, progress: Progress, constants: Constants
    ) -> None:
        self.weights, self.batch, self.progress, self.constants = (
            weights, batch, progress, constants,
        )  # fmt: skip
        self._centred = torch.zeros_like(batch.residual, dtype=torch.float32)

    def prepare(self) -> None:
        """Layer norm: `y`, `mean` and `std` of the positions as stored."""
        b, w = self.batch, self.weights
        C = len(w.scale)
        x = b.raw.to(torch.float32) * w.scale
        torch.mean(x, 1, out=b.mean)
        x = x - b.mean[:, None]
        torch.sqrt(x.square().sum(1) / (C - 1), out=b.std)
        b.y[:, :C] = to_half(x / (b.std + EPS)[:, None] - w.pre_bias)
        self._centred = x

    def select(self) -> None:
        """`kept` of `h`."""
        largest(self.batch.h, self.batch.kept.shape[1], self.batch.kept)

    def decode(self) -> None:
        """Reconstruct from `kept`, and differentiate: `z`, `slope`, `s`, `error`, `fired`,
        `residual`.

        With ``r_m = std (pre_bias + sum over nodes below the end of m of z W_dec) - (x - mean)``
        the loss is the mean of |r_m|² over nested dictionaries m, of which `topk` has one.
        """
        b, w, c = self.batch, self.weights, self.constants
        C = len(w.scale)
        b.z.zero_()
        value, node = unpack(b.kept)
        # an absent entry is 0 at node 0, which may be kept by itself
        b.z.scatter_add_(1, node, value)
        b.fired.copy_((b.z > 0).any(0))
        outputs, start = [w.pre_bias.expand(len(b.z), -1)], 0
        part = torch.empty_like(self._centred)
        for end in b.group_ends:
            product(b.z[:, start:end], w.decoder_half[start:end], part)
            outputs.append(outputs[-1] + part)
            start = end
        slope = torch.zeros_like(part)
        std = b.std[:, None]
        for group in reversed(range(len(b.group_ends))):
            r = outputs[group + 1] * std - self._centred
            if end == b.group_ends[group]:
                torch.sum(r.square(), 1, out=b.error)
            slope = slope + r * (std * c.gain)
            s = to_half(slope)
            b.s[group, :, :C] = s
            start, last = ([0, *b.group_ends])[group : group + 2]
            to_nodes = torch.empty_like(b.slope[:, start:last], dtype=torch.float32)
            product(s, w.decoder_half[start:last].T, to_nodes)
            b.slope[:, start:last] = to_half(to_nodes.where(b.z[:, start:last] > 0, 0))
        n_aux = len(b.residual)
        y = self._centred[:n_aux] / (std[:n_aux] + EPS)
        b.residual.copy_(to_half(y - outputs[-1][:n_aux]))

    def advance(self) -> None:
        """Figures of the batch (`total`) into those of the training; schedule and Adam's
        corrections of this step; whether anything moves."""
        p, c = self.progress, self.constants
        failing = (p.failed == 0) & ~torch.isfinite(p.total[0])
        step = torch.where(torch.isfinite(p.total[2]), p.done + 1, -p.done - 1)
        p.failed.copy_(torch.where(failing, step, p.failed))
        moves = p.failed == 0
        p.sums.add_(p.total[:2].where(moves, 0))
        t = (p.done + 1).double()
        factor = (t / c.rise).clamp_max(1) if c.rise else torch.ones_like(t)
        if c.fall:
            factor = torch.minimum(factor, (c.n_steps - p.done.double()) / c.fall)
        p.rates[0] = c.learning_rate * factor / (1 - c.betas[0] ** t)
        p.rates[1] = (1 - c.betas[1] ** t).rsqrt()
        p.rates[2] = moves
        p.done.add_(moves)

    def select_dead(self, z: Tensor) -> None:
        """`z` (n_aux, n_nodes) half, 0 but for the dead nodes that AuxK uses at each position."""
        b, p, c = self.batch, self.progress, self.constants
        is_dead = (b.fired == 0) & (p.since_fired + c.batch_size >= c.dead_after)
        h = b.h[: len(z)].where(is_dead, 0).clamp_min(0)
        value, node = torch.topk(h, min(c.n_dead_kept, h.shape[1]), dim=1)
        z.zero_()
        z.scatter_(1, node, value)

    def update(self) -> None:
        """Adam, where something moves: every weight, its moments and half-precision copy; rows of
        the decoder to norm 1; positions since each node fired."""
        w, b, p, c = self.weights, self.batch, self.progress, self.constants
        moves = p.rates[2] > 0
        C = len(w.scale)
        encoder, decoder = b.gradient[0], b.gradient[1, :, :C]
        if b.aux_encoder is not None and b.aux_decoder is not None:
            encoder, decoder = encoder + b.aux_encoder, decoder + b.aux_decoder
        if c.unit_norm:
            along = (decoder * w.decoder).sum(1, keepdim=True)
            decoder = decoder - along * w.decoder
        for gradient, weight, mean, square in (
            (encoder, w.encoder, w.encoder_mean, w.encoder_square),
            (decoder, w.decoder, w.decoder_mean, w.decoder_square),
            (b.pre_bias_sum, w.pre_bias, w.pre_bias_mean, w.pre_bias_square),
        ):
            g = (gradient * c.gradient_scale).where(moves, 0)
            mean.lerp_(g, (1 - c.betas[0]) * p.rates[2])
            square.lerp_(g * g, (1 - c.betas[1]) * p.rates[2])
            divisor = square.sqrt() * p.rates[1] + c.eps
            weight.sub_(mean / divisor * (p.rates[0] * p.rates[2]))
        if c.unit_norm:
            norm = torch.linalg.vector_norm(w.decoder, dim=1, keepdim=True)
            w.decoder.div_(norm.clamp_min(np.finfo(np.float32).tiny).where(moves, 1))
        w.refresh()
        since = (p.since_fired + c.batch_size).where(b.fired == 0, 0)
        p.since_fired.copy_(since.where(moves, p.since_fired))
