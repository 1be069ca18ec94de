"""Compiled loops of the built-in motif discovery over every window of every seqlet: expectation
maximization.

Arrays in, arrays out; the order of the search is in `search.py`. All functions release the GIL.

Windows are looked at eight sequences at a time (`vectors.py`), of about equal length: their shapes
are in `SearchData.words` and `MotifWindows.free_bits`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from saeborzoi.motifs.engine.vectors import (
    LANES,
    LANES_OF_BITS,
    PAIR_CODES,
    append_likely,
    weigh,
    window_odds,
)

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
U1 = NDArray[np.uint8]
U8 = NDArray[np.uint64]

MAX_ITERATIONS = 50
TOLERANCE = 1e-3
"""EM ends where the matrix moves less than this (Euclidean distance), MEME's default."""
PSEUDOCOUNT = 0.01
"""Letters added to each column in proportion to the background, MEME's default for DNA."""
NEGLIGIBLE = 1e-6
"""A window less likely than this to hold a site counts for nothing."""
EXPECTED_WEIGHT = 0.8
"""Weight of the number of sites that is expected against the number that is seen (MEME's
`-wnsites`): it keeps a search for few sites from growing into one for many."""


@njit(cache=True, nogil=True)
def _pair_odds(matrix: F8, background: F8, odds: F8) -> None:
    """Odds of every pair of letters at every pair of columns, so that a window costs w / 2 look-ups
    in tables that fit into two registers.

    Parameters
    ----------
    matrix
        (width, 4) float64, probabilities.
    odds
        Flat, ceil(width / 2) x 16: first letter + 4 second letter. A letter beyond the last column
        counts 1.
    """
    width = matrix.shape[0]
    for c in range(0, width, 2):
        for second in range(4):
            odds_of_second = matrix[c + 1, second] / background[second] if c + 1 < width else 1.0
            for first in range(4):
                at = c // 2 * PAIR_CODES + 4 * second + first
                odds[at] = matrix[c, first] / background[first] * odds_of_second


