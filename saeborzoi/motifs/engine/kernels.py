"""Compiled loops of the built-in motif discovery over every window of every seqlet: scores and
expectation maximization. The choice of sites is in `site_kernels.py`.

Arrays in, arrays out; the order of the search is in `builtin.py`. All functions release the GIL.
`batched.py` does the same arithmetic for many nodes at once and gives the same bits: odds of
windows are added one by one in order, expected letters are rounded to a grid on which their sum is
exact in any order, and of equals the first is taken.

Shapes: `codes4` is (n_strands, n_sequences, longest) uint8, the 4-mer that starts at each position
(letters 0..3, first letter in the highest bits, zeros beyond the end); strand 1 is the reverse
complement. `window_weight` is (n_strands, n_sequences, n_windows) float64, 0 where an earlier motif
lies, else 1.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from saeborzoi.motifs.engine.site_kernels import add_site

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
UNIT = 2.0**-32
"""Probabilities of sites are rounded to this: sums of up to 2^21 of them are then exact."""
MIN_WEIGHT = 0.5
"""A window less free than this holds an earlier motif and cannot be a site."""


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
def best_windows(
    codes4: U1, lengths: I8, width: int, odds: F8, window_weight: F8, fraction: float
) -> tuple[F8, I8]:
    """The most probable window of each sequence.

    Returns
    -------
    (n_sequences,) float64, its odds by the places in its sequence (the order of the posterior), 0
    where there is no free window; (n_sequences,) int64, its start, `start + longest` on strand 1.
    """
    n_strands, n_sequences, longest = codes4.shape
    best = np.zeros(n_sequences)
    start = np.zeros(n_sequences, np.int64)
    n_blocks = odds.shape[0]
    for i in range(n_sequences):
        n_windows = lengths[i] - width + 1
        if n_windows <= 0:
            continue
        total = 0.0
        for s in range(n_strands):
            for j in range(n_windows):
                w = window_weight[s, i, j]
                if w <= 0.0:
                    continue
                r = w * odds[0, codes4[s, i, j]]
                for b in range(1, n_blocks):
                    r *= odds[b, codes4[s, i, j + 4 * b]]
                total += r
                if r > best[i] and w > MIN_WEIGHT:
                    best[i] = r
                    start[i] = j + s * longest
        share = fraction / (n_strands * n_windows)
        best[i] = share * best[i] / (1.0 - fraction + share * total)
    return best, start


@njit(cache=True, nogil=True)
def expectation_maximization(
    codes4: U1,
    lengths: I8,
    start: F8,
    fraction: float,
    hold_fraction: bool,
    background: F8,
    window_weight: F8,
) -> tuple[F8, float]:
    """ZOOPS: zero or one occurrence a sequence (Bailey & Elkan 1995, section 4).

    Parameters
    ----------
    start
        (width, 4) float64, starting matrix, all entries > 0.
    fraction
        Starting fraction of sequences that hold the motif, in (0, 1).
    hold_fraction
        Keep that fraction: below the true one it sharpens the matrix, as weak sites count less.

    Returns
    -------
    (width, 4) float64 matrix with pseudocount; the fraction of sequences that hold the motif.
    """
    n_strands, n_sequences, longest = codes4.shape
    width = start.shape[0]
    n_blocks = (width + 3) // 4
    matrix = start.copy()
    r = np.empty(n_strands * longest)
    for _ in range(MAX_ITERATIONS):
        odds = four_mer_odds(matrix, background)
        histogram = np.zeros((n_blocks, 256))
        expected = 0.0
        for i in range(n_sequences):
            n_windows = lengths[i] - width + 1
            if n_windows <= 0:
                continue
            total = 0.0
            for s in range(n_strands):
                base = s * n_windows
                for j in range(n_windows):
                    x = window_weight[s, i, j] * odds[0, codes4[s, i, j]]
                    for b in range(1, n_blocks):
                        x *= odds[b, codes4[s, i, j + 4 * b]]
                    r[base + j] = x
                    total += x
            share = fraction / (n_strands * n_windows)
            scale = share / (1.0 - fraction + share * total)
            expected += np.rint(scale * total / UNIT)
            for s in range(n_strands):
                base = s * n_windows
                for j in range(n_windows):
                    z = r[base + j] * scale
                    if z > NEGLIGIBLE:
                        z = np.rint(z / UNIT)
                        for b in range(n_blocks):
                            histogram[b, codes4[s, i, j + 4 * b]] += z
        moved = 0.0
        for c in range(width):
            shift = 2 * (3 - c % 4)
            column = np.zeros(4)
            for code in range(256):
                column[(code >> shift) & 3] += histogram[c // 4, code]
            column = PSEUDOCOUNT * background + column * UNIT
            letters = column[0] + column[1] + column[2] + column[3]
            for a in range(4):
                moved += (column[a] / letters - matrix[c, a]) ** 2
                matrix[c, a] = column[a] / letters
        if not hold_fraction:
            fraction = min(max(expected * UNIT / n_sequences, 1e-6), 1.0 - 1e-6)
        if math.sqrt(moved) < TOLERANCE:
            break
    return matrix, fraction


@njit(cache=True, nogil=True)
def align_starts(
    letters: U1,
    codes4: U1,
    lengths: I8,
    background: F8,
    window_weight: F8,
    sharpness: float,
    numbers: I8,
) -> tuple[I8, I8]:
    """Every sequence's best window aligned to each of some subsequences.

    Parameters
    ----------
    letters
        (n_starts, width) uint8, the subsequences.
    sharpness
        Probability that a starting matrix gives its own letter beyond the background's.
    numbers
        (n_numbers,) int64, ascending, the last one `n_sequences`.

    Returns
    -------
    (n_starts, n_numbers, width, 4) int64, letters of the so many best sites, or of all where there
    are not so many; (n_starts,) int64, how many there are.
    """
    n_starts, width = letters.shape
    counts = np.zeros((n_starts, numbers.size, width, 4), np.int64)
    n_eligible = np.zeros(n_starts, np.int64)
    matrix = np.empty((width, 4))
    for k in range(n_starts):
        for c in range(width):
            for a in range(4):
                matrix[c, a] = (1.0 - sharpness) * background[a]
            matrix[c, letters[k, c]] += sharpness
        odds = four_mer_odds(matrix, background)
        score, start = best_windows(codes4, lengths, width, odds, window_weight, 0.5)
        order = np.argsort(-score, kind="mergesort")
        n_eligible[k] = (score > 0.0).sum()
        done = 0
        for g in range(numbers.size):
            if g > 0:
                counts[k, g] = counts[k, g - 1]
            for rank in range(done, min(numbers[g], n_eligible[k])):
                add_site(counts[k, g], codes4, order[rank], start[order[rank]], width)
                done += 1
    return counts, n_eligible


@njit(cache=True, nogil=True)
def probability_free(
    codes4: U1, lengths: I8, matrix: F8, fraction: float, background: F8, window_weight: F8
) -> F8:
    """Probability that no occurrence covers each position (erasing, Bailey & Elkan 1994).

    Returns
    -------
    (n_sequences, longest) float64, on the given strand.
    """
    n_strands, n_sequences, longest = codes4.shape
    width = matrix.shape[0]
    odds = four_mer_odds(matrix, background)
    free = np.ones((n_sequences, longest))
    r = np.empty((n_strands, longest))
    for i in range(n_sequences):
        n_windows = lengths[i] - width + 1
        if n_windows <= 0:
            continue
        total = 0.0
        for s in range(n_strands):
            for j in range(n_windows):
                x = window_weight[s, i, j]
                for b in range(odds.shape[0]):
                    x *= odds[b, codes4[s, i, j + 4 * b]]
                r[s, j] = x
                total += x
        share = fraction / (n_strands * n_windows)
        scale = share / (1.0 - fraction + share * total)
        for s in range(n_strands):
            for j in range(n_windows):
                z = r[s, j] * scale
                first = j if s == 0 else n_windows - 1 - j
                for c in range(first, first + width):
                    free[i, c] = max(free[i, c] - z, 0.0)
    return free
