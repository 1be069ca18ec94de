"""What one training step hands on; the steps that make it belong to `steps.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

from saeborzoi.sae.ranking import Ranking
from saeborzoi.sae.threads import Threads

OfNodes = Callable[[int, int], None]
"""Work on nodes first ... last."""


class Derive(Protocol):
    """Leaves derivatives in the parameters' `.grad`.

    Calls `then` with ranges that cover all nodes, in any threads, each once the derivatives of its
    nodes are there and nothing looks at their weights any more.
    """

    def __call__(self, then: OfNodes = ...) -> None: ...


def nothing_more(first: int, last: int) -> None:
    """Of nodes whose derivatives are there."""


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
        Of rows first ... last (n, n_channels) float32, ``y - y_hat``: what the SAE left
        unexplained.
    derive
        To be called once.
    threads
        That worked on the step.
    ranking
        What the step ranks nodes by, which follows the SAE; None: nothing.
    """

    squared_error: float
    n_active: int
    fired: Tensor
    lowest: float
    centred: Tensor
    residual: Callable[[int, int], Tensor]
    derive: Derive
    threads: Threads = Threads()  # the caller alone
    ranking: Ranking | None = None
