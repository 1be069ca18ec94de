"""Compiled loops of the built-in motif discovery: scoring every window of every seqlet, expectation
maximization, and the choice of sites with the smallest E-value.

Arrays in, arrays out; the order of the search is in `builtin.py`. All functions release the GIL.

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

from saeborzoi.motifs.significance import (
    column_minus_log_p,
    log_choices,
    log_product_p,
)

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
U1 = NDArray[np.uint8]

MAX_ITERATIONS = 50
TOLERANCE = 1e-3
"""EM ends where the matrix moves less than this (Euclidean distance), MEME's default."""
PSEUDOCOUNT = 0.01
"""Letters added to each column in proportion to the background, MEME's default for DNA."""
_NEGLIGIBLE = 1e-6
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
            expected += scale * total
            for s in range(n_strands):
                base = s * n_windows
                for j in range(n_windows):
                    z = r[base + j] * scale
                    if z > _NEGLIGIBLE:
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
        if not hold_fraction:
            fraction = min(max(expected / n_sequences, 1e-6), 1.0 - 1e-6)
        if math.sqrt(moved) < TOLERANCE:
            break
    return matrix, fraction


@njit(cache=True, nogil=True)
def _add_site(counts: I8, codes4: U1, sequence: int, start: int, width: int) -> None:
    longest = codes4.shape[2]
    s = start // longest
    j = start % longest
    for c in range(width):
        counts[c, codes4[s, sequence, j + c] >> 6] += 1


@njit(cache=True, nogil=True)
def _column_llr(counts: I8, n: int, x_log_x: F8, log_background: F8) -> float:
    """LLR in nats of a column of `n` letters, `sum c ln(c / (n p))`."""
    llr = -x_log_x[n]
    for a in range(4):
        c = counts[a]
        llr += x_log_x[c] - c * log_background[a]
    return llr


@njit(cache=True, nogil=True)
def site_counts(order: I8, start: I8, n_sites: int, codes4: U1, width: int) -> I8:
    """(width, 4) int64, letters of the first `n_sites` sites of `order`."""
    counts = np.zeros((width, 4), np.int64)
    for k in range(n_sites):
        _add_site(counts, codes4, order[k], start[order[k]], width)
    return counts


@njit(cache=True, nogil=True)
def best_number_of_sites(
    order: I8,
    start: I8,
    n_eligible: int,
    codes4: U1,
    width: int,
    background: F8,
    x_log_x: F8,
    table: F8,
    log_places: F8,
    ratio: float,
) -> tuple[int, float]:
    """The number of sites, best first, whose alignment has the smallest E-value.

    Parameters
    ----------
    order
        (n_sequences,) int64, sequences by falling probability of their best window.
    start
        (n_sequences,) int64, as from `best_windows`.
    n_eligible
        Sequences of `order` that have a free window.
    log_places
        (n_sequences + 1,) float64, `cumulative_log_places` of this width.
    ratio
        Numbers that are tried grow by this factor; 1 tries all.

    Returns
    -------
    Number of sites (0 where there are fewer than 2); ln of its E-value.
    """
    log_background = np.log(background)
    bin_per_site = -log_background.min() / (table.shape[1] - 1)
    counts = np.zeros((width, 4), np.int64)
    best_n, best = 0, np.inf
    following = 2
    for k in range(n_eligible):
        _add_site(counts, codes4, order[k], start[order[k]], width)
        n = k + 1
        if n < following and n != n_eligible:
            continue
        if n < 2:
            continue
        following = max(n + 1, int(n * ratio))
        minus_log = 0.0
        for c in range(width):
            llr = _column_llr(counts[c], n, x_log_x, log_background)
            minus_log += column_minus_log_p(llr, n * bin_per_site, table[n])
        log_e = log_product_p(minus_log, width) + log_choices(order.size, n) + log_places[n]
        if log_e < best:
            best_n, best = n, log_e
    return best_n, best


@njit(cache=True, nogil=True)
def best_columns(
    counts: I8,
    n_sites: int,
    background: F8,
    x_log_x: F8,
    excess: F8,
    log_places_of_width: F8,
    n_sequences: int,
    min_width: int,
) -> tuple[int, int, float]:
    """The run of neighbouring columns with the smallest p-value, and its E-value.

    The places that narrower columns gain do not count against them in the choice, only in the
    E-value: what MEME's widths show.

    Parameters
    ----------
    excess
        (N_BINS + 1,) float64, `column_excess` of this number of sites.
    log_places_of_width
        (width + 1,) float64, ln of the alignments of `n_sites` sites at each width.

    Returns
    -------
    First column, number of columns, ln of the E-value.
    """
    width = counts.shape[0]
    log_background = np.log(background)
    bin_nats = -n_sites * log_background.min() / (excess.size - 1)
    cumulative = np.zeros(width + 1)
    for c in range(width):
        llr = _column_llr(counts[c], n_sites, x_log_x, log_background)
        cumulative[c + 1] = cumulative[c] + column_minus_log_p(llr, bin_nats, excess)
    best_first, best_width, best = 0, width, np.inf
    for w in range(width, min_width - 1, -1):
        for first in range(width - w + 1):
            minus_log = cumulative[first + w] - cumulative[first]
            log_p = log_product_p(minus_log, w)
            if log_p < best:
                best_first, best_width, best = first, w, log_p
    log_e = best + log_choices(n_sequences, n_sites) + float(log_places_of_width[best_width])
    return best_first, best_width, log_e


@njit(cache=True, nogil=True)
def rate_starts(
    letters: U1,
    codes4: U1,
    lengths: I8,
    background: F8,
    window_weight: F8,
    x_log_x: F8,
    table: F8,
    log_places: F8,
    sharpness: float,
) -> tuple[F8, I8, I8]:
    """E-value of aligning every sequence's best window to each of some subsequences.

    Parameters
    ----------
    letters
        (n_starts, width) uint8, the subsequences.
    sharpness
        Probability that a starting matrix gives its own letter beyond the background's.

    Returns
    -------
    (n_starts,) ln E; (n_starts,) number of sites; (n_starts, width, 4) letters of these sites.
    """
    n_starts, width = letters.shape
    log_e = np.empty(n_starts)
    n_sites = np.empty(n_starts, np.int64)
    counts = np.zeros((n_starts, width, 4), np.int64)
    matrix = np.empty((width, 4))
    for k in range(n_starts):
        for c in range(width):
            for a in range(4):
                matrix[c, a] = (1.0 - sharpness) * background[a]
            matrix[c, letters[k, c]] += sharpness
        odds = four_mer_odds(matrix, background)
        score, start = best_windows(codes4, lengths, width, odds, window_weight, 0.5)
        order = np.argsort(-score)
        n_eligible = (score > 0.0).sum()
        n_sites[k], log_e[k] = best_number_of_sites(
            order, start, n_eligible, codes4, width, background, x_log_x, table, log_places, 1.5
        )
        if n_sites[k] > 0:
            counts[k] = site_counts(order, start, n_sites[k], codes4, width)
    return log_e, n_sites, counts


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
