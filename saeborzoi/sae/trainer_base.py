"""One SAE in training, whatever computes its steps: running figures, early stopping, its state.

The steps themselves belong to `trainer.py` (a CPU) and `gpu/trainer.py` (a GPU).
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch

from saeborzoi.errors import TrainingError
from saeborzoi.sae.evaluation import Evaluation
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sae.recipe import TrainingRecipe
from saeborzoi.settings.hyperparameters import Hyperparameters

THRESHOLD_STEPS = 100
"""Steps that the running threshold of a `batch_topk` SAE remembers (a 30th of the training where
that is less: the threshold still falls while nodes sharpen, and a long memory keeps too few)."""


class WindowSums(NamedTuple):
    """Sums over the steps since the last row of the log: squared error, active nodes, positions."""

    squared_error: float
    n_active: int
    n_positions: int


class TrainerBase(ABC):
    """One SAE in training: its schedule, log and best state.

    Parameters
    ----------
    sae
        Initialized, on the device.
    hyperparameters, recipe
        What distinguishes it.
    n_steps
        Steps of the whole schedule.
    batch_size
        Positions of a step, of all processes.
    variance
        Total variance of a position (x divided by the channel maxima), summed over channels.
    """

    since_fired: torch.Tensor
    """(n_nodes,) int64, positions since each node fired last."""

    def __init__(
        self,
        sae: SparseAutoencoder,
        hyperparameters: Hyperparameters,
        recipe: TrainingRecipe,
        n_steps: int,
        batch_size: int,
        variance: float,
    ) -> None:
        self.sae = sae
        self.hyperparameters = hyperparameters
        self.recipe = recipe
        self.n_steps = n_steps
        self.batch_size = batch_size
        self.variance = variance
        self.n_done = 0
        self.log: list[dict[str, Any]] = []
        self.best_fvu = math.inf
        self.best: dict[str, torch.Tensor] = {}
        self.n_worse = 0
        self.finished = False
        self.data_is_finite = True
        """False once a batch held what is not finite."""
        # a rare node has time to fire, but the dead still have time to be revived
        self.dead_after = min(recipe.dead_after, n_steps * batch_size // 30)
        self.started = time.monotonic()

    def prepare(self) -> None:  # noqa: B027  (a CPU needs nothing)
        """Take the memory that steps need, before the first one."""

    @abstractmethod
    def train_step(self, raw: Any) -> None:
        """Move the SAE by one batch."""

    @abstractmethod
    def window(self) -> WindowSums:
        """Sums since `forget_window`.

        Raises
        ------
        TrainingError
            Where the loss of a step was not finite.
        """

    @abstractmethod
    def set_window(self, window: WindowSums) -> None:
        """Go on from these sums."""

    @abstractmethod
    def moments(self) -> list[dict[str, torch.Tensor]]:
        """Of each parameter of the SAE, Adam's step, exp_avg and exp_avg_sq; none before the first
        step."""

    @abstractmethod
    def set_moments(self, moments: list[dict[str, torch.Tensor]]) -> None:
        """Take up what `moments` gave."""

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        return self.recipe.learning_rate(
            self.n_done, self.n_steps, self.hyperparameters.learning_rate
        )

    @property
    def threshold_memory(self) -> float:
        """Share of the running threshold of a `batch_topk` SAE that a step leaves."""
        return 1 - 1 / min(THRESHOLD_STEPS, max(1.0, self.n_steps / 30))

    def not_finite(self, step: int) -> TrainingError:
        """That the loss of a step, counted from 1, is not finite."""
        return TrainingError(
            f"{self.hyperparameters.key}: the loss is not finite at step {step} "
            f"({step * self.batch_size:,} positions); the likely cause is a learning "
            f"rate that is too high ({self.hyperparameters.learning_rate:g}): try a tenth "
            "of it. The last checkpoint before stays"
        )

    def release(self) -> SparseAutoencoder:
        """The SAE at the end of its training: the best by validation, where there is validation
        data, with parameters of its own."""
        if self.n_worse:
            self.sae.load_state_dict(self.best)
        return self.sae

    def log_train(self, positions_seen: int) -> None:
        """Append a row of the training log about the steps since the last."""
        window = self.window()
        n = max(1, window.n_positions)
        seconds = max(1e-9, time.monotonic() - self.started)
        self.log.append(
            {
                "step": self.n_done,
                "split": "train",
                "n_positions": positions_seen,
                "loss": window.squared_error / (n * self.sae.n_channels),
                "fvu": window.squared_error / (n * self.variance),
                "l0": window.n_active / n,
                "dead_fraction": float((self.since_fired >= self.dead_after).float().mean()),
                "learning_rate": self.learning_rate,
                "positions_per_s": n / seconds,
            }
        )
        self.set_window(WindowSums(0.0, 0, 0))
        self.started = time.monotonic()

    def log_validation(self, evaluation: Evaluation, positions_seen: int, patience: int) -> None:
        """Append a validation row; keep the best SAE; finish where it stopped improving."""
        self.log.append(
            {
                "step": self.n_done,
                "split": "validation",
                "n_positions": positions_seen,
                "loss": evaluation.loss,
                "fvu": evaluation.fvu,
                "l0": evaluation.l0,
                "dead_fraction": evaluation.dead_fraction,
                "learning_rate": self.learning_rate,
                "positions_per_s": None,
            }
        )
        if evaluation.fvu < self.best_fvu:
            self.best_fvu, self.n_worse = evaluation.fvu, 0
            self.best = {
                name: tensor.detach().clone() for name, tensor in self.sae.state_dict().items()
            }
        else:
            self.n_worse += 1
            self.finished = self.n_worse >= patience

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Everything that goes on after a resume, on whatever device: tensors, JSON-able values.

        Raises
        ------
        TrainingError
            Where the loss of a step was not finite: the state before stays.
        """
        window = self.window()
        tensors = {f"sae.{name}": tensor for name, tensor in self.sae.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        tensors["since_fired"] = self.since_fired
        for i, moments in enumerate(self.moments()):
            tensors |= {f"adam.{i}.{name}": tensor for name, tensor in moments.items()}
        return tensors, {
            "n_done": self.n_done,
            "log": self.log,
            "best_fvu": self.best_fvu,
            "n_worse": self.n_worse,
            "finished": self.finished,
            "window": list(window),
        }

    def restore(self, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> None:
        """Take up a state that `state` gave."""

        def named(prefix: str) -> dict[str, torch.Tensor]:
            return {
                name.removeprefix(prefix): tensor
                for name, tensor in tensors.items()
                if name.startswith(prefix)
            }

        self.n_done, self.log = values["n_done"], values["log"]
        self.best_fvu, self.n_worse = values["best_fvu"], values["n_worse"]
        self.finished = values["finished"]
        self.sae.load_state_dict(named("sae."))
        self.best = named("best.")
        self.since_fired.copy_(tensors["since_fired"])
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in named("adam.").items():
            i, moment = name.split(".")
            moments.setdefault(int(i), {})[moment] = tensor
        self.set_moments([moments[i] for i in sorted(moments)])
        self.set_window(WindowSums(*values["window"]))
