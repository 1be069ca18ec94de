"""What a layer's output is made of in an SAE's eyes: ``x = nodes + background + error``.

In the layer's own units: division by the channel maxima happens within and nowhere else. Every
change of nodes in a model goes through here, so that background and error stay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from saeborzoi.sae.model import Active, SparseAutoencoder

_BLOCK = 16_384
"""Positions at once: the activations of all nodes are held for so many."""


class Split(NamedTuple):
    """Parts of a layer's output; they sum to it.

    Attributes
    ----------
    nodes
        (..., n_channels) float32: ``std * channel_max * sum_j z_j decoder_j``.
    background
        (..., n_channels) float32: ``channel_max * (pre_bias * std + mean)``, what layer norm and
        the pre-bias put back whatever the nodes are.
    error
        (..., n_channels) float32: what the SAE leaves.
    """

    nodes: Tensor
    background: Tensor
    error: Tensor


def split(sae: SparseAutoencoder, x: Tensor) -> Split:
    """The parts of a layer's output.

    Parameters
    ----------
    sae
        Any variant; on the same device as x.
    x
        (..., n_channels) float32, activations of the layer as the model has them.
    """

    def parts(rows: Tensor) -> tuple[Tensor, ...]:
        normalized = sae.normalize(rows)
        active = sae.keep(sae.pre_activations(normalized.y))
        nodes = _of_nodes(sae, active, normalized.std)
        background = (sae.pre_bias * normalized.std + normalized.mean) * sae.channel_max
        return nodes, background, rows - nodes - background

    return Split(*_in_blocks(parts, x))


def reconstruction(sae: SparseAutoencoder, x: Tensor) -> Tensor:
    """(..., n_channels) float32: nodes and background, without the error."""
    parts = split(sae, x)
    return parts.nodes + parts.background


def with_nodes_changed(
    sae: SparseAutoencoder, x: Tensor, change: Callable[[Active], Tensor]
) -> Tensor:
    """A layer's output with other activations of the nodes that are active; the rest stays.

    Parameters
    ----------
    x
        (..., n_channels) float32.
    change
        From the active nodes of (n, k) to new activations (n, k) of the same nodes: 0 ablates one,
        twice the value doubles it.

    Returns
    -------
    Tensor
        Of the shape of x; bit for bit x where nothing was changed.
    """

    def changed(rows: Tensor) -> tuple[Tensor]:
        normalized = sae.normalize(rows)
        active = sae.keep(sae.pre_activations(normalized.y))
        by = Active(change(active) - active.value, active.node)
        return (rows + _of_nodes(sae, by, normalized.std),)

    return _in_blocks(changed, x)[0]


class Activity(NamedTuple):
    """Which nodes are active where, and what one of them adds to the layer's output.

    Attributes
    ----------
    value, node
        (n_positions, k) activations, 0 where there is none, and their nodes.
    std
        (n_positions, 1): what layer norm took out of each position.
    """

    value: Tensor
    node: Tensor
    std: Tensor

    def of(self, node: int) -> tuple[Tensor, Tensor]:
        """Positions where a node is active, and its activation there."""
        value = torch.where(self.node == node, self.value, 0).sum(1)
        positions = torch.nonzero(value)[:, 0]
        return positions, value[positions]


def activity(sae: SparseAutoencoder, x: Tensor) -> Activity:
    """Active nodes of positions (n_positions, n_channels)."""
    blocks = []
    for rows in x.split(_BLOCK):
        normalized = sae.normalize(rows)
        blocks.append((*sae.keep(sae.pre_activations(normalized.y)), normalized.std))
    return Activity(*(torch.cat(part) for part in zip(*blocks, strict=True)))


def direction(sae: SparseAutoencoder, node: int) -> Tensor:
    """(n_channels,): what a node adds to the layer's output per unit of activation and std."""
    return sae.decoder_weight[node] * sae.channel_max


def without_channel_max(sae: SparseAutoencoder, x: Tensor) -> Tensor:
    """The reconstruction as sae-borzoi's `sae_hooks_pearson.py` splices it in.

    Its slip: activations are not divided by the channel maxima that the SAE was trained with. For
    comparison with its figures only.
    """
    return reconstruction(sae, x * sae.channel_max) / sae.channel_max


def _of_nodes(sae: SparseAutoencoder, active: Active, std: Tensor) -> Tensor:
    """(n, n_channels): what (n, k) activations add, in the layer's units."""
    summed = nn.functional.embedding_bag(
        active.node, sae.decoder_weight, mode="sum", per_sample_weights=active.value
    )
    return summed * std * sae.channel_max


def _in_blocks(function: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor) -> list[Tensor]:
    blocks = [function(rows) for rows in x.reshape(-1, x.shape[-1]).split(_BLOCK)]
    return [torch.cat(part).reshape(x.shape) for part in zip(*blocks, strict=True)]