@njit(cache=True, nogil=True)
def _add_four_mers(
    histogram: F8, n_blocks: int, words: U8, window_at: I8, odds: F8, places: I8
) -> None:
    """Count the letters of some windows, four at a time, each by its odds."""
    for i in range(places.size):
        place = np.uint64(places[i])
        x = odds[place]
        at = np.uint64(window_at[place // np.uint64(LANES)]) + place % np.uint64(LANES)
        word = words[at]
        block, last = np.uint64(0), np.uint64(n_blocks)
        while True:
            histogram[block << np.uint64(8) | word & np.uint64(255)] += x
            block += np.uint64(1)
            if block == last:
                break
            word >>= np.uint64(8)
            if block % np.uint64(8) == 0:
                word = words[at + block * np.uint64(4 * LANES)]


@njit(cache=True, nogil=True)
def _letter_counts(histogram: F8, counts: F8) -> None:
    """(width, 4) counts of letters from (ceil(width / 4), 256) counts of 4-mers, the first letter
    in the lowest bits."""
    width = counts.shape[0]
    first, last = np.zeros(16), np.zeros(16)
    for b in range(histogram.shape[0]):
        first[:] = 0.0
        for k in range(16):
            row = histogram[b, 16 * k : 16 * k + 16]
            here = 0.0
            for t in range(16):
                first[t] += row[t]
                here += row[t]
            last[k] = here
        for c in range(4 * b, min(4 * b + 4, width)):
            pairs = first if c < 4 * b + 2 else last
            for k in range(16):
                counts[c, k >> 2 if c % 2 else k & 3] += pairs[k]


@njit(cache=True, nogil=True)
def expectation_maximization(
    words: U8,
    free_bits: U1,
    order: I8,
    lengths: I8,
    start: F8,
    n_expected: int,
    fraction: float,
    n_iterations: int,
    background: F8,
) -> tuple[F8, float, F8, I8, int, bool]:
    """ZOOPS: zero or one occurrence a sequence (Bailey & Elkan 1995, section 4).

    The fraction of sequences that hold the motif is `EXPECTED_WEIGHT` times the fraction that is
    expected, plus the rest times the fraction that is seen. Where all are expected every sequence
    with a free window holds one.

    Parameters
    ----------
    words, order
        `SearchData.words` and `by_length`.
    free_bits
        `MotifWindows.free_bits`.
    lengths
        (n_sequences,) int64, bp.
    start
        (width, 4) float64, starting matrix, all entries > 0.
    n_expected
        Sequences that are expected to hold the motif.
    fraction
        Fraction of sequences that hold it at the start.
    n_iterations
        Iterations at most.

    Returns
    -------
    (width, 4) float64 matrix with pseudocount and the fraction, to go on from; of the last
    expectation, so of the matrix before: (n_sequences,) float64 probability of each sequence's best
    window to be a site, 0 where none is free, and (n_sequences,) int64 its start,
    `start + longest` on strand 1; sequences with a free window; whether it moved less than
    `TOLERANCE` in the end.
    """
    n_groups, n_strands, longest = words.shape[:3]
    n_windows = free_bits.shape[2]
    n_sequences = lengths.size
    width = start.shape[0]
    n_pairs, n_blocks = (width + 1) // 2, (width + 3) // 4
    flat_words = words.ravel()
    matrix = start.copy()
    pair_odds = np.empty(n_pairs * PAIR_CODES)
    odds = np.empty(n_strands * n_windows * LANES)
    window_at = np.empty(n_strands * n_windows, np.int64)
    likely = np.empty((n_strands * n_windows + 1) * LANES, np.int64)
    lanes = LANES_OF_BITS.copy()
    prior = np.zeros(n_groups * LANES)
    for t in range(n_sequences):
        prior[t] = 1.0 / (n_strands * max(lengths[order[t]] - width + 1, 1))
    scale, sites = np.empty(LANES), np.empty(LANES)
    total, top = np.empty(n_groups * LANES), np.empty(n_groups * LANES)
    where = np.zeros(n_groups * LANES, np.int64)
    histogram = np.empty(n_blocks * 256)
    letter_counts = np.empty((width, 4))
    converged = False
    for _ in range(n_iterations):
        _pair_odds(matrix, background, pair_odds)
        histogram[:] = 0.0
        sites[:] = 0.0
        total[:] = 0.0
        top[:] = 0.0
        for g in range(n_groups):
            group = g * LANES
            n = 0
            for s in range(n_strands):
                for j in range(n_windows):
                    free = free_bits[g, s, j]
                    if free:
                        window_at[n] = ((g * n_strands + s) * longest + j) * LANES
                        window_odds(
                            flat_words, window_at[n], free, pair_odds, n_pairs, odds, n * LANES,
                            total, top, where, group, j + s * longest,
                        )  # fmt: skip
                        n += 1
            weigh(total, top, prior, group, fraction, scale, sites)
            n_likely = 0
            for k in range(n):
                n_likely = append_likely(
                    odds, k * LANES, scale, NEGLIGIBLE, lanes, likely, n_likely
                )
            _add_four_mers(histogram, n_blocks, flat_words, window_at, odds, likely[:n_likely])
        letter_counts[:] = PSEUDOCOUNT * background
        _letter_counts(histogram.reshape(n_blocks, 256), letter_counts)
        moved = 0.0
        for c in range(width):
            letters = letter_counts[c].sum()
            for a in range(4):
                moved += (letter_counts[c, a] / letters - matrix[c, a]) ** 2
                matrix[c, a] = letter_counts[c, a] / letters
        n_sites = EXPECTED_WEIGHT * n_expected + (1.0 - EXPECTED_WEIGHT) * sites.sum()
        fraction = min(n_sites / n_sequences, 1.0)
        if math.sqrt(moved) < TOLERANCE:
            converged = True
            break
    probability, place = np.empty(n_sequences), np.empty(n_sequences, np.int64)
    eligible = 0
    for t in range(n_sequences):
        probability[order[t]], place[order[t]] = top[t], where[t]
        eligible += total[t] > 0.0
    return matrix, fraction, probability, place, eligible, converged
