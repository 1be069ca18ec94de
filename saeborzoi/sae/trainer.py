"""One SAE in training on a CPU: optimizer and reviving of dead nodes.

The loop over data belongs to `training.py`, what a step computes to `steps.py`, figures, early
stopping and state to `trainer_base.py`.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from saeborzoi.activations.loader import to_float32
from saeborzoi.activations.reader import Raw
from saeborzoi.sae.adam import Adam
from saeborzoi.sae.distributed import Group
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sae.recipe import TrainingRecipe
from saeborzoi.sae.reviving import Revival
from saeborzoi.sae.step_result import StepResult
from saeborzoi.sae.steps import Step
from saeborzoi.sae.trainer_base import TrainerBase, WindowSums
from saeborzoi.settings.hyperparameters import Hyperparameters


class Trainer(TrainerBase):
    """One SAE in training by a step that the host follows.

    Parameters
    ----------
    sae, hyperparameters, recipe, n_steps, batch_size, variance
        See `TrainerBase`.
    step
        Computes derivatives.
    group
        Processes that train it together.
    """

    def __init__(
        self,
        sae: SparseAutoencoder,
        hyperparameters: Hyperparameters,
        recipe: TrainingRecipe,
        n_steps: int,
        batch_size: int,
        variance: float,
        step: Step,
        group: Group | None = None,
    ) -> None:
        super().__init__(sae, hyperparameters, recipe, n_steps, batch_size, variance)
        self.since_fired = torch.zeros(sae.n_nodes, dtype=torch.int64)
        self._step = step
        self._group = group or Group()
        self._adam = Adam(sae, recipe)
        self._window = WindowSums(0.0, 0, 0)

    def train_step(self, raw: Raw) -> None:
        """Move the SAE by one batch.

        Raises
        ------
        TrainingError
            Where the loss is not finite; the SAE is as it was before the step.
        """
        result = self._group.merged(self._step(self.sae, self._group.part(raw)))
        if not math.isfinite(result.squared_error):
            self.data_is_finite = bool(torch.isfinite(to_float32(raw)).all())
            raise self.not_finite(self.n_done + 1)
        since_fired = self.since_fired.numpy()  # a third of the time of PyTorch's operations
        since_fired += len(raw)
        since_fired[result.fired.numpy()] = 0
        self._move(result)
        if self.sae.variant == "batch_topk" and math.isfinite(result.lowest):
            past = self.threshold_memory if self.n_done else 0.0
            self.sae.threshold.mul_(past).add_(result.lowest, alpha=1 - past)
        self.n_done += 1
        window = self._window
        self._window = WindowSums(
            window.squared_error + result.squared_error,
            window.n_active + result.n_active,
            window.n_positions + len(raw),
        )

    def window(self) -> WindowSums:
        """See `TrainerBase`; never raises, as `train_step` does."""
        return self._window

    def set_window(self, window: WindowSums) -> None:
        """See `TrainerBase`."""
        self._window = window

    def moments(self) -> list[dict[str, torch.Tensor]]:
        """See `TrainerBase`."""
        return self._adam.moments()

    def set_moments(self, moments: list[dict[str, torch.Tensor]]) -> None:
        """See `TrainerBase`."""
        self._adam.set_moments(moments)

    def _move(self, result: StepResult) -> None:
        revival = self._revival(result)
        self._adam.begin(self.learning_rate)

        def revive(first: int, last: int) -> None:
            if revival is not None:
                revival.add(first, last)

        def revive_and_move(first: int, last: int) -> None:
            revive(first, last)
            self._adam.move_nodes(first, last, result.ranking)

        if self._group.size == 1:
            result.derive(revive_and_move)
        else:
            result.derive(revive)
            self._group.average_gradients(self.sae.parameters())
            self._adam.move_nodes(0, self.sae.n_nodes, result.ranking)
        self._adam.end(result.ranking)

    def _revival(self, result: StepResult) -> Revival | None:
        """What dead nodes learn from the batch."""
        dead = np.flatnonzero(self.since_fired.numpy() >= self.dead_after)
        if not self.recipe.aux_weight or not len(dead):
            return None
        n_rows = max(1, self.recipe.aux_rows // self._group.size)
        weight = self.recipe.aux_weight * self.variance / self.sae.n_channels
        return Revival(self.sae, result, torch.from_numpy(dead), n_rows, weight, self._group)
