"""Adam on a CPU, with what else happens to a parameter once a step.

The mathematics of `torch.optim.Adam`, whose first use imports PyTorch's compiler (a second and a
half), and which would pass over all parameters once more for each thing that is done to them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.autograd.graph import increment_version

from saeborzoi.sae import adam_kernels
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sae.ranking import Ranking
from saeborzoi.sae.recipe import TrainingRecipe

_OF_NODES = ("encoder_weight", "encoder_bias", "decoder_weight")
_NO_RANKING = np.empty((0, 0), np.uint16), np.empty(0, np.float32)


class Adam:
    """Moves one SAE on the CPU by the derivatives in its parameters' `.grad`.

    A step is `begin`, `move_nodes` of ranges that cover all nodes, in any threads, and `end`.

    Parameters
    ----------
    sae
        Changed in place.
    recipe
        Betas and eps, and whether decoder rows keep norm 1.
    """

    def __init__(self, sae: SparseAutoencoder, recipe: TrainingRecipe) -> None:
        self._sae, self._recipe = sae, recipe
        self._n_done = 0
        self._rates = np.zeros(7, np.float32)
        self._parameters = dict(sae.named_parameters())
        self._moments = {
            name: (torch.zeros_like(p).detach(), torch.zeros_like(p).detach())
            for name, p in self._parameters.items()
        }
        self._arrays: dict[str, tuple[np.ndarray, ...]] = {}

    def begin(self, learning_rate: float) -> None:
        """Begin the next step."""
        self._n_done += 1
        beta_1, beta_2 = self._recipe.betas
        rate = learning_rate / (1 - beta_1**self._n_done)
        root = (1 - beta_2**self._n_done) ** -0.5
        self._rates[:] = (
            beta_1, 1 - beta_1, beta_2, 1 - beta_2, rate, root, self._recipe.eps
        )  # fmt: skip
        self._arrays = {name: self._arrays_of(name) for name in self._parameters}

    def move_nodes(self, first: int, last: int, ranking: Ranking | None) -> None:
        """Move the weights of nodes `first ... last`.

        Parameters
        ----------
        ranking
            Of this SAE; kept up to date.
        """
        encoder, bias, decoder = (self._arrays[name] for name in _OF_NODES)
        bits, size = _NO_RANKING if ranking is None else (ranking.weight, ranking.size)
        has_unit_norm = self._recipe.unit_norm
        adam_kernels.move_nodes(
            encoder, bias, decoder, self._rates, has_unit_norm, bits, size, first, last
        )

    def end(self, ranking: Ranking | None) -> None:
        """Move what belongs to no node, once all nodes were moved."""
        for name, (weight, slope, mean, square) in self._arrays.items():
            if name not in _OF_NODES:
                adam_kernels.move(weight, slope, mean, square, self._rates, False, 0, 1)
        increment_version(list(self._parameters.values()))
        if ranking is not None:
            ranking.is_current(self._sae)

    def moments(self) -> list[dict[str, torch.Tensor]]:
        """See `TrainerBase`."""
        if not self._n_done:
            return []
        step = torch.tensor(float(self._n_done))
        return [
            {"step": step.clone(), "exp_avg": mean, "exp_avg_sq": square}
            for mean, square in self._moments.values()
        ]

    def set_moments(self, moments: list[dict[str, torch.Tensor]]) -> None:
        """See `TrainerBase`."""
        self._n_done = int(moments[0]["step"]) if moments else 0
        for own, saved in zip(self._moments.values(), moments, strict=bool(moments)):
            for tensor, name in zip(own, ("exp_avg", "exp_avg_sq"), strict=True):
                tensor.copy_(saved[name])

    def _arrays_of(self, name: str) -> tuple[np.ndarray, ...]:
        """A parameter, its derivative and moments, as rows; a vector is one row."""
        parameter = self._parameters[name]
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        assert parameter.is_contiguous()
        tensors = (parameter.detach(), parameter.grad, *self._moments[name])
        return tuple(t.numpy() if t.ndim > 1 else t.numpy().reshape(1, -1) for t in tensors)
