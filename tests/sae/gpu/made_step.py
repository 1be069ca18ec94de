"""A step's buffers on made data, and its gradients in the units of the loss."""

from __future__ import annotations

import torch
from torch import Tensor

from saeborzoi.sae.gpu.trainer import DeviceTrainer
from saeborzoi.sae.recipe import RECIPES
from saeborzoi.settings.hyperparameters import Hyperparameters
from tests.sae.test_steps import made

H = Hyperparameters(layer="l")


def trainer_of(
    n_channels: int,
    n_nodes: int,
    k: int,
    variant: str = "topk",
    device: str = "cpu",
    n: int = 600,
    recipe: str = "default",
) -> tuple[DeviceTrainer, Tensor]:
    """A trainer of an SAE that does not explain its batch well, and the batch, float16."""
    sae, x = made(n_channels, n_nodes, k, variant, recipe)
    raw = torch.from_numpy(x[:n]).half().to(device)
    variance = float((raw.float().cpu() / sae.channel_max).var(0).sum())
    trainer = DeviceTrainer(
        sae.to(device), H, RECIPES[recipe], 1000, n, variance, raw.clone()
    )  # fmt: skip
    return trainer, raw


def gradients(trainer: DeviceTrainer) -> list[Tensor]:
    """Of the SAE's parameters, in their order, without AuxK."""
    b, scale = trainer.batch, trainer.layer.constants.gradient_scale
    C = trainer.sae.n_channels
    encoder, decoder = b.gradient * scale
    return [encoder[:, :C], encoder[:, C], decoder[:, :C], b.pre_bias_sum * scale]
