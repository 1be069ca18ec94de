"""Borzoi with random weights: convolutions of full width, a narrow transformer and few bins."""

from __future__ import annotations

from pathlib import Path

import torch

N_BINS = 64


def write_narrow_borzoi(folder: Path) -> None:
    """Write it as a user has the trained one, with config.json and model.safetensors; the same
    every time."""
    from borzoi_pytorch import Borzoi
    from borzoi_pytorch.config_borzoi import BorzoiConfig

    torch.manual_seed(0)
    config = BorzoiConfig(
        dim=64, depth=1, heads=2, attn_dim_key=8, attn_dim_value=8, bins_to_return=N_BINS,
        enable_mouse_head=True,
    )  # fmt: skip
    model = Borzoi(config)
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm1d):
            part.running_mean.uniform_(-0.1, 0.1)
            part.running_var.uniform_(0.5, 2)
    model.save_pretrained(folder)
