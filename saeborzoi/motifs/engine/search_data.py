"""One node's sequences as the search for motifs uses them, and what it asks an executor for.

An executor answers with the same numbers wherever it computes: `answer` here at once with the
compiled loops, `batched.py` for many nodes together. Which questions are asked, and what follows
from an answer, is in `builtin.py`.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from saeborzoi.motifs.engine import kernels, significance
from saeborzoi.motifs.sequences import Sequences, four_mers, reverse_complement

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
U1 = NDArray[np.uint8]

SHARPNESS = 2 / 3
"""Probability that a starting matrix gives its own letter beyond the background's."""
_GRID_RATIO = 2
"""Numbers of sites that may be expected, each with a start of its own, grow by this factor."""


@dataclass(frozen=True, eq=False)
class SearchData:
    """One node's sequences and the tables of their significance.

    Attributes
    ----------
    letters, codes4
        (n_strands, n_sequences, longest) uint8, letters and the 4-mers that start there.
    lengths
        (n_sequences,) int64, bp.
    background
        (4,) float64, probability of A C G T.
    table
        `significance.column_table` of it.
    min_width
        Narrowest motif, bp.
    """

    letters: U1
    codes4: U1
    lengths: I8
    background: F8
    table: F8
    min_width: int
    _log_ways: dict[int, F8] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        sequences: Sequences,
        background: F8,
        min_width: int,
        both_strands: bool,
        keep_table: bool,
    ) -> SearchData:
        """The data of some sequences; `keep_table` keeps the table for the next node."""
        strands = [sequences, reverse_complement(sequences)] if both_strands else [sequences]
        n = sequences.lengths.size
        if keep_table:
            table = significance.cached_column_table(n, tuple(background.tolist()))
        else:
            table = significance.column_table(n, background)
        return cls(
            letters=np.stack([s.letters for s in strands]),
            codes4=np.stack([four_mers(s) for s in strands]),
            lengths=sequences.lengths,
            background=background,
            table=table,
            min_width=min_width,
        )

    @cached_property
    def x_log_x(self) -> F8:
        """(n_sequences + 1,) float64, x ln x."""
        x = np.arange(self.lengths.size + 1, dtype=float)
        return x * np.log(np.maximum(x, 1))

    @cached_property
    def numbers(self) -> I8:
        """Numbers of sites that may be expected: 2, 4, 8 ... n_sequences."""
        n = self.lengths.size
        numbers = []
        number = 2
        while number < n:
            numbers.append(number)
            number *= _GRID_RATIO
        return np.array([*numbers, n], np.int64)

    @cached_property
    def _sorted_lengths(self) -> I8:
        return np.sort(self.lengths)[::-1].copy()

    def log_ways(self, width: int) -> F8:
        """`significance.log_ways` of a width."""
        if width not in self._log_ways:
            self._log_ways[width] = significance.log_ways(
                self._sorted_lengths, width, len(self.letters)
            )
        return self._log_ways[width]


@dataclass(frozen=True, eq=False)
class Windows:
    """All windows of one width.

    Attributes
    ----------
    weight
        (n_strands, n_sequences, longest - width + 1) float64, how free each window is of earlier
        motifs; 0 past the end.
    """

    data: SearchData
    width: int
    weight: F8

    @classmethod
    def of(cls, data: SearchData, width: int, free: F8) -> Windows:
        """Windows of which each is as free as its least free position.

        Parameters
        ----------
        free
            (n_sequences, longest) float64, how free each position of the given strand is.
        """
        n_strands, _, longest = data.codes4.shape
        n_windows = longest - width + 1
        forward = free[:, :n_windows].copy()
        for c in range(1, width):
            np.minimum(forward, free[:, c : c + n_windows], out=forward)
        last = data.lengths[:, None] - width
        j = np.arange(n_windows)
        weight = np.where(j <= last, forward, 0.0)
        if n_strands == 1:
            return cls(data, width, weight[None])
        mirrored = np.take_along_axis(forward, np.maximum(last - j, 0), axis=1)
        return cls(data, width, np.stack([weight, np.where(j <= last, mirrored, 0.0)]))


class Align(NamedTuple):
    """Ask for the best windows of the sequences under each of some subsequences.

    `letters` (n_starts, width) uint8. The answer is an `Aligned`.
    """

    windows: Windows
    letters: U1


class Aligned(NamedTuple):
    """`counts` (n_starts, n_numbers, width, 4) int64 and `n_eligible` (n_starts,) int64, as
    `kernels.align_starts` gives them for the numbers of sites of the data."""

    counts: I8
    n_eligible: I8


class Converge(NamedTuple):
    """Ask for expectation maximization from some matrices.

    `matrices` (n, width, 4) float64 and `fractions` (n,) float64; `hold_fraction` as in
    `kernels.expectation_maximization`. The answer is a `Converged`.
    """

    windows: Windows
    matrices: F8
    fractions: F8
    hold_fraction: bool


class Converged(NamedTuple):
    """`matrices` (n, width, 4) float64 and `fractions` (n,) float64."""

    matrices: F8
    fractions: F8


class Order(NamedTuple):
    """Ask for the sequences in order of their best window under some matrices.

    `matrices` (n, width, 4) float64 and `fractions` (n,) float64. The answer is an `Ordered`.
    """

    windows: Windows
    matrices: F8
    fractions: F8


class Ordered(NamedTuple):
    """`order` (n, n_sequences) int64, sequences by falling probability of their best window, ties
    in order of the sequences; `start` (n, n_sequences) int64, as from `kernels.best_windows`;
    `n_eligible` (n,) int64, sequences that have a free window."""

    order: I8
    start: I8
    n_eligible: I8


Request = Align | Converge | Order
Answer = Aligned | Converged | Ordered
T = TypeVar("T")
Steps = Generator[Request, Answer, T]
"""A search in steps: yields requests, is sent their answers, returns what it found."""


def answer(request: Request) -> Answer:
    """The answer to one request, by the compiled loops on this thread."""
    windows = request.windows
    data, weight = windows.data, windows.weight
    if isinstance(request, Align):
        return Aligned(
            *kernels.align_starts(
                request.letters, data.codes4, data.lengths, data.background, weight, SHARPNESS,
                data.numbers,
            )
        )  # fmt: skip
    pairs = list(zip(request.matrices, request.fractions, strict=True))
    if isinstance(request, Converge):
        found = [
            kernels.expectation_maximization(
                data.codes4, data.lengths, matrix, fraction, request.hold_fraction,
                data.background, weight,
            )
            for matrix, fraction in pairs
        ]  # fmt: skip
        return Converged(np.stack([m for m, _ in found]), np.array([f for _, f in found]))
    scores, starts = [], []
    for matrix, fraction in pairs:
        odds = kernels.four_mer_odds(matrix, data.background)
        score, start = kernels.best_windows(
            data.codes4, data.lengths, windows.width, odds, weight, fraction
        )
        scores.append(score)
        starts.append(start)
    score = np.stack(scores)
    order = np.argsort(-score, axis=1, kind="stable")
    return Ordered(order, np.stack(starts), (score > 0).sum(axis=1))


def run(steps: Steps[T]) -> T:
    """Take a search to its end on this thread."""
    try:
        request = next(steps)
        while True:
            request = steps.send(answer(request))
    except StopIteration as end:
        return end.value
