"""One search in progress: from what is free of a node's sequences to the next motif.

How long it goes on is in `builtin.py`; `README.md` beside this file has the method in order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeborzoi.motifs import properties
from saeborzoi.motifs.engine import gap_kernels, kernels, site_kernels
from saeborzoi.motifs.engine.copies import effective_sites
from saeborzoi.motifs.engine.search_data import MotifWindows, SearchData
from saeborzoi.motifs.engine.starts import Starts, starting_points

_FIRST_ITERATIONS = 8
"""After so many iterations a start ends"""
_BEHIND = 0.3
"""whose ln E is above the best one's by this share of it,"""
_BEHIND_LOG_E = 8 * math.log(10)
"""and by at least this."""
_N_CONTINUED = 12
"""So many of the others go on, the best ones: in each search of every recorded set the best in the
end was among the first eleven."""
_FEW = 2
"""Up to this expected number two subsequences are started from: the E-values of so few windows are
nearly the same for many."""
_EQUAL_LOG_E = 0.1 * math.log(10)
"""E-values that are nearer than this are equal: that is less than what a site more or less does to
the bins that they are read from. Of equals the motif with the most sites is taken."""
_CLEAR_LOG_E = math.log(10)
"""An ln E from interpolated tables is this far off at most; an alignment was clearly better without
its gaps where it loses more to them."""
_N_AGAIN = 2
"""Pairs of width and expected number that are searched again where the best alignments were lost to
gaps,"""
_N_AGAIN_STARTS = 10
"""each from so many starts."""
_N_EXACT = 12
"""Numbers of sites whose significance is read from a table of their own, at most,"""
_RAGGED_LOG_E = 6.0
"""if their interpolated ln E is within this of the smallest."""


class Motif(NamedTuple):
    """One motif and its sites.

    Attributes
    ----------
    counts
        (width, 4) int64, letters of the sites.
    n_sites
        Sites that the counts are made from.
    n_effective_sites
        Sites with those of near-identical sequences counted once, `copies.copy_weights`.
    llr
        Log-likelihood ratio of the sites against the background, nats.
    log_e_value
        Natural logarithm of the E-value.
    sequence, start, strand
        (n_sites,) int64: sequence of each site, start in bp on the given strand, and 0 for the
        given strand or 1 for its reverse complement.
    suspect
        Why the search put it aside: "composition", "repeat" or "few_sites"; else None.
    """

    counts: NDArray[np.int64]
    n_sites: int
    n_effective_sites: float
    llr: float
    log_e_value: float
    sequence: NDArray[np.int64]
    start: NDArray[np.int64]
    strand: NDArray[np.int64]
    suspect: str | None


@dataclass
class _Start:
    """A matrix on its way: (width, 4) float64, and the fraction of sequences that hold it."""

    windows: MotifWindows
    number: int
    matrix: NDArray[np.float64]
    fraction: float


class _Alignment(NamedTuple):
    """What expectation maximization from one start ends in.

    Attributes
    ----------
    width, number
        Width in bp and index of the expected number that it started from.
    order
        (n_sequences,) int64, by falling probability of the best window to be a site.
    start
        (n_sequences,) int64, start of that window, `start + longest` on strand 1.
    n_sites
        The number of sites with the smallest E-value, with all columns.
    log_e
        ln E of the run of its columns with the smallest p-value: what it can be at best.
    log_e_values
        (n + 1,) float64, ln E of each number of sites with all columns; interpolated tables.
    """

    width: int
    number: int
    order: NDArray[np.int64]
    start: NDArray[np.int64]
    n_sites: int
    log_e: float
    log_e_values: NDArray[np.float64]


def _last_smallest(values: NDArray[np.float64]) -> int:
    """Index of the smallest value, of equals the last."""
    return values.size - 1 - int(values[::-1].argmin())


