"""AuxK on a CPU: dead nodes learn to explain what the living leave (Gao et al. 2024, section A.2).

Which nodes are dead is the trainer's business. Derivatives are written down, not recorded: the loss
is a product, a selection and a product.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from saeborzoi.sae.distributed import Group
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sae.step_result import StepResult
from saeborzoi.sae.threads import blocks

_ROWS = 256
"""Positions whose derivatives are summed at once, whatever the number of threads."""
_LEAST_WORK = 4_000_000
"""Numbers times dead nodes below which threads wait for the interpreter more than they work."""


class Revival:
    """Derivatives of the auxiliary loss of one batch.

    Parameters
    ----------
    sae
        On the CPU.
    result
        What the step found.
    dead
        (n_dead,) int64, ascending; at least one.
    n_rows
        Positions of the batch that the dead learn from.
    weight
        Of the loss, per mean square of the residual explained. The loss is scaled to the size of
        the main loss, however small the residual is: otherwise Adam's second moment of a node
        would change by orders of magnitude when the node comes to life.
    group
        Processes that share the batch.
    """

    def __init__(
        self,
        sae: SparseAutoencoder,
        result: StepResult,
        dead: Tensor,
        n_rows: int,
        weight: float,
        group: Group,
    ) -> None:
        self._sae, self._dead = sae, dead.numpy()
        encoder, bias, decoder = (
            _two_at_least(parameter.detach()[dead])
            for parameter in (sae.encoder_weight, sae.encoder_bias, sae.decoder_weight)
        )
        n_active = max(1, sae.n_channels // 2)
        n = min(n_rows, len(result.centred))

        def slopes(first: int, last: int) -> tuple[float, list[Tensor]]:
            y, residual = result.centred[first:last], result.residual(first, last)
            z = torch.addmm(bias, y, encoder.T).relu_()
            if len(dead) > n_active:
                value, node = torch.topk(z, n_active, dim=-1)
                z = torch.zeros_like(z).scatter_(-1, node, value)
            error = torch.addmm(residual, z, decoder, beta=-1)
            h_slope = (error @ decoder.T).mul_(z > 0)
            squares = float(residual.double().square().sum())
            return squares, [h_slope.T @ y, h_slope.sum(0), z.T @ error]

        with torch.no_grad():
            is_small = n * sae.n_channels * len(dead) < _LEAST_WORK
            work = result.threads.alone if is_small else result.threads.map
            parts = work(slopes, blocks(n, _ROWS))
        squares = torch.tensor(sum(square for square, _ in parts) / (n * sae.n_channels))
        variance = max(1e-12, float(group.mean(squares)))
        self._scale = 2 * weight / (n * sae.n_channels * variance)
        self._slopes = [part for _, part in parts]

    def add(self, first: int, last: int) -> None:
        """Add to the derivatives of nodes `first ... last`."""
        a, b = np.searchsorted(self._dead, (first, last)).tolist()
        if a == b:
            return
        sae = self._sae
        for i, parameter in enumerate((sae.encoder_weight, sae.encoder_bias, sae.decoder_weight)):
            assert parameter.grad is not None
            total = self._slopes[0][i][a:b].clone()
            for part in self._slopes[1:]:
                total += part[i][a:b]
            parameter.grad.index_add_(
                0, torch.from_numpy(self._dead[a:b]), total, alpha=self._scale
            )


def _two_at_least(rows: Tensor) -> Tensor:
    """With a row of zeros behind a single one: a product with a vector adds up in an order that
    depends on where memory begins."""
    return rows if len(rows) > 1 else torch.cat([rows, torch.zeros_like(rows)])
