"""What one training step hands on; the steps that make it belong to `steps.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class StepResult(NamedTuple):
    """What a step found before any parameter moved.

    Attributes
    ----------
    squared_error
        Sum over positions and channels of (x_hat - x)², x divided by the channel maxima.
    n_active
        Activations above 0 over all positions.
    fired
        (n_nodes,) bool, nodes that were active at least once.
    lowest
        Smallest activation that was kept; infinity where none was.
    centred
        (n, n_channels) float32, ``y - pre_bias``.
    residual
        (n, n_channels) float32, ``y - y_hat``: what the SAE left unexplained.
    """

    squared_error: float
    n_active: int
    fired: Tensor
    lowest: float
    centred: Tensor
    residual: Callable[[int], Tensor]
