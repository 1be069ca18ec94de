"""Compiled loops of the built-in motif discovery over every window of every seqlet: expectation
maximization.

Arrays in, arrays out; the order of the search is in `search.py`. All functions release the GIL.

Shapes: `codes4` is (n_strands, n_sequences, longest) uint8, the 4-mer that starts at each position
(letters 0..3, first letter in the highest bits, zeros beyond the end); strand 1 is the reverse
complement. `is_free` is (n_strands, n_sequences, n_windows) uint8, 1 where a window lies within its
sequence and holds no position of an earlier motif.
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
    codes4: U1,
    lengths: I8,
    start: F8,
    n_expected: int,
    fraction: float,
    n_iterations: int,
    background: F8,
    is_free: U1,
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
    n_strands, n_sequences, longest = codes4.shape
    width = start.shape[0]
    n_blocks = (width + 3) // 4
    matrix = start.copy()
    r = np.zeros(n_strands * longest)
    probability = np.zeros(n_sequences)
    place = np.zeros(n_sequences, np.int64)
    eligible = 0
    converged = False
    for _ in range(n_iterations):
        odds = four_mer_odds(matrix, background)
        histogram = np.zeros((n_blocks, 256))
        weight_sum = 0.0
        eligible = 0
        for i in range(n_sequences):
            n_windows = lengths[i] - width + 1
            if n_windows <= 0:
                continue
            total, top = 0.0, 0.0
            for s in range(n_strands):
                # block by block, so that the windows of a sequence do not wait for one another
                x = r[s * n_windows : (s + 1) * n_windows]
                code, free = codes4[s, i], is_free[s, i]
                for j in range(n_windows):
                    x[j] = odds[0, code[j]]
                for b in range(1, n_blocks):
                    for j in range(n_windows):
                        x[j] *= odds[b, code[j + 4 * b]]
                for j in range(n_windows):
                    if not free[j]:
                        x[j] = 0.0
                    total += x[j]
                    if x[j] > top:
                        top = x[j]
                        place[i] = j + s * longest
            if total <= 0.0:
                continue
            eligible += 1
            share = fraction / (n_strands * n_windows)
            scale = share / (1.0 - fraction + share * total)
            weight_sum += scale * total
            probability[i] = scale * top
            for s in range(n_strands):
                base = s * n_windows
                for j in range(n_windows):
                    z = r[base + j] * scale
                    if z > NEGLIGIBLE:
                        for b in range(n_blocks):
                            histogram[b, codes4[s, i, j + 4 * b]] += z
        moved = 0.0
        for c in range(width):
            shift = 2 * (3 - c % 4)
            column = PSEUDOCOUNT * background
            for code in range(256):
                column[(code >> shift) & 3] += histogram[c // 4, code]
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
