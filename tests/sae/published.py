"""Weights as sae-borzoi publishes them."""

from __future__ import annotations

import torch


def published(**changes: object) -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)
    state = {
        "encoder.weight": torch.randn(40, 10, generator=generator),
        "decoder.weight": torch.randn(10, 40, generator=generator),
        "pre_bias": torch.randn(10, generator=generator),
        "latent_bias": torch.randn(40, generator=generator),
        "temperature": torch.tensor(1.0),
    }
    return {**state, **changes}
