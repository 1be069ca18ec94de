"""One SAE in training: optimizer, schedule, reviving of dead nodes, running figures.

The loop over data belongs to `training.py`, what a step computes to `steps.py`.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from saeborzoi.activations.reader import Raw
from saeborzoi.errors import TrainingError
from saeborzoi.sae.distributed import Group
from saeborzoi.sae.evaluation import Evaluation
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sae.recipe import TrainingRecipe, normalize_decoder, project_decoder_gradient
from saeborzoi.sae.step_result import StepResult
from saeborzoi.sae.steps import Step
from saeborzoi.settings.hyperparameters import Hyperparameters

THRESHOLD_STEPS = 100
"""Steps that the running threshold of a `batch_topk` SAE remembers (a 30th of the training where
that is less: the threshold still falls while nodes sharpen, and a long memory keeps too few)."""


class Trainer:
    """One SAE in training: its optimizer, schedule and running figures.

    Parameters
    ----------
    sae
        Initialized, on the device.
    hyperparameters, recipe
        What distinguishes it.
    n_steps
        Steps of the whole schedule.
    batch_size
        Positions of a step.
    variance
        Total variance of a position (x divided by the channel maxima), summed over channels.
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
        self.sae = sae
        self.hyperparameters = hyperparameters
        self.recipe = recipe
        self.n_steps = n_steps
        self.n_done = 0
        self.log: list[dict[str, Any]] = []
        self.best_fvu = math.inf
        self.best: dict[str, torch.Tensor] = {}
        self.n_worse = 0
        self.finished = False
        self.since_fired = torch.zeros(
            sae.n_nodes, dtype=torch.int64, device=sae.encoder_weight.device
        )
        # a rare node has time to fire, but the dead still have time to be revived
        self.dead_after = min(recipe.dead_after, n_steps * batch_size // 30)
        self._variance = variance
        self._step = step
        self._group = group or Group()
        self._adam = torch.optim.Adam(
            sae.parameters(),
            lr=hyperparameters.learning_rate,
            betas=recipe.betas,
            eps=recipe.eps,
            fused=True,
        )
        self._reset_window()

    def _reset_window(self) -> None:
        self._squared_error, self._n_active, self._n_positions = 0.0, 0, 0
        self._started = time.monotonic()

    def train_step(self, raw: Raw) -> None:
        """Move the SAE by one batch.

        Raises
        ------
        TrainingError
            Where the loss is not finite; the SAE is as it was before the step.
        """
        result = self._group.merged(self._step(self.sae, self._group.part(raw)))
        if not math.isfinite(result.squared_error):
            raise TrainingError(
                f"{self.hyperparameters.key}: the loss is not finite at step {self.n_done + 1} "
                f"({(self.n_done + 1) * len(raw):,} positions); the likely cause is a learning "
                f"rate that is too high ({self.hyperparameters.learning_rate:g}): try a tenth "
                "of it. The last checkpoint before stays"
            )
        with torch.no_grad():
            self.since_fired += len(raw)
            self.since_fired[result.fired] = 0
            if self.recipe.aux_weight:
                self._revive(result)
            self._group.average_gradients(self.sae.parameters())
            if self.recipe.unit_norm:
                project_decoder_gradient(self.sae)
            if self.sae.variant == "batch_topk" and math.isfinite(result.lowest):
                remembered = min(THRESHOLD_STEPS, max(1.0, self.n_steps / 30))
                past = 1 - 1 / remembered if self.n_done else 0.0
                self.sae.threshold.mul_(past).add_(result.lowest, alpha=1 - past)
        for group in self._adam.param_groups:
            group["lr"] = self.learning_rate
        self._adam.step()
        if self.recipe.unit_norm:
            normalize_decoder(self.sae)
        self.n_done += 1
        self._squared_error += result.squared_error
        self._n_active += result.n_active
        self._n_positions += len(raw)

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        return self.recipe.learning_rate(
            self.n_done, self.n_steps, self.hyperparameters.learning_rate
        )

    def _revive(self, result: StepResult) -> None:
        """Add the gradient of AuxK: the dead nodes that fit it best reconstruct the residual
        (Gao et al. 2024, section A.2)."""
        dead = torch.nonzero(self.since_fired >= self.dead_after)[:, 0]
        if not len(dead):
            return
        sae = self.sae
        n_rows = max(1, self.recipe.aux_rows // self._group.size)
        centred, residual = result.centred[:n_rows], result.residual(n_rows)
        with torch.enable_grad():
            encoder = sae.encoder_weight[dead].detach().requires_grad_()
            bias = sae.encoder_bias[dead].detach().requires_grad_()
            decoder = sae.decoder_weight[dead].detach().requires_grad_()
            h = torch.nn.functional.linear(centred, encoder, bias).relu()
            value, node = torch.topk(h, min(len(dead), max(1, sae.n_channels // 2)), dim=-1)
            z = torch.zeros_like(h).scatter(-1, node, value)
            # The loss is scaled to the size of the main loss, however small the residual is:
            # otherwise Adam's second moment of a node would change by orders of magnitude when
            # the node comes to life.
            variance = self._group.mean(residual.square().mean()).clamp_min(1e-12)
            unexplained = (z @ decoder - residual).square().mean() / variance
            loss = unexplained * (self.recipe.aux_weight * self._variance / sae.n_channels)
            slopes = torch.autograd.grad(loss, [encoder, bias, decoder])
        for parameter, slope in zip(
            (sae.encoder_weight, sae.encoder_bias, sae.decoder_weight), slopes, strict=True
        ):
            assert parameter.grad is not None
            parameter.grad.index_add_(0, dead, slope)

    def log_train(self, positions_seen: int) -> None:
        """Append a row of the training log about the steps since the last."""
        n = max(1, self._n_positions)
        seconds = max(1e-9, time.monotonic() - self._started)
        self.log.append(
            {
                "step": self.n_done,
                "split": "train",
                "n_positions": positions_seen,
                "loss": self._squared_error / (n * self.sae.n_channels),
                "fvu": self._squared_error / (n * self._variance),
                "l0": self._n_active / n,
                "dead_fraction": float((self.since_fired >= self.dead_after).float().mean()),
                "learning_rate": self.learning_rate,
                "positions_per_s": n / seconds,
            }
        )
        self._reset_window()

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
        """Everything that goes on after a resume: tensors, and JSON-able values."""
        tensors = {f"sae.{name}": tensor for name, tensor in self.sae.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        tensors["since_fired"] = self.since_fired
        for i, moments in self._adam.state_dict()["state"].items():
            tensors |= {f"adam.{i}.{name}": tensor for name, tensor in moments.items()}
        return tensors, {
            "n_done": self.n_done,
            "log": self.log,
            "best_fvu": self.best_fvu,
            "n_worse": self.n_worse,
            "finished": self.finished,
            "window": [self._squared_error, self._n_active, self._n_positions],
        }

    def restore(self, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> None:
        """Take up a state that `state` gave."""

        def named(prefix: str) -> dict[str, torch.Tensor]:
            return {
                name.removeprefix(prefix): tensor
                for name, tensor in tensors.items()
                if name.startswith(prefix)
            }

        self.sae.load_state_dict(named("sae."))
        self.best = named("best.")
        self.since_fired.copy_(tensors["since_fired"])
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in named("adam.").items():
            i, moment = name.split(".")
            moments.setdefault(int(i), {})[moment] = tensor
        self._adam.load_state_dict({**self._adam.state_dict(), "state": moments})
        self.n_done, self.log = values["n_done"], values["log"]
        self.best_fvu, self.n_worse = values["best_fvu"], values["n_worse"]
        self.finished = values["finished"]
        self._squared_error, self._n_active, self._n_positions = values["window"]
