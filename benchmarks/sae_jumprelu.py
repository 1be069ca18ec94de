"""JumpReLU (Rajamanoharan et al. 2024, arXiv 2407.14435) for the ablation: a threshold a node.

A node fires above its own threshold, which is trained through a rectangle kernel's
straight-through estimator against a penalty on L0. The penalty's coefficient is steered so that
the mean L0 is k, and what is left of the difference is taken out at the end by one common factor
on the thresholds: figures are at equal L0. Not one of the product's variants; see `sae.md`.
`sae_ablation.py` trains it. Run by itself, this prints how far the fast step's derivatives are
from the plain definition's.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saeborzoi.activations.loader import to_float32
from saeborzoi.activations.reader import Raw
from saeborzoi.sae import kernels
from saeborzoi.sae.model import EPS, SparseAutoencoder
from saeborzoi.sae.ranking import array
from saeborzoi.sae.selector import Selector
from saeborzoi.sae.step_result import StepResult, nothing_more
from saeborzoi.sae.trainer import Trainer
from saeborzoi.sae.trainer_base import TrainerBase
from saeborzoi.sae.training import Trained, TrainingLoop, in_batches


@dataclass(frozen=True)
class JumpRelu:
    """What JumpReLU brings in besides the recipe.

    Attributes
    ----------
    bandwidth
        Width of the kernel, in units of an activation (layer-normed channels).
    speed
        Learning rate of the logarithm of the thresholds, in units of the other parameters'.
    steering
        How fast the penalty's coefficient follows L0: log change a step for L0 = 2 k.
    """

    bandwidth: float = 1.0
    speed: float = 2.0
    steering: float = 0.03


class _Fires(torch.autograd.Function):
    """Heaviside(h - theta); along theta its slope is -K((h - theta) / bandwidth) / bandwidth, K a
    rectangle of area 1; along h it has none."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, theta: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(h, theta)
        ctx.bandwidth = bandwidth
        return (h > theta).to(h.dtype)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[None, Tensor, None]:
        h, theta = ctx.saved_tensors
        near = (h - theta).abs() < ctx.bandwidth / 2
        return None, -(slope * near).sum(0) / ctx.bandwidth, None


class JumpReluAutoencoder(SparseAutoencoder):
    """An SAE whose thresholds are trained: exp(speed x log_threshold), (n_nodes,)."""

    def __init__(self, sae: SparseAutoencoder, sample: Tensor, options: JumpRelu) -> None:
        """Take over an initialized SAE; the thresholds let k nodes of a position fire."""
        super().__init__(sae.n_channels, sae.n_nodes, sae.k)
        self.load_state_dict(sae.state_dict())
        self.options = options
        with torch.no_grad():
            y = self.normalize(sample)
            h = self.pre_activations(y.y).relu()
            theta = _threshold_for(h, self.k)
            self.penalty = theta**2 * float(y.std.square().mean()) / self.n_channels
        start = torch.full((self.n_nodes,), float(np.log(theta)) / options.speed)
        self.log_threshold = nn.Parameter(start)

    def theta(self) -> Tensor:
        """(n_nodes,), an activation must be above it."""
        return (self.options.speed * self.log_threshold).exp()

    def steer(self, l0: float) -> None:
        """Raise the penalty where more than k nodes of a position fire, else lower it."""
        error = np.clip(l0 / self.k - 1, -1, 1)
        self.penalty *= float(np.exp(self.options.steering * error))

    def as_candidates(self) -> SparseAutoencoder:
        """One that shares the weights and keeps what is within the kernel's width of firing."""
        sae = SparseAutoencoder(self.n_channels, self.n_nodes, 4 * self.k, "batch_topk")
        sae.encoder_weight.data = self.encoder_weight.data
        sae.pre_bias.data = self.pre_bias.data
        sae.channel_max.copy_(self.channel_max)
        sae.threshold.fill_(-self.options.bandwidth / 2)
        return sae

    def as_batchwise(self, factor: float) -> SparseAutoencoder:
        """The same function as a `batch_topk` SAE: scaled so that every threshold is 1."""
        theta = (factor * self.theta()).detach()[:, None]
        sae = SparseAutoencoder(self.n_channels, self.n_nodes, 4 * self.k, "batch_topk")
        with torch.no_grad():
            sae.encoder_weight.copy_(self.encoder_weight / theta)
            sae.encoder_bias.copy_(self.encoder_bias / theta[:, 0])
            sae.decoder_weight.copy_(self.decoder_weight * theta)
            sae.pre_bias.copy_(self.pre_bias)
        sae.channel_max.copy_(self.channel_max)
        sae.threshold.fill_(1.0)
        return sae

    def factor_for_l0(self, sample: Tensor) -> float:
        """What the thresholds must be multiplied with so that k nodes of a position fire."""
        with torch.no_grad():
            h = self.pre_activations(self.normalize(sample).y)
            return _threshold_for(h / self.theta(), self.k)


