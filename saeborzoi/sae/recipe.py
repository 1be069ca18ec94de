"""Training recipes: how an SAE is initialized and what is done to it besides the gradient.

`benchmarks/sae.md` has the table that the default follows from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from saeborzoi.activations.loader import to_float32
from saeborzoi.activations.reader import Raw
from saeborzoi.sae import kernels
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sae.threads import Threads, blocks
from saeborzoi.sae.vectors import CACHED_ROWS
from saeborzoi.settings.hyperparameters import Hyperparameters, derived_seed


@dataclass(frozen=True)
class TrainingRecipe:
    """What distinguishes one way of training from another.

    Attributes
    ----------
    start
        Directions of the nodes: random, or each that of one channel.
    tied_init
        The encoder starts as the decoder's transpose; else both as `torch.nn.Linear` does.
    unit_norm
        Decoder rows keep norm 1, and the gradient along them is removed.
    centre
        What `pre_bias` starts as: zeros, the mean or the geometric median of the data.
    aux_weight
        Weight of the auxiliary loss that lets dead nodes explain the residual (AuxK); 0 is off.
    dead_after
        Positions without firing after which a node counts as dead (a 30th of the training where
        that is less).
    aux_rows
        Positions of each batch from which dead nodes learn.
    warmup, decay
        Shares of the steps in which the learning rate rises from 0, and falls to 0.
    betas, eps
        Adam's moment decays, and what is added to the root of the second moment. A rare node's
        gradient is small (1e-9), and an eps above it would slow the node down.
    """

    start: Literal["random", "identity"] = "random"
    tied_init: bool = True
    unit_norm: bool = True
    centre: Literal["none", "mean", "median"] = "mean"
    aux_weight: float = 1 / 32
    dead_after: int = 100_000
    aux_rows: int = 1024
    warmup: float = 0.02
    decay: float = 0.3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-12

    def learning_rate(self, step: int, n_steps: int, peak: float) -> float:
        """Learning rate of step 0, 1, ... of n_steps."""
        rise = max(1.0, self.warmup * n_steps) if self.warmup else 0.0
        fall = self.decay * n_steps
        factor = min(1.0, (step + 1) / rise) if rise else 1.0
        if fall:
            factor = min(factor, (n_steps - step) / fall)
        return peak * factor


RECIPES: dict[str, TrainingRecipe] = {
    "default": TrainingRecipe(),
    "published": TrainingRecipe(
        tied_init=False,
        unit_norm=False,
        centre="none",
        aux_weight=0,
        warmup=0,
        decay=0,
        eps=1e-8,
    ),
    # what the default starts from
    "untrained": TrainingRecipe(),
    "channels": TrainingRecipe(start="identity"),
}


def initialize(
    sae: SparseAutoencoder,
    recipe: TrainingRecipe,
    hyperparameters: Hyperparameters,
    sample: torch.Tensor | Raw,
    threads: Threads | None = None,
) -> None:
    """Set the parameters that training starts from.

    Parameters
    ----------
    sae
        On the CPU, with its channel maxima; changed in place.
    recipe
        Says how.
    hyperparameters
        Seed the random numbers.
    sample
        (n, n_channels), activations as in the shards: what centring looks at.
    threads
        That share the work; the result does not depend on them.
    """
    generator = torch.Generator().manual_seed(derived_seed("init", hyperparameters.seed))

    def uniform(*shape: int, fan_in: int) -> torch.Tensor:
        bound = fan_in**-0.5
        return torch.rand(*shape, generator=generator) * (2 * bound) - bound

    with torch.no_grad():
        if recipe.start == "identity":
            sae.decoder_weight.copy_(torch.eye(sae.n_nodes, sae.n_channels))
            sae.encoder_weight.copy_(sae.decoder_weight)
        elif recipe.tied_init:
            rows = torch.randn(sae.n_nodes, sae.n_channels, generator=generator)
            rows /= torch.linalg.vector_norm(rows, dim=1, keepdim=True)
            sae.decoder_weight.copy_(rows)
            sae.encoder_weight.copy_(rows)
        else:
            sae.encoder_weight.copy_(uniform(sae.n_nodes, sae.n_channels, fan_in=sae.n_channels))
            columns = uniform(sae.n_channels, sae.n_nodes, fan_in=sae.n_nodes)
            sae.decoder_weight.copy_(columns.T)
            if recipe.unit_norm:
                normalize_decoder(sae)
        if recipe.centre != "none":
            stored = sample.numpy() if isinstance(sample, torch.Tensor) else sample
            normalized, mean = _normalized(sae, stored, threads or Threads())
            centre = torch.from_numpy(mean)
            if recipe.centre == "median":
                centre = _geometric_median(torch.from_numpy(np.concatenate(normalized)), centre)
            sae.pre_bias.copy_(centre)


def _normalized(
    sae: SparseAutoencoder, stored: Raw, threads: Threads
) -> tuple[list[NDArray[np.float32]], NDArray[np.float32]]:
    """Layer norm of positions in blocks, and its mean (n_channels,)."""
    n, n_channels = stored.shape
    channel_max, nothing = sae.channel_max.numpy(), np.zeros(n_channels, np.float32)

    def of_rows(first: int, last: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        y = np.empty((last - first, n_channels), np.float32)
        bits = np.empty(y.shape, np.uint16)
        std, length = np.empty((2, len(y)), np.float32)
        total = np.empty((1, n_channels))
        x = to_float32(stored[first:last]).numpy()
        kernels.prepare(x, channel_max, nothing, y, bits, std, length, 0, len(y))
        kernels.sum_in_blocks(y, len(y), total, 0, len(y))
        return y, total[0]

    normalized, totals = zip(*threads.map(of_rows, blocks(n, CACHED_ROWS)), strict=True)
    return list(normalized), (np.sum(totals, axis=0) / n).astype(np.float32)


def _geometric_median(y: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """Point with the least sum of distances to the rows of y, by Weiszfeld's iteration."""
    centre = start
    for _ in range(100):
        weight = 1 / torch.linalg.vector_norm(y - centre, dim=1).clamp_min(1e-6)
        moved = (weight[:, None] * y).sum(0) / weight.sum()
        if torch.linalg.vector_norm(moved - centre) < 1e-6 * torch.linalg.vector_norm(moved):
            return moved
        centre = moved
    return centre


def normalize_decoder(sae: SparseAutoencoder) -> None:
    """Scale every decoder row to norm 1."""
    with torch.no_grad():
        norm = torch.linalg.vector_norm(sae.decoder_weight, dim=1, keepdim=True)
        sae.decoder_weight.div_(norm.clamp_min(np.finfo(np.float32).tiny))
