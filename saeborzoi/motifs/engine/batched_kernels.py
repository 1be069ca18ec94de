"""The arithmetic of `kernels.py` for many nodes at once, in PyTorch on any device.

The same operations in the same order in float64, so that the results have the same bits: products
and quotients are rounded alike everywhere (IEEE 754), odds of windows are added one by one, and
what is summed over sequences lies on a grid on which sums are exact, whatever their order. A node's
result therefore depends neither on the other nodes of the batch nor on the device.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from saeborzoi.motifs.engine import kernels

_DENSE = 0.75
"""Where fewer of the matrices of a batch still move, the others are taken out of it."""


class Nodes(NamedTuple):
    """The windows of some nodes, padded to one shape; rows are the sequences of strand 0, then of
    strand 1, and padding weighs nothing.

    Attributes
    ----------
    codes
        (n_nodes, longest, n_rows) int64, 4-mers.
    weight
        (n_nodes, n_windows, n_rows) float64.
    places
        (n_nodes, n_sequences) float64, places for a site in each sequence, at least 1.
    background
        (n_nodes, 4) float64.
    n_sequences, longest
        (n_nodes,) int64, without padding.
    """

    codes: Tensor
    weight: Tensor
    places: Tensor
    background: Tensor
    n_sequences: Tensor
    longest: Tensor

    def take(self, which: Tensor) -> Nodes:
        return Nodes(*(x[which] for x in self))

    @property
    def n_strands(self) -> int:
        return self.codes.shape[2] // self.places.shape[1]


class Best(NamedTuple):
    """The most probable window of each sequence, sequences in order of it; all of shape (n_nodes,
    n_matrices, n_sequences).

    Attributes
    ----------
    order
        int64, sequences.
    score
        float64, in this order.
    first, strand
        int64, start on its strand, of sequence 0, 1, ....
    """

    order: Tensor
    score: Tensor
    first: Tensor
    strand: Tensor


def _window_odds(nodes: Nodes, matrices: Tensor) -> Tensor:
    """Odds of every window times its weight.

    Parameters
    ----------
    matrices
        (n_nodes, n_matrices, width, 4) float64.

    Returns
    -------
    (n_nodes, n_matrices, n_windows, n_rows) float64.
    """
    n_nodes, n_matrices, width, _ = matrices.shape
    n_blocks = -(-width // 4)
    ratio = matrices / nodes.background[:, None, None]
    ratio = torch.nn.functional.pad(ratio, (0, 0, 0, 4 * n_blocks - width), value=1.0)
    ratio = ratio.view(n_nodes, n_matrices, n_blocks, 4, 4)
    code = torch.arange(256, device=matrices.device)
    table = ratio[..., 0, :][..., code >> 6]
    for c in range(1, 4):
        table = table * ratio[..., c, :][..., (code >> (6 - 2 * c)) & 3]
    n_windows = nodes.weight.shape[1]
    odds = nodes.weight.flatten(1)[:, None].expand(-1, n_matrices, -1)
    for b in range(n_blocks):
        codes = nodes.codes[:, 4 * b : 4 * b + n_windows].flatten(1)[:, None]
        odds = odds * table[:, :, b].gather(2, codes.expand(odds.shape))
    return odds.view(n_nodes, n_matrices, n_windows, -1)


def _total_odds(odds: Tensor, n_strands: int) -> Tensor:
    """Sum over the windows of each sequence in order, (..., n_sequences)."""
    odds = odds.unflatten(-1, (n_strands, -1))
    total = torch.zeros_like(odds[:, :, 0, 0])
    for s in range(n_strands):
        for j in range(odds.shape[2]):
            total += odds[:, :, j, s]
    return total


def best_windows(nodes: Nodes, matrices: Tensor, fractions: Tensor) -> Best:
    """As `kernels.best_windows`, for `matrices` as of `_window_odds` and (n_nodes, n_matrices)
    `fractions`."""
    odds = _window_odds(nodes, matrices)
    total = _total_odds(odds, nodes.n_strands)
    is_free = nodes.weight > kernels.MIN_WEIGHT
    best, first = torch.where(is_free[:, None], odds, 0.0).max(dim=2)
    best, first = (x.unflatten(-1, (nodes.n_strands, -1)) for x in (best, first))
    strand = torch.zeros_like(first[:, :, 0])
    if nodes.n_strands == 2:
        strand = (best[:, :, 1] > best[:, :, 0]).long()
    chosen = strand[:, :, None]
    best, first = best.gather(2, chosen)[:, :, 0], first.gather(2, chosen)[:, :, 0]
    first = torch.where(best > 0, first, 0)
    fraction = fractions[..., None]
    share = fraction / nodes.places[:, None]
    score = share * best / (1.0 - fraction + share * total)
    falling, order = torch.sort(-score, dim=2, stable=True)
    return Best(order, -falling, first, strand)


def counts_of_best(nodes: Nodes, best: Best, width: int, numbers: Tensor) -> Tensor:
    """Letters of the best sites.

    Parameters
    ----------
    numbers
        (n_nodes, n_numbers) int64, numbers of sites.

    Returns
    -------
    (n_nodes, n_matrices, n_numbers, width, 4) int32, letters of the so many best sites, or of all
    that are free where there are not so many.
    """
    n_nodes, n_matrices, n = best.order.shape
    n_rows = nodes.codes.shape[2]
    index = best.first * n_rows + best.strand * n + torch.arange(n, device=best.order.device)
    index = index.gather(2, best.order).flatten(1)
    rank = torch.arange(n, device=best.order.device)
    # whole numbers below 2^24: exact in float32
    among = (rank[:, None] < numbers[:, None]).float()
    letter = torch.arange(4, device=best.order.device)[:, None]
    is_site = (best.score > 0)[:, :, None]
    counts = []
    for c in range(width):
        code = nodes.codes.flatten(1).gather(1, index + c * n_rows).view(n_nodes, n_matrices, 1, n)
        is_letter = ((code >> 6) == letter) & is_site
        counts.append((is_letter.float().flatten(1, 2) @ among).view(n_nodes, n_matrices, 4, -1))
    return torch.stack(counts, dim=2).permute(0, 1, 4, 2, 3).round().int()


def expectation_maximization(
    nodes: Nodes, matrices: Tensor, fractions: Tensor, hold_fraction: bool
) -> tuple[Tensor, Tensor]:
    """As `kernels.expectation_maximization`, for one matrix of each node.

    Parameters
    ----------
    matrices
        (n_nodes, width, 4) float64.
    fractions
        (n_nodes,) float64.

    Returns
    -------
    The same shapes.
    """
    ended_matrices, ended_fractions = torch.empty_like(matrices), torch.empty_like(fractions)
    left = torch.arange(len(matrices), device=matrices.device)
    moves = torch.ones_like(fractions, dtype=torch.bool)
    is_letter = _one_hot(nodes)
    for _ in range(kernels.MAX_ITERATIONS):
        odds = _window_odds(nodes, matrices[:, None])
        total = _total_odds(odds, nodes.n_strands)[:, 0]
        fraction = fractions[:, None]
        share = fraction / nodes.places
        scale = share / (1.0 - fraction + share * total)
        expected = torch.round(scale * total / kernels.UNIT).sum(1)
        probability = odds[:, 0] * scale.repeat(1, nodes.n_strands)[:, None]
        probability = torch.where(
            probability > kernels.NEGLIGIBLE, torch.round(probability / kernels.UNIT), 0.0
        )
        counts = _expected_letters(is_letter, probability)
        columns = kernels.PSEUDOCOUNT * nodes.background[:, None] + counts * kernels.UNIT
        a, c, g, t = columns.unbind(2)
        new = columns / (a + c + g + t)[:, :, None]
        moved = ((new - matrices) ** 2).sum((1, 2)).sqrt()
        matrices = torch.where(moves[:, None, None], new, matrices)
        if not hold_fraction:
            updated = (expected * kernels.UNIT / nodes.n_sequences).clamp(1e-6, 1.0 - 1e-6)
            fractions = torch.where(moves, updated, fractions)
        moves &= moved >= kernels.TOLERANCE
        n_moving = int(moves.sum())
        if n_moving == 0:
            break
        if n_moving < _DENSE * len(left):
            ended_matrices[left], ended_fractions[left] = matrices, fractions
            on = torch.nonzero(moves)[:, 0]
            left, matrices, fractions, moves = left[on], matrices[on], fractions[on], moves[on]
            nodes, is_letter = nodes.take(on), is_letter[on]
    ended_matrices[left], ended_fractions[left] = matrices, fractions
    return ended_matrices, ended_fractions


def _one_hot(nodes: Nodes) -> Tensor:
    """(n_nodes, 4 * longest, n_rows) float64, where each letter is."""
    letters = nodes.codes[:, None] >> 6
    letter = torch.arange(4, device=letters.device)[:, None, None]
    return (letters == letter).double().flatten(1, 2)


def _expected_letters(is_letter: Tensor, probability: Tensor) -> Tensor:
    """Letters of all windows, each times its probability.

    Parameters
    ----------
    is_letter
        From `_one_hot`.
    probability
        (n_nodes, n_windows, n_rows) float64, whole multiples of one unit, so that sums are exact.

    Returns
    -------
    (n_nodes, width, 4) float64.
    """
    n_nodes, n_windows, _ = probability.shape
    longest = is_letter.shape[1] // 4
    width = longest - n_windows + 1
    # letters at each position against windows at each start: position - start is the column
    pairs = torch.bmm(is_letter, probability.transpose(1, 2)).contiguous()
    a_letter = longest * n_windows
    by_column = pairs.as_strided(
        (n_nodes, 4, width, n_windows), (4 * a_letter, a_letter, n_windows, n_windows + 1)
    )
    return by_column.sum(3).transpose(1, 2)