def _threshold_for(values: Tensor, k: int) -> float:
    """What k x rows of (rows, nodes) values are above."""
    return float(torch.topk(values.flatten(), len(values) * k).values[-1])


class JumpReluStep:
    """Loss and derivatives of a batch, in plain PyTorch: the definition."""

    def __call__(self, sae: SparseAutoencoder, raw: Raw) -> StepResult:
        """See `Step`."""
        assert isinstance(sae, JumpReluAutoencoder)
        with torch.no_grad():
            y, _, std = sae.normalize(to_float32(raw, sae.pre_bias.device))
        for parameter in sae.parameters():
            parameter.grad = None
        h = sae.pre_activations(y)
        fires = _Fires.apply(h, sae.theta(), sae.options.bandwidth)
        # h Heaviside(h - theta), of which the paper takes the slope along theta at h = theta
        z = h * fires.detach() + sae.theta().detach() * (fires - fires.detach())
        y_hat = z @ sae.decoder_weight + sae.pre_bias
        squared_error = (y_hat * std - y * (std + EPS)).square().sum()
        n_active = fires.sum()
        loss = squared_error / y.numel() + sae.penalty * n_active / len(y)
        loss.backward()
        sae.steer(float(n_active.detach()) / len(y))
        return StepResult(
            squared_error=float(squared_error.detach()),
            n_active=int(n_active),
            fired=fires.detach().any(0),
            lowest=0.0,
            centred=(y - sae.pre_bias).detach(),
            residual=lambda first, last: (y - y_hat)[first:last].detach(),
            derive=lambda then=nothing_more: then(0, sae.n_nodes),
        )


