"""The training step as it is written: dense, float32, what every faster one must agree with."""

from __future__ import annotations

import math

import torch

from saeborzoi.activations.loader import to_float32
from saeborzoi.activations.reader import Raw
from saeborzoi.sae.model import EPS, SparseAutoencoder
from saeborzoi.sae.step_result import StepResult, nothing_more


class DenseStep:
    """The step by automatic differentiation."""

    def __call__(self, sae: SparseAutoencoder, raw: Raw) -> StepResult:
        """See `Step`."""
        device = sae.encoder_weight.device
        with torch.no_grad():
            y, _, std = sae.normalize(to_float32(raw, device))
        for parameter in sae.parameters():
            parameter.grad = None
        h = sae.pre_activations(y).relu()
        value, node = torch.topk(h, sae.max_active, dim=-1)
        if sae.variant == "batch_topk":
            candidates = value.detach().float().flatten()
            least = torch.topk(candidates, len(raw) * sae.k).values[-1]
            value = torch.where(value >= least, value, 0)
        loss = torch.zeros((), device=device)
        start = 0
        outputs = sae.pre_bias.expand(len(raw), -1)
        ends = sae.group_ends
        z = torch.zeros_like(h).scatter(-1, node, value)
        for end in ends:
            outputs = outputs + z[:, start:end] @ sae.decoder_weight[start:end]
            error = outputs.float() * std - y * (std + EPS)
            loss = loss + error.square().mean() / len(ends)
            start = end
        loss.backward()
        with torch.no_grad():
            active = value > 0
            fired = torch.zeros(sae.n_nodes, dtype=torch.bool, device=device)
            fired[node[active]] = True
            y_hat = outputs.float()
        return StepResult(
            squared_error=float(error.detach().square().sum(dtype=torch.float64)),
            n_active=int(active.sum()),
            fired=fired,
            lowest=float(value.detach()[active].min()) if bool(active.any()) else math.inf,
            centred=(y - sae.pre_bias).detach(),
            residual=lambda first, last: (y - y_hat)[first:last].detach(),
            derive=lambda then=nothing_more: then(0, sae.n_nodes),
        )
