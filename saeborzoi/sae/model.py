"""The sparse autoencoder (SAE) of one layer: its parameters and what they compute.

The plain definition, dense and on any device: what every faster path must agree with. How the
parameters are found belongs to `training.py` and `trainer.py`, how they start to `recipe.py`, how
they are kept to `checkpoint.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from saeborzoi.sae.arrays import as_float32, in_blocks
from saeborzoi.settings.hyperparameters import Variant

EPS = 1e-5
"""Added to the standard deviation before dividing by it, as published."""
MATRYOSHKA_FRACTIONS = (0.0625, 0.25, 1.0)
"""Nested dictionaries of the `matryoshka` variant, as fractions of the nodes."""
MAX_ACTIVE_FACTOR = 4
"""A position of a `batch_topk` SAE keeps at most this many times k nodes."""


class Normalized(NamedTuple):
    """Positions as the SAE sees them.

    Attributes
    ----------
    y
        (..., n_channels) float32, zero mean and unit standard deviation over the channels.
    mean, std
        (..., 1) float32, of the position's channels after division by the channel maxima.
    """

    y: Tensor
    mean: Tensor
    std: Tensor


class Active(NamedTuple):
    """The nodes that each position keeps.

    Attributes
    ----------
    value
        (..., k) float32, activations; 0 where a position has fewer active nodes.
    node
        (..., k) int64, their nodes.
    """

    value: Tensor
    node: Tensor


class SparseAutoencoder(nn.Module):
    """TopK sparse autoencoder on layer-normed activations (sae-borzoi; Gao et al. 2024, eq. 1).

    Activations `x` may have any leading axes: (n_channels,), (n, n_channels), (n_windows,
    n_positions, n_channels); float16, bfloat16, float32 or float64, or numpy's uint16 that holds
    bfloat16 bits, as in shards. A tensor gives tensors on the SAE's device, an array gives arrays.

    With ``x`` a position divided by the channel maxima, ``y`` its layer norm::

        h = relu(W_enc (y - pre_bias) + encoder_bias)
        z = the k largest of h
        x_hat = (W_dec z + pre_bias) * std(x) + mean(x)

    Attributes
    ----------
    encoder_weight, decoder_weight
        (n_nodes, n_channels) float32; row `j` of the decoder is the direction of node `j`.
    encoder_bias
        (n_nodes,) float32.
    pre_bias
        (n_channels,) float32.
    channel_max
        (n_channels,) float32, > 0: normalization constants; not trained.
    threshold
        () float32, `batch_topk` only: a node is active above it once trained; not trained.

    Parameters
    ----------
    n_channels, n_nodes, k
        Sizes; k is the number of active nodes a position (on average, for `batch_topk`).
    variant
        How sparsity is enforced.
    """

    channel_max: Tensor
    threshold: Tensor

    def __init__(self, n_channels: int, n_nodes: int, k: int, variant: Variant = "topk") -> None:
        super().__init__()
        self.n_channels, self.n_nodes, self.k, self.variant = n_channels, n_nodes, k, variant
        self.encoder_weight = nn.Parameter(torch.zeros(n_nodes, n_channels))
        self.encoder_bias = nn.Parameter(torch.zeros(n_nodes))
        self.decoder_weight = nn.Parameter(torch.zeros(n_nodes, n_channels))
        self.pre_bias = nn.Parameter(torch.zeros(n_channels))
        self.register_buffer("channel_max", torch.ones(n_channels))
        self.register_buffer("threshold", torch.zeros(()))

    def extra_repr(self) -> str:
        """Sizes, for `repr`."""
        return (
            f"{self.n_channels:,} channels, {self.n_nodes:,} nodes, k={self.k}, {self.variant}, "
            f"{self.encoder_weight.device}"
        )

    @property
    def max_active(self) -> int:
        """Nodes that one position keeps at most."""
        factor = MAX_ACTIVE_FACTOR if self.variant == "batch_topk" else 1
        return min(self.n_nodes, factor * self.k)

    @property
    def group_ends(self) -> list[int]:
        """Ends (exclusive) of the nested dictionaries; one that holds every node, but for
        `matryoshka`."""
        if self.variant != "matryoshka":
            return [self.n_nodes]
        return sorted({max(1, round(part * self.n_nodes)) for part in MATRYOSHKA_FRACTIONS})

    def normalize(self, x: Tensor | NDArray[np.generic]) -> Normalized:
        """Divide by the channel maxima, then layer norm.

        Parameters
        ----------
        x
            (..., n_channels), activations of the layer as they are in the shards.
        """
        if not isinstance(x, Tensor):
            return Normalized(*in_blocks(self.normalize, x))
        x = as_float32(x, self.n_channels, self.channel_max.device) / self.channel_max
        mean = x.mean(-1, keepdim=True)
        x = x - mean
        std = x.std(-1, keepdim=True)
        return Normalized(x / (std + EPS), mean, std)

    def pre_activations(self, y: Tensor) -> Tensor:
        """(..., n_nodes): ``W_enc (y - pre_bias) + encoder_bias``."""
        return nn.functional.linear(y - self.pre_bias, self.encoder_weight, self.encoder_bias)

    def keep(self, h: Tensor) -> Active:
        """The nodes that a trained SAE keeps of (..., n_nodes) pre-activations."""
        value, node = torch.topk(h.relu(), self.max_active, dim=-1)
        if self.variant == "batch_topk":
            value = torch.where(value > self.threshold, value, 0)
        return Active(value, node)

    def encode(self, x: Tensor | NDArray[np.generic]) -> Active:
        """Active nodes of positions as they are in the shards, the strongest first."""
        if isinstance(x, Tensor):
            return self.keep(self.pre_activations(self.normalize(x).y))
        return Active(*in_blocks(self.encode, x))

    def decode(self, active: Active, normalized: Normalized) -> Tensor:
        """(..., n_channels): the reconstruction of x divided by the channel maxima.

        Parameters
        ----------
        active
            As `encode` gives them, or changed: a node set to zero, or raised.
        normalized
            `normalize(x)` of the same positions, whose mean and spread come back.
        """
        parts = (*active, normalized.mean, normalized.std)
        if not isinstance(active.value, Tensor):
            return in_blocks(lambda *block: (self._decoded(*block),), *parts)[0]
        return self._decoded(*parts)

    def _decoded(self, value: Tensor, node: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        rows = self.decoder_weight[node]
        y_hat = torch.einsum("...k,...kc->...c", value, rows) + self.pre_bias
        return y_hat * std + mean

    def forward(self, x: Tensor | NDArray[np.generic]) -> Tensor:
        """Reconstruction of positions, in the units of the shards: (..., n_channels) float32."""
        if not isinstance(x, Tensor):
            return in_blocks(lambda block: (self.forward(block),), x)[0]
        normalized = self.normalize(x)
        active = self.keep(self.pre_activations(normalized.y))
        return self.decode(active, normalized) * self.channel_max