class JumpReluSparseStep:
    """The same, touching only nodes that fire or are within the kernel's width of it.

    With the thresholds taken off the bias, those are the nodes above half the bandwidth below 0:
    what the product's kernels find and differentiate.
    """

    def __init__(self, threads: int = 1) -> None:
        self._selector = Selector(threads)
        self._shifted: SparseAutoencoder | None = None

    def __call__(self, sae: SparseAutoencoder, raw: Raw) -> StepResult:
        """See `Step`."""
        assert isinstance(sae, JumpReluAutoencoder)
        selector, buffer, (n, n_channels) = self._selector, self._selector.buffer, raw.shape
        width = sae.options.bandwidth
        theta = sae.theta().detach()
        shifted = self._shifted or sae.as_candidates()
        self._shifted = shifted
        shifted.encoder_bias.data = sae.encoder_bias.data - theta
        value, node, count = selector(shifted, raw)
        held = np.arange(value.shape[1]) < count[:, None]
        value[~held] = 0
        node[~held] = 0
        fires = held & (value > 0)
        near = held & (value < width / 2)
        value += theta.numpy()[node]
        value[~fires] = 0
        group_end = np.array([sae.n_nodes])
        scale = np.float32(1 / raw.size)
        centred, std = buffer("centred", (n, n_channels)), buffer("std", (n,))
        slope = buffer("slope", (1, n, n_channels))
        node_slope = buffer("node_slope", value.shape)
        squared_error = buffer("squared_error", (n,))
        kernels.reconstruct(
            value, node, count, array(sae.decoder_weight), array(sae.pre_bias), centred, std,
            group_end, scale, slope, node_slope, squared_error, 0, n,
        )  # fmt: skip
        # of the error by way of z = h Heaviside(h - theta), and of the penalty
        at = near.nonzero()
        along = theta.numpy()[node[at]] * node_slope[at] + np.float32(sae.penalty / n)
        by_theta = np.bincount(node[at], along, sae.n_nodes) / -width
        node_slope[~fires] = 0
        start, row, column = kernels.by_node(node, count, sae.n_nodes)
        slopes = [torch.empty_like(p) for p in (sae.encoder_weight, sae.encoder_bias)]
        slopes.append(torch.empty_like(sae.decoder_weight))
        encoder_slope, bias_slope, decoder_slope = (array(slope) for slope in slopes)
        kernels.weight_slopes(
            start[None], row, column, value, node_slope, slope, centred, group_end, encoder_slope,
            bias_slope, decoder_slope, 0, sae.n_nodes,
        )  # fmt: skip
        sae.encoder_weight.grad, sae.encoder_bias.grad, sae.decoder_weight.grad = slopes
        into_pre_bias = slope[0].sum(0, dtype=np.float64) - bias_slope @ array(sae.encoder_weight)
        sae.pre_bias.grad = torch.from_numpy(into_pre_bias.astype(np.float32))
        by_log = torch.from_numpy(by_theta.astype(np.float32)) * theta * sae.options.speed
        sae.log_threshold.grad = by_log
        n_active = int(fires.sum())
        sae.steer(n_active / n)

        def residual(first: int, last: int) -> Tensor:
            spread = np.maximum(std[first:last], EPS)[:, None]
            return torch.from_numpy(slope[0, first:last] / (-2 * scale * spread * spread))

        fired = np.bincount(node[fires], minlength=sae.n_nodes) > 0
        return StepResult(
            squared_error=float(squared_error.sum(dtype=np.float64)),
            n_active=n_active,
            fired=torch.from_numpy(fired),
            lowest=0.0,
            centred=torch.from_numpy(centred),
            residual=residual,
            derive=lambda then=nothing_more: then(0, sae.n_nodes),
        )


class JumpReluLoop(TrainingLoop):
    """The product's loop with a JumpReLU SAE in it; gives a `batch_topk` SAE that computes it."""

    options = JumpRelu()

    def _trainers(self, *arguments: Any) -> list[Trainer]:
        return [
            Trainer(
                JumpReluAutoencoder(t.sae, self._spread(4096), self.options), t.hyperparameters,
                t.recipe, t.n_steps, t.batch_size, t.variance, JumpReluSparseStep(self.threads),
            )
            for t in super()._trainers(*arguments)
        ]  # fmt: skip

    def _trained(self, trainer: TrainerBase, batch_size: int, seconds: float) -> Trained:
        trained = super()._trained(trainer, batch_size, seconds)
        sae = trained.sae
        assert isinstance(sae, JumpReluAutoencoder)
        factor = sae.factor_for_l0(self._spread(16_384))
        return dataclasses.replace(trained, sae=sae.as_batchwise(factor))

    def _spread(self, n: int) -> Tensor:
        """Training positions spread over the files."""
        parts = [raw[:: max(1, len(raw) // 64)] for raw in in_batches(self.data.train)]
        rows = np.concatenate(parts)
        return to_float32(rows[np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(int)])


def main() -> None:
    """Print the relative difference of the two steps' derivatives."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, 64, generator=generator)
    plain = SparseAutoencoder(64, 256, 4)
    with torch.no_grad():
        for weight in (plain.encoder_weight, plain.decoder_weight):
            weight.copy_(torch.randn(weight.shape, generator=generator) / 8)
    one, two = (JumpReluAutoencoder(plain, x, JumpRelu()) for _ in range(2))
    JumpReluStep()(one, x.numpy())
    JumpReluSparseStep()(two, x.numpy())
    for (name, a), b in zip(one.named_parameters(), two.parameters(), strict=True):
        difference = torch.linalg.vector_norm(a.grad - b.grad) / torch.linalg.vector_norm(a.grad)
        print(f"{name}: {float(difference):.1e}")


if __name__ == "__main__":
    main()
