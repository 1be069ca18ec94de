"""Active nodes of a finished SAE on a device: half precision ranks, float32 decides.

As on a CPU (`sae.selector`), a product in half precision finds a few candidates more than a
position keeps, and those are scored again in float32. Where the rounding of half precision could
hide a node behind the candidates, the position is computed entirely in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saeborzoi.sae.gpu.buffers import HALF, padded
from saeborzoi.sae.gpu.capability import why_not_fused
from saeborzoi.sae.gpu.plain import largest, to_half, unpack
from saeborzoi.sae.gpu.products import product
from saeborzoi.sae.model import Active, SparseAutoencoder

_SPARE = 8
"""Candidates beyond what a position keeps."""
_ROUNDING = 2**-10 * 1.1
"""Of the sum over channels, as a share of the norms of both factors: either is rounded by 2^-11 of
itself, and the sums of float32 add little to it."""
_TINY = 2**-24
"""Twice what float16 rounds by where numbers are too small for that."""


class DeviceSelector:
    """Gives what `SparseAutoencoder.encode` gives.

    Parameters
    ----------
    sae
        On the device; its parameters do not change.
    ranks
        Whether half precision ranks; left out, where the kernels run: by PyTorch alone it takes as
        long as float32 for all nodes.
    """

    def __init__(self, sae: SparseAutoencoder, ranks: bool | None = None) -> None:
        self._sae = sae
        self._n_kept = min(sae.max_active + _SPARE, sae.n_nodes)
        device = sae.encoder_weight.device
        self._has_kernels = not why_not_fused(device, sae.n_nodes, self._n_kept)
        self._ranks = self._has_kernels if ranks is None else ranks
        weight, bias = sae.encoder_weight.detach(), sae.encoder_bias.detach()
        self._weight, self._bias = weight.contiguous(), bias.contiguous()
        self._half = torch.zeros(sae.n_nodes, padded(sae.n_channels), dtype=HALF, device=device)
        self._half[:, : sae.n_channels] = to_half(weight)
        self._half[:, sae.n_channels] = to_half(bias)
        self._norm = torch.linalg.vector_norm(weight, dim=1).max()
        self._largest_bias = bias.abs().max()

    @torch.no_grad()
    def __call__(self, raw: Tensor) -> Active:
        """(n, max_active) activations and nodes of positions as stored, the strongest first."""
        sae = self._sae
        if not self._ranks:
            return sae.encode(raw)
        y = sae.normalize(raw).y - sae.pre_bias
        kept = self._candidates(y)
        approximate, node = unpack(kept)
        exact = self._scores(y, kept).clamp_min(0)
        value, place = torch.topk(exact, sae.max_active, dim=1)
        node = node.gather(1, place)
        floor = sae.threshold if sae.variant == "batch_topk" else torch.zeros_like(sae.threshold)
        # a node that is no candidate ranks no higher than the last of them
        last = approximate.float().amin(1)
        size = torch.linalg.vector_norm(y, dim=1)
        rounding = (size * self._norm + self._largest_bias) * _ROUNDING
        tiny = (1 + sae.n_channels**0.5 * (size + self._norm)) * _TINY
        bound = last * (1 + 2**-10) + rounding + tiny
        is_sure = torch.maximum(value[:, -1], floor) >= bound
        rows = torch.nonzero(~is_sure)[:, 0]
        value = torch.where(value > floor, value, 0)
        if len(rows):
            value[rows], node[rows] = sae.keep(
                torch.nn.functional.linear(y[rows], self._weight, self._bias)
            )
        return Active(value, node)

    def _candidates(self, y: Tensor) -> Tensor:
        """`Batch.kept` of the half-precision pre-activations."""
        n, C = y.shape
        operand = torch.zeros(n, self._half.shape[1], dtype=HALF, device=y.device)
        operand[:, :C] = to_half(y)
        operand[:, C] = 1
        h = torch.empty(n, len(self._half), dtype=HALF, device=y.device)
        product(operand, self._half.T, h)
        kept = torch.empty(n, self._n_kept, dtype=torch.int32, device=y.device)
        if self._has_kernels:
            from saeborzoi.sae.gpu.fused import fastest_select

            fastest_select(h, kept)
        else:
            largest(h, self._n_kept, kept)
        return kept

    def _scores(self, y: Tensor, kept: Tensor) -> Tensor:
        """(n, n_kept) float32, exact pre-activations of the candidates; 0 where there is none."""
        if self._has_kernels:
            from saeborzoi.sae.gpu.fused import score

            return score(y, self._weight, self._bias, kept)
        _, node = unpack(kept)
        h = torch.einsum("nkc,nc->nk", self._weight[node], y) + self._bias[node]
        return h.where(kept > 0, 0)
