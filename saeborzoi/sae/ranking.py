"""What ranks an SAE's nodes on a CPU: its encoder in bfloat16, kept up to date as the SAE moves."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from saeborzoi.sae import adam_kernels
from saeborzoi.sae.aligned import aligned_zeros
from saeborzoi.sae.model import SparseAutoencoder

_ONE = 0x3F80
"""Bits of 1 in bfloat16."""
_DEPTH = 32
"""Numbers that a matrix unit takes at once: the product's depth is a multiple of it."""


class Ranking:
    """The encoder of an SAE on the CPU, rounded.

    Attributes
    ----------
    weight
        (n_nodes, width) uint16, bits in bfloat16: the node's weights, its bias, zeros.
    size
        (n_nodes,) float32, the Euclidean norm of each node's weights.

    Notes
    -----
    It follows what PyTorch's operations do to the SAE. What moves parameters by other means says so
    to PyTorch (`increment_version`), or writes `weight` and `size` along and calls `is_current`.
    """

    def __init__(self, sae: SparseAutoencoder) -> None:
        width = -(-(sae.n_channels + 1) // _DEPTH) * _DEPTH
        self._n_channels = sae.n_channels
        self.weight = aligned_zeros((sae.n_nodes, width), np.uint16)
        self.size = np.empty(sae.n_nodes, np.float32)
        self._transposed = as_bfloat16(self.weight).T
        self._state: tuple[int, ...] = ()

    def is_like(self, sae: SparseAutoencoder) -> bool:
        """Whether an SAE has the same sizes."""
        return (len(self.weight), self._n_channels) == (sae.n_nodes, sae.n_channels)

    def follow(self, sae: SparseAutoencoder) -> None:
        """Take up what happened to the encoder since the last call."""
        if self._state != _state(sae):
            weight, bias = array(sae.encoder_weight), array(sae.encoder_bias)
            adam_kernels.round_rows(weight, bias, self.weight, self.size, 0, sae.n_nodes)
            self.is_current(sae)

    def is_current(self, sae: SparseAutoencoder) -> None:
        """`weight` and `size` are those of the SAE as it is."""
        self._state = _state(sae)

    def bound(self, sae: SparseAutoencoder) -> np.float32:
        """The largest norm of a node's weights, with the largest bias."""
        return np.float32(self.size.max() + np.abs(array(sae.encoder_bias)).max())

    def positions(self, n: int) -> np.ndarray:
        """Memory for n positions, (n, width) uint16: channels in bfloat16 (zeros so far), 1, 0."""
        bits = aligned_zeros((n, self.weight.shape[1]), np.uint16)
        bits[:, self._n_channels] = _ONE
        return bits

    def product(self, bits: np.ndarray, out: Tensor) -> np.ndarray:
        """Rough pre-activations of positions.

        Parameters
        ----------
        bits
            (n, width) uint16 from `positions`.
        out
            (>= n, n_nodes) bfloat16, overwritten.

        Returns
        -------
        ndarray
            (n, n_nodes) int16, bits in bfloat16.
        """
        ranks = torch.mm(as_bfloat16(bits), self._transposed, out=out[: len(bits)])
        return ranks.view(torch.int16).numpy()


def array(parameter: Tensor) -> np.ndarray:
    """A CPU parameter's memory as an array; a copy where its rows have gaps."""
    return np.ascontiguousarray(parameter.detach().numpy())


def as_bfloat16(bits: np.ndarray) -> Tensor:
    """The same memory as numbers."""
    return torch.from_numpy(bits).view(torch.bfloat16)


def _state(sae: SparseAutoencoder) -> tuple[int, ...]:
    encoder = (sae.encoder_weight, sae.encoder_bias)
    return tuple(n for parameter in encoder for n in (parameter.data_ptr(), parameter._version))
