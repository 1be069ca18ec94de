"""Compiled loops of the built-in motif discovery over every window of every seqlet: expectation
maximization.

Arrays in, arrays out; the order of the search is in `search.py`. All functions release the GIL.

Shapes: `columns4` is (n_strands, longest, n_sequences) uint8, the 4-mer that starts at each
position (letters 0..3, first letter in the highest bits, zeros beyond the end); strand 1 is the
reverse complement. `mask` is (n_strands, n_windows, n_sequences) uint8, not 0 where a window lies
within its sequence and holds no position of an earlier motif. Sequences come last, so that the
innermost loops are long and their steps do not wait for one another.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
U1 = NDArray[np.uint8]

MAX_ITERATIONS = 50
TOLERANCE = 1e-3
"""EM ends where the matrix moves less than this (Euclidean distance), MEME's default."""
PSEUDOCOUNT = 0.01
"""Letters added to each column in proportion to the background, MEME's default for DNA."""
NEGLIGIBLE = 1e-6
"""A window less likely than this to hold a site counts for nothing."""
_AT_ONCE = 128
"""Sequences that are looked at together: as many as stay in the first cache."""
EXPECTED_WEIGHT = 0.8
"""Weight of the number of sites that is expected against the number that is seen (MEME's
`-wnsites`): it keeps a search for few sites from growing into one for many."""


@njit(cache=True, nogil=True)
def four_mer_odds(matrix: F8, background: F8) -> F8:
    """Odds of every 4-mer at every block of four columns, so that a window costs w / 4 look-ups.

    Parameters
    ----------
    matrix
        (width, 4) float64, probabilities.

    Returns
    -------
    (ceil(width / 4), 256) float64; letters beyond the last column count 1.
    """
    width = matrix.shape[0]
    n_blocks = (width + 3) // 4
    odds = np.ones((n_blocks, 256))
    for b in range(n_blocks):
        for c in range(4 * b, min(4 * b + 4, width)):
            shift = 2 * (3 - (c - 4 * b))
            for code in range(256):
                letter = (code >> shift) & 3
                odds[b, code] *= matrix[c, letter] / background[letter]
    return odds


@njit(cache=True, nogil=True)
def expectation_maximization(
    columns4: U1,
    lengths: I8,
    start: F8,
    n_expected: int,
    fraction: float,
    n_iterations: int,
    background: F8,
    mask: U1,
) -> tuple[F8, float, F8, I8, int, bool]:
    """ZOOPS: zero or one occurrence a sequence (Bailey & Elkan 1995, section 4).

    The fraction of sequences that hold the motif is `EXPECTED_WEIGHT` times the fraction that is
    expected, plus the rest times the fraction that is seen. Where all are expected every sequence
    with a free window holds one.

    Parameters
    ----------
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
    n_strands, longest, n_sequences = columns4.shape
    n_windows = mask.shape[1]
    width = start.shape[0]
    n_blocks = (width + 3) // 4
    matrix = start.copy()
    odds_of = np.zeros((n_strands, n_windows, _AT_ONCE))
    scale, likely = np.zeros(_AT_ONCE), np.zeros(_AT_ONCE, np.int64)
    probability = np.zeros(n_sequences)
    place = np.zeros(n_sequences, np.int64)
    eligible = 0
    converged = False
    for _ in range(n_iterations):
        odds = four_mer_odds(matrix, background)
        histogram = np.zeros((n_blocks, 256))
        weight_sum = 0.0
        eligible = 0
        for first in range(0, n_sequences, _AT_ONCE):
            last = min(first + _AT_ONCE, n_sequences)
            n = last - first
            total, top = np.zeros(n), np.zeros(n)
            for s in range(n_strands):
                for j in range(n_windows):
                    x, where = odds_of[s, j, :n], place[first:last]
                    code, free = columns4[s, j, first:last], mask[s, j, first:last]
                    for t in range(n):
                        x[t] = odds[0, code[t]]
                    for b in range(1, n_blocks):
                        code = columns4[s, j + 4 * b, first:last]
                        for t in range(n):
                            x[t] *= odds[b, code[t]]
                    for t in range(n):
                        x[t] = x[t] if free[t] else 0.0
                        total[t] += x[t]
                        where[t] = j + s * longest if x[t] > top[t] else where[t]
                        top[t] = max(top[t], x[t])
            for t in range(n):
                scale[t] = 0.0
                if total[t] > 0.0:
                    share = fraction / (n_strands * (lengths[first + t] - width + 1))
                    scale[t] = share / (1.0 - fraction + share * total[t])
                    weight_sum += scale[t] * total[t]
                    probability[first + t] = scale[t] * top[t]
                    eligible += 1
            for s in range(n_strands):
                for j in range(n_windows):
                    x = odds_of[s, j, :n]
                    n_likely = 0
                    for t in range(n):
                        x[t] *= scale[t]
                    for t in range(n):  # without a branch, which would be guessed wrong
                        likely[n_likely] = t
                        n_likely += x[t] > NEGLIGIBLE
                    for b in range(n_blocks):
                        code = columns4[s, j + 4 * b, first:last]
                        for k in range(n_likely):
                            histogram[b, code[likely[k]]] += x[likely[k]]
        moved = 0.0
        for c in range(width):
            shift = 2 * (3 - c % 4)
            column = PSEUDOCOUNT * background
            for four_mer in range(256):
                column[(four_mer >> shift) & 3] += histogram[c // 4, four_mer]
            letters = column.sum()
            for a in range(4):
                moved += (column[a] / letters - matrix[c, a]) ** 2
                matrix[c, a] = column[a] / letters
        n_sites = EXPECTED_WEIGHT * n_expected + (1.0 - EXPECTED_WEIGHT) * weight_sum
        fraction = min(n_sites / n_sequences, 1.0)
        if math.sqrt(moved) < TOLERANCE:
            converged = True
            break
    return matrix, fraction, probability, place, eligible, converged
