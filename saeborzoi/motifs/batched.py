"""The heavy part of the motif search for many nodes at once, in PyTorch on any device.

The same arithmetic as the compiled loops of `kernels.py`, operation by operation in float64, so
that an answer has the same bits: products and quotients are rounded alike everywhere (IEEE 754),
odds of windows are added in order, and what is summed over sequences lies on a grid on which sums
are exact, whatever their order. A node's answer therefore depends neither on the other nodes of the
batch nor on the device. Only arithmetic belongs here; who is asked together is in `lockstep.py`.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saeborzoi.motifs import kernels
from saeborzoi.motifs.search_data import (
    SHARPNESS,
    Align,
    Aligned,
    Answer,
    Converge,
    Converged,
    Order,
    Ordered,
    Request,
    Windows,
)

_MOST_BYTES = 2**30
"""Working memory of a pass on a GPU: large enough that starting its kernels costs little beside
running them."""
_FREE_SHARE = 0.25
"""And at most this share of the memory that is free there."""
_CPU_BYTES = 2**26
_LIVE = 4
"""Arrays of the size of all windows that are alive at once."""


class _Nodes(NamedTuple):
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

    def take(self, which: Tensor) -> _Nodes:
        return _Nodes(*(x[which] for x in self))

    @property
    def n_strands(self) -> int:
        return self.codes.shape[2] // self.places.shape[1]


class _Best(NamedTuple):
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


class BatchedExecutor:
    """Answers requests of many nodes together.

    Parameters
    ----------
    device
        As PyTorch names it.
    max_bytes
        Working memory of a pass; left out: what suits the device.
    """

    def __init__(self, device: str, max_bytes: int | None = None) -> None:
        self._device = torch.device(device)
        self._max_bytes = max_bytes or _working_memory(self._device)
        # a search asks about the same windows several times
        self._codes: weakref.WeakKeyDictionary[object, Tensor] = weakref.WeakKeyDictionary()
        self._weights: weakref.WeakKeyDictionary[object, Tensor] = weakref.WeakKeyDictionary()

    @torch.inference_mode()
    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """Answers to requests of one kind: one class, width, number of strands and
        `hold_fraction`."""
        answers: list[Answer] = []
        size = self._nodes_a_pass(requests)
        for i in range(0, len(requests), size):
            some = requests[i : i + size]
            nodes = self._stack([request.windows for request in some])
            if isinstance(some[0], Align):
                answers += self._align(nodes, some)  # type: ignore[arg-type]
            elif isinstance(some[0], Converge):
                answers += self._converge(nodes, some)  # type: ignore[arg-type]
            else:
                answers += self._order(nodes, some)  # type: ignore[arg-type]
        return answers

    def _nodes_a_pass(self, requests: Sequence[Request]) -> int:
        """How many nodes fit into the working memory."""
        shapes = [request.windows.data.codes4.shape for request in requests]
        n_strands, n_sequences, longest = (max(sizes) for sizes in zip(*shapes, strict=True))
        n_matrices = max(len(r.letters if isinstance(r, Align) else r.matrices) for r in requests)
        n_windows = longest - requests[0].windows.width + 1
        a_matrix = _LIVE * n_windows
        if isinstance(requests[0], Converge):
            a_matrix += 5 * longest  # the 4-mers and, for each letter, where it is
        return max(1, self._max_bytes // (8 * n_strands * n_sequences * a_matrix * n_matrices))

    def _stack(self, windows: Sequence[Windows]) -> _Nodes:
        data = [w.data for w in windows]
        width = windows[0].width
        n_strands = len(data[0].letters)
        n = max(d.lengths.size for d in data)
        codes = _stacked([self._kept(self._codes, d, d.codes4) for d in data])
        weight = _stacked([self._kept(self._weights, w, w.weight) for w in windows])
        places = np.ones((len(data), n))
        for k, d in enumerate(data):
            places[k, : d.lengths.size] = n_strands * np.maximum(d.lengths - width + 1, 1)
        return _Nodes(
            codes.flatten(2).long(),
            weight.flatten(2),
            self._tensor(places),
            self._tensor(np.stack([d.background for d in data])),
            self._tensor(np.array([d.lengths.size for d in data])),
            self._tensor(np.array([d.codes4.shape[2] for d in data])),
        )

    def _tensor(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def _kept(
        self,
        kept: weakref.WeakKeyDictionary[object, Tensor],
        key: object,
        array: NDArray[np.generic],
    ) -> Tensor:
        """An array of (n_strands, n_sequences, positions) on the device, positions first."""
        if key not in kept:
            kept[key] = self._tensor(array.transpose(2, 0, 1))
        return kept[key]

    def _align(self, nodes: _Nodes, requests: Sequence[Align]) -> list[Answer]:
        n_starts = [len(r.letters) for r in requests]
        width = requests[0].windows.width
        letters = np.zeros((len(requests), max(n_starts), width), np.int64)
        for k, request in enumerate(requests):
            letters[k, : n_starts[k]] = request.letters
        numbers = [r.windows.data.numbers for r in requests]
        limits = np.zeros((len(requests), max(map(len, numbers))), np.int64)
        for k, own in enumerate(numbers):
            limits[k, : len(own)] = own
        start = self._tensor(letters)
        limit = self._tensor(limits)
        counts, n_eligible = [], []
        # one node's starting points alone may be more than fits
        step = max(1, start.shape[1] * self._nodes_a_pass(requests) // len(requests))
        for i in range(0, start.shape[1], step):
            some = start[:, i : i + step]
            # added to the letter only: the sum rounds as in the compiled loop
            matrices = (1.0 - SHARPNESS) * nodes.background[:, None, None].expand(*some.shape, 4)
            is_own = torch.nn.functional.one_hot(some, 4).bool()
            matrices = torch.where(is_own, matrices + SHARPNESS, matrices)
            half = torch.full(some.shape[:2], 0.5, dtype=torch.float64, device=self._device)
            best = _best_windows(nodes, matrices, half)
            counts.append(_counts_of_best(nodes, best, width, limit).cpu())
            n_eligible.append((best.score > 0).sum(2).cpu())
        all_counts = torch.cat(counts, dim=1).numpy().astype(np.int64)
        eligible = torch.cat(n_eligible, dim=1).numpy()
        return [
            Aligned(
                np.ascontiguousarray(all_counts[k, : n_starts[k], : len(numbers[k])]),
                eligible[k, : n_starts[k]].copy(),
            )
            for k in range(len(requests))
        ]

    def _order(self, nodes: _Nodes, requests: Sequence[Order]) -> list[Answer]:
        n_matrices = [len(r.matrices) for r in requests]
        width = requests[0].windows.width
        matrices = np.full((len(requests), max(n_matrices), width, 4), 0.25)
        fractions = np.full((len(requests), max(n_matrices)), 0.5)
        for k, request in enumerate(requests):
            matrices[k, : n_matrices[k]] = request.matrices
            fractions[k, : n_matrices[k]] = request.fractions
        best = _best_windows(nodes, self._tensor(matrices), self._tensor(fractions))
        starts = (best.first + best.strand * nodes.longest[:, None, None]).cpu().numpy()
        order = best.order.cpu().numpy()
        n_eligible = (best.score > 0).sum(2).cpu().numpy()
        answers: list[Answer] = []
        for k, request in enumerate(requests):
            m, n = n_matrices[k], request.windows.data.lengths.size
            # padding scores 0 and stands last: the first n are the node's own
            answers.append(
                Ordered(order[k, :m, :n].copy(), starts[k, :m, :n].copy(), n_eligible[k, :m])
            )
        return answers

    def _converge(self, nodes: _Nodes, requests: Sequence[Converge]) -> list[Answer]:
        n_matrices = [len(r.matrices) for r in requests]
        of_node = np.repeat(np.arange(len(requests)), n_matrices)
        matrices, fractions = _expectation_maximization(
            nodes.take(self._tensor(of_node)),
            self._tensor(np.concatenate([r.matrices for r in requests])),
            self._tensor(np.concatenate([r.fractions for r in requests])),
            requests[0].hold_fraction,
        )
        ends = np.cumsum(n_matrices)[:-1]
        return [
            Converged(np.ascontiguousarray(m), f.copy())
            for m, f in zip(
                np.split(matrices.cpu().numpy(), ends),
                np.split(fractions.cpu().numpy(), ends),
                strict=True,
            )
        ]


def _working_memory(device: torch.device) -> int:
    if device.type != "cuda":
        return _CPU_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    return min(_MOST_BYTES, int(_FREE_SHARE * free))


def _stacked(arrays: Sequence[Tensor]) -> Tensor:
    """Arrays in one, each filled up with zeros to the largest shape."""
    shape = [max(sizes) for sizes in zip(*(a.shape for a in arrays), strict=True)]
    return torch.stack(
        [
            torch.nn.functional.pad(
                a, [x for i in reversed(range(a.dim())) for x in (0, shape[i] - a.shape[i])]
            )
            for a in arrays
        ]
    )


def _window_odds(nodes: _Nodes, matrices: Tensor) -> Tensor:
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


def _best_windows(nodes: _Nodes, matrices: Tensor, fractions: Tensor) -> _Best:
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
    return _Best(order, -falling, first, strand)


def _counts_of_best(nodes: _Nodes, best: _Best, width: int, numbers: Tensor) -> Tensor:
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


def _expectation_maximization(
    nodes: _Nodes, matrices: Tensor, fractions: Tensor, hold_fraction: bool
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
        matrices = new
        if not hold_fraction:
            fractions = (expected * kernels.UNIT / nodes.n_sequences).clamp(1e-6, 1.0 - 1e-6)
        ended_matrices[left], ended_fractions[left] = matrices, fractions
        on = torch.nonzero(moved >= kernels.TOLERANCE)[:, 0]
        if not len(on):
            break
        if len(on) < len(left):
            left, matrices, fractions = left[on], matrices[on], fractions[on]
            nodes, is_letter = nodes.take(on), is_letter[on]
    return ended_matrices, ended_fractions


def _one_hot(nodes: _Nodes) -> Tensor:
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
