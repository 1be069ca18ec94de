"""Starting points of the built-in motif discovery: for each number of sites that may be expected
the subsequences whose best so many windows have the smallest E-values.

One start for each width and each expected number is the search of Bailey & Elkan 1995, over every
subsequence of the data. `seed_scan.scan_seeds` rates them all with a bound; those that it puts
highest are aligned and rated by their E-value.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeborzoi.motifs.engine import seed_kernels, seed_scan, site_kernels
from saeborzoi.motifs.engine.search_data import MotifWindows

SEED_SHARPNESS = 0.5
"""Probability of a subsequence's own letter in a starting matrix; the others share the rest."""
_SEED_SEQUENCES = 600
"""Sequences whose subsequences are starts, at most: the first ones, in an order by checksum. What
is in so few of more sequences that none of these has it is no motif of theirs."""
_N_ALIGNED = 24
"""Subsequences that are aligned for each expected number, those of the highest bounds."""
_AT_ONCE = 8
"""Subsequences that are aligned before they are rated, so that little memory is touched."""
_MULTIPLIERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)
"""Odd numbers that mix the letters of a subsequence into one word."""


class Starts(NamedTuple):
    """Starting points of one width.

    Attributes
    ----------
    seeds
        (n_seeds, width) uint8, subsequences that were aligned.
    ranked
        (n_numbers, n_seeds) int64, for each number of `SearchData.numbers` the seeds by rising
        E-value.
    """

    seeds: NDArray[np.uint8]
    ranked: NDArray[np.int64]

    def distinct_numbers(self) -> list[int]:
        """Indices of the expected numbers; of those with the same first start the largest."""
        best = self.ranked[:, 0]
        return [g for g in range(len(best)) if g + 1 == len(best) or best[g] != best[g + 1]]

    def matrix(self, number: int, rank: int) -> NDArray[np.float64]:
        """(width, 4) float64, the start of a rank for the expected number of an index."""
        seed = self.seeds[self.ranked[number, rank]]
        other = (1 - SEED_SHARPNESS) / 3
        return np.where(np.arange(4) == seed[:, None], SEED_SHARPNESS, other)


def starting_points(windows: MotifWindows) -> Starts | None:
    """Subsequences to start from; None where fewer than two windows are free."""
    data, width = windows.data, windows.width
    rows = np.flatnonzero(windows.is_free.any(axis=(0, 2)))
    if windows.is_free.sum() < 2:
        return None
    letters, lengths = data.letters[0], data.lengths
    is_letter, mask, padded_letters = data.is_letter, windows.mask, data.padded_letters
    if rows.size < lengths.size:
        letters, lengths = letters[rows], lengths[rows]
        is_letter, mask = np.take(is_letter, rows, axis=-1), np.take(mask, rows, axis=-1)
        padded_letters = np.take(padded_letters, rows, axis=1)
    is_seed = np.zeros((rows.size, windows.is_free.shape[2]), np.uint8)
    first_rows = rows[:_SEED_SEQUENCES]
    is_seed[:_SEED_SEQUENCES] = _distinct(
        data.letters[0, first_rows], windows.is_free[0, first_rows], width
    )
    bounds = seed_scan.scan_seeds(
        letters, lengths, is_letter, mask, is_seed, data.numbers, data.background
    )
    row, column = is_seed.nonzero()
    n_kept = min(_N_ALIGNED, row.size)
    highest = np.argpartition(-bounds, n_kept - 1, axis=1)[:, :n_kept]
    chosen = np.unique(highest[np.isfinite(np.take_along_axis(bounds, highest, axis=1))])
    if chosen.size == 0:
        return None
    row, column = row[chosen], column[chosen]
    seeds = letters[row[:, None], column[:, None] + np.arange(width)]
    log_e = np.empty((len(seeds), data.numbers.size))
    for first in range(0, len(seeds), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        log_e[some] = site_kernels.rate_alignments(
            *seed_kernels.align_seeds(seeds[some], is_letter, mask), padded_letters, data.longest,
            width, data.numbers, data.log_background, data.x_log_x, data.table,
            data.log_ways(width),
        )  # fmt: skip
    return Starts(seeds, np.argsort(log_e.T, axis=1, kind="stable"))


def _distinct(
    letters: NDArray[np.uint8], is_free: NDArray[np.uint8], width: int
) -> NDArray[np.uint8]:
    """(n_sequences, n_windows) uint8, 1 at the first free window of each subsequence."""
    n_windows = is_free.shape[1]
    codes = np.zeros(is_free.shape, np.uint64)
    for first in range(0, width, 32):
        word = np.zeros(is_free.shape, np.uint64)
        for c in range(first, min(first + 32, width)):
            word = word * np.uint64(4) + letters[:, c : c + n_windows]
        codes = codes * np.uint64(_MULTIPLIERS[0]) + word * np.uint64(_MULTIPLIERS[1])
    return seed_kernels.first_of_each(codes, is_free)
