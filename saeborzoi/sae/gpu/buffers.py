"""What a training step on a GPU keeps on the device.

Matrix products take half-precision operands (float16) and sum in float32; weights and their moments
are float32. float16 holds 3 bits more than bfloat16, and its range does: positions are
layer-normed, weights are of norm 1 or less, and slopes are multiplied by `gain`, the reciprocal of
a channel's variance, and taken back where the weights move.

The encoder's bias is one more column of the encoder, with a column of ones in what it is multiplied
with: it costs no pass of its own, and the product that gives the encoder's gradient gives its too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saeborzoi.sae.model import SparseAutoencoder

HALF = torch.float16
"""Type of the operands of the matrix products."""
LARGEST = 65504.0
"""Of float16: slopes of a position far larger than the others end there."""
_MULTIPLE = 32


def padded(n_channels: int) -> int:
    """Columns of an operand: the channels, a column for the bias, zeros up to a multiple of 32.

    >>> padded(608), padded(1056), padded(31)
    (640, 1088, 32)
    """
    return -(-(n_channels + 1) // _MULTIPLE) * _MULTIPLE


class Weights:
    """Parameters of an SAE with Adam's moments, laid out for the products.

    The SAE's parameters become views of these, so that it is always as the last step left it.

    Attributes
    ----------
    encoder, encoder_mean, encoder_square
        (n_nodes, padded) float32: weights and bias, first and second moment.
    decoder, decoder_mean, decoder_square
        (n_nodes, n_channels) float32.
    pre_bias, pre_bias_mean, pre_bias_square
        (n_channels,) float32.
    encoder_half, decoder_half
        Of the products, as `encoder` and `decoder`.
    scale
        (n_channels,) float32, 1 / channel maximum.
    """

    def __init__(self, sae: SparseAutoencoder) -> None:
        device, C = sae.encoder_weight.device, sae.n_channels

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(*shape, dtype=dtype, device=device)

        shape = (sae.n_nodes, padded(C))
        self.encoder, self.encoder_mean, self.encoder_square = (zeros(*shape) for _ in range(3))
        shape = (sae.n_nodes, C)
        self.decoder, self.decoder_mean, self.decoder_square = (zeros(*shape) for _ in range(3))
        self.pre_bias, self.pre_bias_mean, self.pre_bias_square = (zeros(C) for _ in range(3))
        self.encoder_half = zeros(sae.n_nodes, padded(C), dtype=HALF)
        self.decoder_half = zeros(sae.n_nodes, C, dtype=HALF)
        self.scale = 1 / sae.channel_max
        for parameter, (weight, _, _) in zip(sae.parameters(), self._views(), strict=True):
            weight.copy_(parameter.detach())
            parameter.data = weight
        self.refresh()

    def _views(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Weight and moments of each parameter, in the order of `SparseAutoencoder`'s."""
        C = self.decoder.shape[1]
        encoder = self.encoder, self.encoder_mean, self.encoder_square
        return [
            (encoder[0][:, :C], encoder[1][:, :C], encoder[2][:, :C]),
            (encoder[0][:, C], encoder[1][:, C], encoder[2][:, C]),
            (self.decoder, self.decoder_mean, self.decoder_square),
            (self.pre_bias, self.pre_bias_mean, self.pre_bias_square),
        ]

    def refresh(self) -> None:
        """Make the half-precision copies anew, after the parameters were set from outside."""
        self.encoder_half.copy_(self.encoder)
        self.decoder_half.copy_(self.decoder)

    def moments(self, n_steps: int) -> list[dict[str, Tensor]]:
        """As `torch.optim.Adam` keeps them, of each parameter."""
        return [
            {"step": torch.tensor(float(n_steps)), "exp_avg": mean, "exp_avg_sq": square}
            for _, mean, square in self._views()
        ]

    def set_moments(self, moments: list[dict[str, Tensor]]) -> None:
        """Take up what `moments` gave."""
        for (_, mean, square), saved in zip(self._views(), moments, strict=False):
            mean.copy_(saved["exp_avg"])
            square.copy_(saved["exp_avg_sq"])


