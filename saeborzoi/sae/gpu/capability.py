"""Which layer of the step a card and a shape get, and why."""

from __future__ import annotations

import importlib.util

import torch

from saeborzoi.caches import find_caches
from saeborzoi.sae.gpu.buffers import Batch, Progress, Weights
from saeborzoi.sae.gpu.plain import Constants, PlainLayer

MOST_KEPT = 256
"""Entries of a position that a program of `kernels.decode` holds in registers."""
MOST_NODES = 2**16
"""Nodes that 16 bits name."""


def why_not_fused(device: torch.device, n_nodes: int, n_kept: int) -> str:
    """Why the kernels cannot run; empty where they can."""
    if device.type != "cuda":
        return "kernels are for CUDA"
    if torch.version.hip is not None:
        return "kernels are made for NVIDIA's cards"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return f"{torch.cuda.get_device_name(device)} is older than Ampere (compute capability 8.0)"
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    if n_kept > MOST_KEPT:
        return f"a position keeps up to {n_kept} nodes, and kernels hold {MOST_KEPT}"
    if n_nodes > MOST_NODES:
        return f"{n_nodes:,} nodes, and kernels hold {MOST_NODES:,}"
    if not find_caches():  # before Triton looks where to keep what it compiles
        return "what is compiled can be kept nowhere: neither HOME nor TMPDIR can be written"
    return ""


def choose_layer(
    weights: Weights, batch: Batch, progress: Progress, constants: Constants
) -> tuple[PlainLayer, str]:
    """The layer to train by, and the reason in words."""
    device = batch.h.device
    reason = why_not_fused(device, batch.h.shape[1], batch.kept.shape[1])
    if reason:
        return PlainLayer(weights, batch, progress, constants), reason
    from saeborzoi.sae.gpu.fused import FusedLayer

    layer = FusedLayer(weights, batch, progress, constants)
    return layer, f"card and shape allow; selection by {layer.selection}"
