"""Through which nodes a change of the sequence reaches an output: integrated attribution.

Between the layer's activations of two sequences, ``x(t) = x_ref + t (x_alt - x_ref)``, the output's
gradient is averaged over t (integrated gradients, Sundararajan et al. 2017, along the layer). As
``x = nodes + background + error`` exactly, its product with the change is a sum over nodes,
background and error; what it misses of the output's change is the gap. What reaches the output past
the layer is the bypass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saeborzoi.effects.track_scores import TrackScore
from saeborzoi.models.splice import Splice
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sae.split import split

FEWEST_POINTS = 8
"""Points of the first integration; Gauss-Legendre, so that the ends are none of them."""


class Change(NamedTuple):
    """Where the layer differs between two sequences, and what of it is whose.

    The same number of positions of every pair, from `first` on; outside of them the layer is the
    same.

    Attributes
    ----------
    first
        (n,) int64, first position.
    ref, alt
        (n, n_positions, n_channels) float32, the layer's output.
    """

    first: Tensor
    ref: Tensor
    alt: Tensor

    @property
    def positions(self) -> Tensor:
        """(n, n_positions) int64, the positions."""
        step = torch.arange(self.ref.shape[1], device=self.first.device)
        return self.first[:, None] + step


class Parts(NamedTuple):
    """What each part of the layer carries of an output's change, (n,) float64 each.

    Attributes
    ----------
    nodes, background, error
        Sums over the changed positions.
    """

    nodes: NDArray[np.float64]
    background: NDArray[np.float64]
    error: NDArray[np.float64]

    @property
    def total(self) -> NDArray[np.float64]:
        """Their sum."""
        return self.nodes + self.background + self.error


class NodeShares(NamedTuple):
    """What each node carries, one entry a pair and node that changes.

    Attributes
    ----------
    pair, node
        int64.
    attribution
        float64, over all changed positions.
    position
        int64, of the layer: where most of it is.
    activation_ref, activation_alt
        float32, the node's activation there.
    """

    pair: NDArray[np.int64]
    node: NDArray[np.int64]
    attribution: NDArray[np.float64]
    position: NDArray[np.int64]
    activation_ref: NDArray[np.float32]
    activation_alt: NDArray[np.float32]


class Integrated(NamedTuple):
    """The averaged gradient of each pair's track.

    Attributes
    ----------
    gradient
        (n, n_positions, n_channels) float32, at the changed positions.
    moved
        (n,) float64, how far the output moves from `ref` to `alt` in the layer alone.
    n_points
        (n,) int64, points of the integration.
    """

    gradient: Tensor
    moved: NDArray[np.float64]
    n_points: NDArray[np.int64]


def changed(ref: Tensor, alt: Tensor) -> Change:
    """Where two layers' outputs of (n, n_positions, n_channels) differ."""
    differs = (ref != alt).any(2)
    n_positions = differs.shape[1]
    first = torch.where(differs.any(1), differs.int().argmax(1), 0)
    last = torch.where(differs.any(1), n_positions - 1 - differs.flip(1).int().argmax(1), 0)
    width = int((last - first).max()) + 1
    first = first.clamp(max=n_positions - width)
    rows = first[:, None] + torch.arange(width, device=first.device)
    index = rows[:, :, None].expand(-1, -1, ref.shape[2])
    return Change(first, ref.gather(1, index), alt.gather(1, index))


def integrate(
    splice: Splice,
    score: TrackScore,
    one_hot: Tensor,
    layer: Tensor,
    change: Change,
    track: NDArray[np.int64],
    *,
    tolerance: float,
    max_points: int,
    batch_size: int,
) -> Integrated:
    """Average the gradient of one track for each pair, with points added where the gap is wide.

    Parameters
    ----------
    one_hot
        (n, 4, input_bp), the reference sequence: what goes past the layer is held at it.
    layer
        (n, n_positions of the model, n_channels), its layer.
    change
        See `Change`.
    track
        (n,) number of the track.
    tolerance, max_points
        Points are doubled while the gap is wider than this share of what the output moves, up to
        so many.
    batch_size
        Sequences at once.
    """
    on = torch.from_numpy(np.array(track, np.int64)).to(layer.device)
    ends = torch.tensor([[0.0], [1.0]], device=layer.device)

    def at(pairs: Tensor, t: Tensor, is_wanted: bool) -> tuple[Tensor, Tensor | None]:
        """Score and gradient at a point of each of some pairs."""
        some = Change(change.first[pairs], change.ref[pairs], change.alt[pairs])
        values = some.ref + t[:, None, None] * (some.alt - some.ref)
        values.requires_grad_(is_wanted)
        index = some.positions[:, :, None].expand_as(values)
        base = layer[pairs]
        with torch.set_grad_enabled(is_wanted):
            y = splice.predict(one_hot[pairs], lambda _: base.scatter(1, index, values))
            track_scores = score(y).gather(1, on[pairs][:, None])[:, 0]
        if not is_wanted:
            return track_scores, None
        (gradient,) = torch.autograd.grad(track_scores.sum(), values)
        return track_scores.detach(), gradient

    n = len(layer)
    low, high = (_over(n, batch_size, lambda p, e=e: at(p, e.expand(len(p)), False)[0])  # type: ignore[misc]
                 for e in ends)  # fmt: skip
    moved = (high - low).cpu().numpy()
    gradient = torch.zeros_like(change.ref)
    n_points = np.zeros(n, np.int64)
    left, points = np.arange(n), min(FEWEST_POINTS, max_points)
    while True:
        nodes, weights = np.polynomial.legendre.leggauss(points)
        rows = torch.as_tensor(left, device=layer.device)
        total = torch.zeros_like(change.ref[rows])
        # every pair's points follow each other, so that batches are full
        flat = rows.repeat_interleave(points)
        t = torch.as_tensor((nodes + 1) / 2, dtype=torch.float32, device=layer.device)
        t = t.repeat(len(rows))
        weight = torch.as_tensor(weights / 2, dtype=torch.float32, device=layer.device)
        weight = weight.repeat(len(rows))
        place = torch.arange(len(rows), device=layer.device).repeat_interleave(points)
        for first in range(0, len(flat), batch_size):
            cut = slice(first, first + batch_size)
            _, g = at(flat[cut], t[cut], True)
            assert g is not None
            total.index_add_(0, place[cut], g * weight[cut][:, None, None])
        gradient[rows] = total
        n_points[left] = points
        if points * 2 > max_points:
            return Integrated(gradient, moved, n_points)
        product = (total * (change.alt[rows] - change.ref[rows])).double().sum((1, 2)).cpu().numpy()
        wide = np.abs(moved[left] - product) > tolerance * np.abs(moved[left])
        left, points = left[wide], points * 2
        if not len(left):
            return Integrated(gradient, moved, n_points)


