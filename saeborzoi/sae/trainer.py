"""One SAE in training on a CPU: optimizer and reviving of dead nodes.

The loop over data belongs to `training.py`, what a step computes to `steps.py`, figures, early
stopping and state to `trainer_base.py`.
"""

from __future__ import annotations

import math

import torch

from saeborzoi.activations.loader import to_float32
from saeborzoi.activations.reader import Raw
from saeborzoi.sae.distributed import Group
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sae.recipe import TrainingRecipe, normalize_decoder, project_decoder_gradient
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
        self._adam = torch.optim.Adam(
            sae.parameters(),
            lr=hyperparameters.learning_rate,
            betas=recipe.betas,
            eps=recipe.eps,
            fused=True,
        )
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
        with torch.no_grad():
            self.since_fired += len(raw)
            self.since_fired[result.fired] = 0
            if self.recipe.aux_weight:
                self._revive(result)
            self._group.average_gradients(self.sae.parameters())
            if self.recipe.unit_norm:
                project_decoder_gradient(self.sae)
            if self.sae.variant == "batch_topk" and math.isfinite(result.lowest):
                past = self.threshold_memory if self.n_done else 0.0
                self.sae.threshold.mul_(past).add_(result.lowest, alpha=1 - past)
        for group in self._adam.param_groups:
            group["lr"] = self.learning_rate
        self._adam.step()
        if self.recipe.unit_norm:
            normalize_decoder(self.sae)
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
        state = self._adam.state_dict()["state"]
        return [state[i] for i in sorted(state)]

    def set_moments(self, moments: list[dict[str, torch.Tensor]]) -> None:
        """See `TrainerBase`."""
        state = dict(enumerate(moments))
        self._adam.load_state_dict({**self._adam.state_dict(), "state": state})

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
            n_active = max(1, sae.n_channels // 2)
            if len(dead) <= n_active:
                z = h
            else:
                value, node = torch.topk(h, n_active, dim=-1)
                z = torch.zeros_like(h).scatter(-1, node, value)
            # The loss is scaled to the size of the main loss, however small the residual is:
            # otherwise Adam's second moment of a node would change by orders of magnitude when
            # the node comes to life.
            variance = self._group.mean(residual.square().mean()).clamp_min(1e-12)
            unexplained = (z @ decoder - residual).square().mean() / variance
            loss = unexplained * (self.recipe.aux_weight * self.variance / sae.n_channels)
            slopes = torch.autograd.grad(loss, [encoder, bias, decoder])
        for parameter, slope in zip(
            (sae.encoder_weight, sae.encoder_bias, sae.decoder_weight), slopes, strict=True
        ):
            assert parameter.grad is not None
            parameter.grad.index_add_(0, dead, slope)