class Batch:
    """What a step computes of a batch, and its gradients.

    Attributes
    ----------
    raw
        (n, n_channels), positions as stored; shared by the SAEs of a pass.
    y, s
        (n, padded), (n_groups, n, padded) half: centred positions with a column of ones; slopes of
        the decoder's output times `gain`, of each nested dictionary and all larger ones. Both lie
        in `ys`.
    slope, z
        (n, n_nodes) half, 0 but where a position keeps a node: slopes of the activations times
        `gain`, and the activations. Both lie in `zs`.
    h
        (n, n_nodes) half, pre-activations with bias.
    mean, std, error
        (n,) float32: of a position's channels; its squared error.
    kept
        (n, max_active) int32, bits of an activation << 16 | its node; 0 where there are fewer.
    fired
        (n_nodes,) int32, above 0 where a position of the batch keeps a node.
    residual
        (n_aux, n_channels) half, what the first positions' reconstructions leave of y.
    gradient, aux_encoder, aux_decoder
        (2, n_nodes, padded) float32, encoder's (bias included) and decoder's, times n n_channels
        n_groups gain / 2; the part of AuxK, in the same measure.
    pre_bias_sum
        (n_channels,) float32, sum of `s` over the positions.
    """

    def __init__(self, sae: SparseAutoencoder, raw: Tensor, n_aux: int) -> None:
        n, N, C = len(raw), sae.n_nodes, sae.n_channels
        device = sae.encoder_weight.device

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(*shape, dtype=dtype, device=device)

        self.raw = raw
        self.group_ends = sae.group_ends
        n_groups = len(self.group_ends)
        self.ys = zeros(1 + n_groups, n, padded(C), dtype=HALF)
        self.zs = zeros(2, n, N, dtype=HALF)
        self.y, self.s = self.ys[0], self.ys[1:]
        self.slope, self.z = self.zs[0], self.zs[1]
        self.y[:, C] = 1
        self.h = zeros(n, N, dtype=HALF)
        self.mean, self.std, self.error = zeros(n), zeros(n), zeros(n)
        self.kept = zeros(n, sae.max_active, dtype=torch.int32)
        self.fired = zeros(N, dtype=torch.int32)
        self.residual = zeros(min(n_aux, n), C, dtype=HALF)
        self.gradient = zeros(2, N, padded(C))
        self.aux_encoder = zeros(N, padded(C)) if n_aux else None
        self.aux_decoder = zeros(N, C) if n_aux else None
        self.pre_bias_sum = zeros(C)


class Progress:
    """Where a training stands, on the device: the host reads it when it logs.

    Attributes
    ----------
    done, failed
        () int64: steps done; the first step whose loss was not finite, counted from 1, or 0;
        negative where the data was not. From that step on nothing moves.
    sums
        (2,) float64: squared error and active nodes since they were last read.
    total
        (3,) float64: of this batch, and the sum of its positions' standard deviations, which is
        finite where the data is.
    lowest
        () float32, the smallest activation that the batch kept; infinity where none.
    rates
        (3,) float32 for Adam: learning rate / (1 - beta1^t), 1 / sqrt(1 - beta2^t), and 1 where
        weights may move, else 0.
    since_fired
        (n_nodes,) int64, positions since each node fired.
    """

    def __init__(self, n_nodes: int, device: torch.device) -> None:
        self.done = torch.zeros((), dtype=torch.int64, device=device)
        self.failed = torch.zeros((), dtype=torch.int64, device=device)
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)
        self.total = torch.zeros(3, dtype=torch.float64, device=device)
        self.lowest = torch.zeros((), device=device)
        self.rates = torch.zeros(3, device=device)
        self.since_fired = torch.zeros(n_nodes, dtype=torch.int64, device=device)