def shares(sae: SparseAutoencoder, change: Change, gradient: Tensor) -> tuple[Parts, NodeShares]:
    """The product of a gradient with what each part of the layer changes.

    Parameters
    ----------
    gradient
        (n, n_positions, n_channels) float32.
    """
    ref, alt = split(sae, change.ref), split(sae, change.alt)

    def product(a: Tensor, b: Tensor) -> NDArray[np.float64]:
        return (gradient * (b - a)).double().sum((1, 2)).cpu().numpy()

    parts = Parts(
        product(ref.nodes, alt.nodes),
        product(ref.background, alt.background),
        product(ref.error, alt.error),
    )
    return parts, node_shares(sae, change, gradient)


def node_shares(sae: SparseAutoencoder, change: Change, gradient: Tensor | None) -> NodeShares:
    """What each active node carries; without a gradient, how far its part of the layer moves.

    That is the change of ``activation * std``, summed over positions without regard to sign.
    """
    node, value, carried = [], [], []
    for x in (change.ref, change.alt):
        normalized = sae.normalize(x)
        active = sae.keep(sae.pre_activations(normalized.y))
        strength = active.value * normalized.std
        if gradient is not None:
            # of the directions of active nodes only, position by position
            scaled = gradient * sae.channel_max
            strength = strength * torch.einsum(
                "npkc,npc->npk", sae.decoder_weight[active.node], scaled
            )
        node.append(active.node.cpu().numpy())
        value.append(active.value.cpu().numpy())
        carried.append(strength.double().cpu().numpy())
    return _grouped(
        node, value, carried, change.positions.cpu().numpy(), sae.n_nodes, gradient is None
    )


def _grouped(
    node: list[NDArray[np.int64]],
    value: list[NDArray[np.float32]],
    carried: list[NDArray[np.float64]],
    index: NDArray[np.int64],
    n_nodes: int,
    without_sign: bool,
) -> NodeShares:
    n, width, _ = node[0].shape
    place = np.arange(n * width).reshape(n, width, 1)
    keys = [
        np.where(v > 0, place * n_nodes + j, -1).ravel() for j, v in zip(node, value, strict=True)
    ]
    cells = np.unique(np.concatenate(keys))
    cells = cells[cells >= 0]
    change = np.zeros(len(cells))
    activation = np.zeros((2, len(cells)), np.float32)
    for side, key in enumerate(keys):
        used = key >= 0
        at = np.searchsorted(cells, key[used])
        change[at] += (2 * side - 1) * carried[side].ravel()[used]
        activation[side, at] = value[side].ravel()[used]
    # positions beside the change, where both are the same
    moved = change != 0
    cells, change, activation = cells[moved], change[moved], activation[:, moved]
    where, of_node = np.divmod(cells, n_nodes)
    pair, position = np.divmod(where, width)
    if without_sign:
        change = np.abs(change)
    # one entry a pair and node; the strongest position comes first and names it
    order = np.lexsort((-np.abs(change), of_node, pair))
    pair, position, of_node = pair[order], position[order], of_node[order]
    change, activation = change[order], activation[:, order]
    starts = np.flatnonzero(
        np.r_[True, (np.diff(pair) != 0) | (np.diff(of_node) != 0)][: len(pair)]
    )
    return NodeShares(
        pair[starts],
        of_node[starts],
        np.add.reduceat(change, starts) if len(starts) else change,
        index[pair[starts], position[starts]],
        activation[0, starts],
        activation[1, starts],
    )


def _over(n: int, size: int, function: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.cat([function(torch.arange(n)[low : low + size]) for low in range(0, n, size)])
