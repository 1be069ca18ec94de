"""How well an SAE explains positions: computed freshly, never from a training's running sums."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from saeborzoi.activations.loader import to_float32
from saeborzoi.activations.reader import Raw
from saeborzoi.sae import kernels
from saeborzoi.sae.model import EPS, SparseAutoencoder
from saeborzoi.sae.ranking import array
from saeborzoi.sae.selector import Selector, block_rows
from saeborzoi.sae.threads import Threads, blocks
from saeborzoi.sae.vectors import CACHED_ROWS


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
    selector = Selector(threads)
    n_positions, n_active = 0, 0
    unexplained = np.zeros(sae.n_channels)
    moments = Moments(sae.n_channels)
    fired = torch.zeros(sae.n_nodes, dtype=torch.bool, device=device)
    with torch.no_grad():
        for raw in batches:
            n_positions += len(raw)
            if device.type == "cpu":
                n_active += _add_batch(selector, sae, raw, moments, unexplained, fired.numpy())
                continue
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
        self.merge(len(x), mean.double().cpu().numpy(), squares)

    def add_blocks(self, raw: Raw, channel_max: torch.Tensor, threads: Threads) -> None:
        """Take in positions as stored, divided by the channel maxima, on the CPU.

        In blocks that do not depend on the threads.
        """
        n, n_channels = raw.shape
        reciprocal = 1 / channel_max.numpy()

        def of_rows(first: int, last: int) -> tuple[int, NDArray[Any], NDArray[Any]]:
            mean, squares = np.empty((2, n_channels))
            x = to_float32(raw[first:last]).numpy()
            kernels.moments(x, reciprocal, mean, squares)
            return last - first, mean, squares

        for part in threads.map(of_rows, blocks(n, CACHED_ROWS)):
            self.merge(*part)

    def merge(self, n: int, mean: NDArray[np.float64], squares: NDArray[np.float64]) -> None:
        """Take in n positions by their mean and sum of squared deviations."""
        delta = mean - self.mean
        total = self.n + n
        self.squares += squares + delta**2 * (self.n * n / total)
        self.mean += delta * (n / total)
        self.n = total


def _add_batch(
    selector: Selector,
    sae: SparseAutoencoder,
    raw: Raw,
    moments: Moments,
    unexplained: NDArray[np.float64],
    fired: NDArray[np.bool_],
) -> int:
    """Take in positions on the CPU: squared error of each channel, nodes that fire, moments.

    Returns how many activations there are.
    """
    n, n_channels = raw.shape
    select = selector.of_rows(sae, raw)
    value, node, count = selector.active(sae, n)
    decoder, pre_bias = array(sae.decoder_weight), array(sae.pre_bias)
    centred, std = selector.buffer("centred", (n, n_channels)), selector.buffer("std", (n,))
    block = block_rows(n, sae.n_nodes)
    error = np.zeros((-(-n // block), n_channels))

    def work(first: int, last: int) -> None:
        select(first, last)
        for start in range(first, last, block):
            kernels.unexplained(
                value, node, count, decoder, pre_bias, centred, std, error[start // block], start,
                min(start + block, last),
            )  # fmt: skip

    selector.threads.map(work, selector.ranges(n, sae.n_nodes))
    moments.add_blocks(raw, sae.channel_max, selector.threads)
    unexplained += error.sum(0)
    fired[node[np.arange(node.shape[1]) < count[:, None]]] = True
    return int(count.sum())