class Search:
    """A search in progress: what is still free of the sequences."""

    def __init__(
        self,
        data: SearchData,
        widths: list[int],
        min_sites: int,
        weights: NDArray[np.float64],
    ) -> None:
        self.data = data
        self.widths = widths
        self.min_sites = min_sites
        self.weights = weights[data.given]
        self.free = np.ones(data.letters.shape[1:], np.uint8)

    def best(self, allow_suspect: bool) -> Motif | None:
        """The motif with the smallest E-value in what is free; None where there is none."""
        starts = {}
        for width in self.widths:
            windows = MotifWindows.of(self.data, width, self.free)
            points = starting_points(windows)
            if points is not None:
                starts[width] = windows, points
        few = range(int((self.data.numbers <= _FEW).sum()))
        first = [(width, g, 0) for width in starts for g in starts[width][1].distinct_numbers()]
        second = [(width, g, 1) for width in starts for g in few]
        alignments = self._converged(starts, first + second)
        motif, lost = self._choose(alignments, allow_suspect)
        if motif is not None and lost:
            # one odd site is enough for a gap: other starts may do without it
            again = [
                (alignment.width, alignment.number, rank)
                for alignment in lost[:_N_AGAIN]
                for rank in range(1, _N_AGAIN_STARTS)
            ]
            alignments += self._converged(starts, again)
            motif, _ = self._choose(alignments, allow_suspect)
        return motif

    def put_aside(self, motif: Motif) -> None:
        """Go on in what a motif leaves: its sites are erased, but not those of mere composition,
        which would leave nothing. Then no motif as wide as all sequences is looked for: its sites
        can be aligned in one way only, so that what is left of any composition scores."""
        if motif.suspect != "composition":
            rows = np.argsort(self.data.given)[motif.sequence]
            for row, start, strand in zip(rows, motif.start, motif.strand, strict=True):
                width = len(motif.counts)
                first = self.data.lengths[row] - width - start if strand else start
                self.free[row, first : first + width] = 0
        self.widths = [width for width in self.widths if width < self.data.longest]

    def _converged(
        self,
        starts: dict[int, tuple[MotifWindows, Starts]],
        points: Iterable[tuple[int, int, int]],
    ) -> list[_Alignment]:
        """What starting points lead to: width, index of the expected number, rank of the start.

        Those that after some iterations are far behind the best one end there.
        """
        begun = []
        for width, number, rank in points:
            windows, starts_of_width = starts[width]
            if rank < len(starts_of_width.seeds):
                n_expected = int(self.data.numbers[number])
                start = _Start(
                    windows,
                    number,
                    starts_of_width.matrix(number, rank),
                    n_expected / self.data.lengths.size,
                )
                begun.append((start, *self._aligned(start, _FIRST_ITERATIONS)))
        # not of whole sequences, which converge at once: they can be aligned in one way only
        ends = [
            alignment.log_e
            for _, _, alignment in begun
            if alignment is not None and alignment.width < self.data.longest
        ]
        best = min(ends, default=np.inf)
        behind = best + max(_BEHIND_LOG_E, _BEHIND * abs(best))
        going_on = sorted(
            alignment.log_e
            for _, converged, alignment in begun
            if alignment is not None and not converged and alignment.log_e < behind
        )[:_N_CONTINUED]
        behind = np.nextafter(going_on[-1], np.inf) if going_on else behind
        alignments = []
        for start, converged, alignment in begun:
            if alignment is None:
                continue
            if not converged and alignment.log_e < behind:
                _, alignment = self._aligned(start, kernels.MAX_ITERATIONS - _FIRST_ITERATIONS)
            if alignment is not None:
                alignments.append(alignment)
        return alignments

    def _aligned(self, start: _Start, n_iterations: int) -> tuple[bool, _Alignment | None]:
        """Expectation maximization, whether it converged, and the best number of sites; `start`
        moves to where it ends."""
        data, windows, number = self.data, start.windows, start.number
        width = windows.width
        start.matrix, start.fraction, probability, place, n_eligible, converged = (
            kernels.expectation_maximization(
                data.words, windows.free_bits, data.by_length, data.lengths, start.matrix,
                data.numbers[number], start.fraction, n_iterations, data.background,
            )
        )  # fmt: skip
        if n_eligible < 2:
            return True, None
        order = np.argsort(-probability, kind="stable")
        log_e_values = self._log_e_values(order, place, n_eligible, width)
        n_sites = _last_smallest(log_e_values)
        counts = self._counts(order, place, n_sites, width)
        _, _, log_e = self._columns(counts, n_sites, data.table[n_sites], data.min_width)
        return converged, _Alignment(width, number, order, place, n_sites, log_e, log_e_values)

    def _choose(
        self, alignments: list[_Alignment], allow_suspect: bool
    ) -> tuple[Motif | None, list[_Alignment]]:
        """The motif with the smallest E-value of some alignments, and those narrower than the
        sequences that would be better if it were not for gaps, best first.

        Columns with gaps are left out of those alignments only that could be the best: that takes
        long and makes no E-value smaller.
        """
        motifs: dict[tuple[int, int, float], Motif | None] = {}
        lost_all: list[_Alignment] = []
        tried: list[tuple[_Alignment, Motif]] = []
        best = np.inf
        for alignment in sorted(alignments, key=lambda a: a.log_e):
            if alignment.log_e > best + _CLEAR_LOG_E:
                break
            same = alignment.width, alignment.n_sites, alignment.log_e
            if same not in motifs:
                motifs[same] = self._motif(alignment, best + _CLEAR_LOG_E)
            motif = motifs[same]
            if motif is None:
                lost_all.append(alignment)
            elif motif.suspect is None or allow_suspect:
                tried.append((alignment, motif))
                best = min(best, motif.log_e_value)
        if not tried:
            return None, []
        equals = [motif for _, motif in tried if motif.log_e_value <= best + _EQUAL_LOG_E]
        lost_all += [a for a, motif in tried if a.log_e < motif.log_e_value - _CLEAR_LOG_E]
        lost = {
            (a.width, a.number): a
            for a in sorted(lost_all, key=lambda a: -a.log_e)
            if a.log_e < best - _CLEAR_LOG_E and a.width < self.data.longest
        }
        return max(equals, key=lambda motif: motif.n_sites), list(lost.values())[::-1]

    def _motif(self, alignment: _Alignment, bound: float) -> Motif | None:
        """The motif of an alignment: its columns without gaps, of these the run with the smallest
        p-value, and the number of sites with the smallest E-value for that run. None where so many
        columns have gaps that its ln E is above `bound`."""
        data, order, start = self.data, alignment.order, alignment.start
        n_sites = alignment.n_sites
        first, n_columns = self._without_gaps(alignment, n_sites)
        if n_columns < alignment.width:
            counts = self._counts(order, start, n_sites, alignment.width)
            counts = counts[first : first + n_columns]
            _, _, log_e = self._columns(counts, n_sites, data.table[n_sites], data.min_width)
            if log_e > bound:
                return None
        exact = self._number_of_sites(order, start, alignment.log_e_values, alignment.width)
        if exact != n_sites:
            n_sites = exact
            first, n_columns = self._without_gaps(alignment, n_sites)
        counts = self._counts(order, start, n_sites, alignment.width)
        counts = counts[first : first + n_columns]
        excess = data.excess(n_sites)
        shift, width, log_e = self._columns(counts, n_sites, excess, data.min_width)
        start = start + first + shift
        if width < alignment.width:
            log_e_values = self._log_e_values(order, start, n_sites, width)
            n_sites = self._number_of_sites(order, start, log_e_values, width)
            log_e = self._exact_log_e(order, start, n_sites, width)
        counts = self._counts(order, start, n_sites, width)
        llr = float(
            data.x_log_x[counts].sum()
            - width * data.x_log_x[n_sites]
            - (counts * data.log_background).sum()
        )
        rows = order[:n_sites]
        strand, place = np.divmod(start[rows], data.longest)
        n_effective = effective_sites(
            data.letters, data.lengths, rows, start[rows], width, self.weights
        )
        return Motif(
            counts, n_sites, n_effective, llr, log_e, data.given[rows], place, strand,
            properties.suspect(
                counts / n_sites, n_sites, n_effective, data.lengths, self.min_sites
            ),
        )  # fmt: skip

    def _without_gaps(self, alignment: _Alignment, n_sites: int) -> tuple[int, int]:
        data = self.data
        return gap_kernels.columns_without_gaps(
            alignment.order, alignment.start, n_sites, data.letters, alignment.width, data.min_width
        )

    def _counts(
        self, order: NDArray[np.int64], start: NDArray[np.int64], n_sites: int, width: int
    ) -> NDArray[np.int64]:
        """`site_kernels.site_counts`."""
        return site_kernels.site_counts(
            order, start, n_sites, self.data.padded_letters, self.data.longest, width
        )

    def _log_e_values(
        self, order: NDArray[np.int64], start: NDArray[np.int64], n_most: int, width: int
    ) -> NDArray[np.float64]:
        """`site_kernels.log_e_values` from the interpolated table."""
        data = self.data
        return site_kernels.log_e_values(
            order, start, n_most, data.padded_letters, data.longest, width, data.log_background,
            data.x_log_x, data.table, data.log_ways(width),
        )  # fmt: skip

    def _number_of_sites(
        self,
        order: NDArray[np.int64],
        start: NDArray[np.int64],
        log_e_values: NDArray[np.float64],
        width: int,
    ) -> int:
        """The number of sites with the smallest E-value, of equals the largest.

        E-values are ragged in the number of sites, as the bins of the LLR are: the interpolated
        table is smooth and would often miss the smallest by one in log10. So it only says which
        numbers are worth a table of their own.
        """
        nearest = np.argsort(log_e_values, kind="stable")[:_N_EXACT]
        nearest = nearest[log_e_values[nearest] < log_e_values[nearest[0]] + _RAGGED_LOG_E]
        exact = {int(n): self._exact_log_e(order, start, int(n), width) for n in np.sort(nearest)}
        return max(n for n, log_e in exact.items() if log_e <= min(exact.values()))

    def _exact_log_e(
        self, order: NDArray[np.int64], start: NDArray[np.int64], n_sites: int, width: int
    ) -> float:
        data = self.data
        counts = self._counts(order, start, n_sites, width)
        return site_kernels.log_e_value(
            counts, n_sites, data.log_background, data.x_log_x, data.excess(n_sites),
            data.log_ways(width),
        )  # fmt: skip

    def _columns(
        self,
        counts: NDArray[np.int64],
        n_sites: int,
        excess: NDArray[np.float64],
        min_width: int,
    ) -> tuple[int, int, float]:
        """`site_kernels.best_columns` of at least `min_width`."""
        data = self.data
        ways = np.ascontiguousarray(data.log_ways_of_widths[: len(counts) + 1, n_sites])
        return site_kernels.best_columns(
            counts, n_sites, data.background, data.x_log_x, excess, ways, min_width
        )
