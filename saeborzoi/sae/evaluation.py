"""How well an SAE explains positions: computed freshly, never from a training's running sums."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from saeborzoi.activations.loader import to_float32
from saeborzoi.activations.reader import Raw
from saeborzoi.sae import kernels
from saeborzoi.sae.model import EPS, SparseAutoencoder
from saeborzoi.sae.steps import Selector, array
from saeborzoi.sae.vectors import CACHED_ROWS, TILE


class Evaluation(NamedTuple):
    """Figures of an SAE on some positions.

    Attributes
    ----------
    n_positions
        Positions looked at.
    loss
        Mean of (x_hat - x)² over positions and channels, x divided by the channel maxima.
    fvu
        Fraction of variance unexplained, sum (x - x_hat)² / sum (x - mean x)².
    l0
        Mean number of active nodes a position.
    dead_fraction
        Share of nodes that never fire on these positions.
    explained_variance
        (n_channels,) float64, 1 - FVU of each channel; NaN where a channel is constant.
    """

    n_positions: int
    loss: float
    fvu: float
    l0: float
    dead_fraction: float
    explained_variance: NDArray[np.float64]


def evaluate(sae: SparseAutoencoder, batches: Iterable[Raw], threads: int = 1) -> Evaluation:
    """Evaluate an SAE on batches of positions as stored, (n, n_channels) each; at least one."""
    device = sae.encoder_weight.device
    selector = Selector(threads, finished=sae if device.type == "cpu" else None)
    n_positions, n_active = 0, 0
    unexplained = np.zeros(sae.n_channels)
    moments = Moments(sae.n_channels)
    fired = torch.zeros(sae.n_nodes, dtype=torch.bool, device=device)
    with torch.no_grad():
        for raw in batches:
            if device.type == "cpu":
                for start in range(0, len(raw), CACHED_ROWS):
                    block = raw[start : start + CACHED_ROWS]
                    moments.add(to_float32(block) / sae.channel_max)
                node, active = _add_unexplained(selector, sae, raw, unexplained)
            else:
                x = to_float32(raw, device)
                moments.add(x / sae.channel_max)
                normalized = sae.normalize(x)
                value, node = sae.keep(sae.pre_activations(normalized.y))
                y_hat = torch.nn.functional.embedding_bag(
                    node, sae.decoder_weight, mode="sum", per_sample_weights=value
                ).add_(sae.pre_bias)
                error = y_hat.mul_(normalized.std).sub_(normalized.y.mul_(normalized.std + EPS))
                unexplained += error.square_().sum(0, dtype=torch.float64).cpu().numpy()
                active = value > 0
            fired[node[active]] = True
            n_active += int(active.sum())
            n_positions += len(raw)
    total = moments.squares
    with np.errstate(invalid="ignore", divide="ignore"):
        explained = np.where(total > 0, 1 - unexplained / total, np.nan)
        fvu = float(unexplained.sum() / total.sum())
    return Evaluation(
        n_positions=n_positions,
        loss=float(unexplained.sum() / (n_positions * sae.n_channels)),
        fvu=fvu,
        l0=n_active / n_positions,
        dead_fraction=1 - float(fired.float().mean()),
        explained_variance=explained,
    )


class Moments:
    """Mean and sum of squared deviations of each channel, merged batch by batch (Chan 1979)."""

    def __init__(self, n_channels: int) -> None:
        self.n = 0
        self.mean = np.zeros(n_channels)
        self.squares = np.zeros(n_channels)

    def add(self, x: torch.Tensor) -> None:
        """Take in (n, n_channels) values, on any device."""
        mean = x.mean(0)
        squares = (x - mean).square_().sum(0).double().cpu().numpy()
        delta = mean.double().cpu().numpy() - self.mean
        total = self.n + len(x)
        self.squares += squares + delta**2 * (self.n * len(x) / total)
        self.mean += delta * (len(x) / total)
        self.n = total


def _add_unexplained(
    selector: Selector, sae: SparseAutoencoder, raw: Raw, error: NDArray[np.float64]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add the squared error of each channel, of positions on the CPU.

    Returns nodes (n, max_active), and which of them are active.
    """
    value, node, count = selector(sae, raw)
    decoder, pre_bias = array(sae.decoder_weight), array(sae.pre_bias)
    centred = selector.buffer("centred", raw.shape)
    std = selector.buffer("std", (len(raw),))
    selector.over(
        -(-sae.n_channels // TILE),
        lambda a, b: kernels.unexplained(
            value, node, count, decoder, pre_bias, centred, std, error, a, b
        ),
    )
    active = np.arange(value.shape[1]) < count[:, None]
    return torch.from_numpy(node), torch.from_numpy(active)
