"""How long an SAE is trained, and in which portions."""

from __future__ import annotations

from dataclasses import dataclass

FEWEST_POSITIONS = 3_000_000
"""Positions after which the default recipe has converged on data from a known dictionary."""


@dataclass(frozen=True)
class Schedule:
    """Length of a training; `[training]` of the settings has the same defaults.

    Attributes
    ----------
    n_positions
        Positions to train on, over as many passes as that takes; None: `n_epochs` passes.
    n_epochs
        Passes over the data; None: one, or as many as make 3 million positions.
    batch_size
        Positions of a step; None: 4096, but where that takes fewer than 1,000 steps as many as
        make 1,000 (at least 256).
    buffer_mb
        Memory of the shuffle buffer.
    validate_every_positions
        Positions between two looks at the validation data.
    patience
        Validations without improvement before training stops early.
    checkpoint_every_s
        Seconds between two saved states.
    """

    n_positions: int | None = None
    n_epochs: int | None = None
    batch_size: int | None = None
    buffer_mb: int = 512
    validate_every_positions: int = 2_000_000
    patience: int = 5
    checkpoint_every_s: float = 300

    def total_positions(self, n_available: int) -> int:
        """Positions that a training sees where one pass over the data has `n_available`.

        >>> Schedule().total_positions(299_520), Schedule().total_positions(10**9)
        (3294720, 1000000000)
        >>> Schedule(n_epochs=1).total_positions(1000)
        1000
        >>> Schedule(n_positions=5000, n_epochs=3).total_positions(1000)
        5000
        """
        if self.n_positions is not None:
            return self.n_positions
        n_epochs = self.n_epochs or max(1, -(-FEWEST_POSITIONS // n_available))
        return n_epochs * n_available
