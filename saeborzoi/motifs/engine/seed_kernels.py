"""Compiled loops over starting points: every subsequence of the data is compared with every window
of every sequence.

A window scores the letters in which it agrees with the subsequence. That is all there is to it: a
starting matrix gives each letter of the subsequence `SEED_SHARPNESS` and the others the same. The
innermost loops run over sequences, one byte each, which the compiler turns into vectors.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
U1 = NDArray[np.uint8]


@njit(cache=True, nogil=True)
def scan_seeds(
    letters: U1,
    lengths: I8,
    is_letter: U1,
    mask: U1,
    is_seed: U1,
    numbers: I8,
    background: F8,
) -> F8:
    """A lower bound of the log-likelihood ratio of each subsequence's best windows.

    The best so many windows agree with the subsequence in a share `f` of their letters. Were it the
    same share in each column, the ratio would be at least `n sum_c KL(f, p_c)`, `p_c` the
    background of the column's letter. It orders subsequences well enough to align a few only.

    Parameters
    ----------
    letters
        (n_sequences, longest) uint8, given strand: the subsequences.
    is_letter, mask
        As of `SearchData` and `MotifWindows`.
    is_seed
        (n_sequences, n_windows) uint8, 1 where a subsequence is to be rated.
    numbers
        (n_numbers,) int64, ascending.

    Returns
    -------
    (n_sequences, n_windows, n_numbers) float64, nats; -inf where it is not rated. Where there are
    fewer free windows than the number, that of all of them.
    """
    n_strands, n_windows, n = mask.shape
    width = letters.shape[1] - n_windows + 1
    log_p, log_q = np.log(background), np.log(1.0 - background)
    rating = np.full((letters.shape[0], n_windows, numbers.size), -np.inf)
    agree = np.zeros((n_strands, n_windows, n), np.uint8)
    best = np.zeros(n, np.uint8)
    has_free = np.zeros((n_strands, n_windows), np.bool_)
    for s in range(n_strands):
        for j in range(n_windows):
            has_free[s, j] = mask[s, j].any()
    for x in range(n):
        if not is_seed[x].any():
            continue
        for i in range(lengths[x] - width + 1):
            best[:] = 0
            for s in range(n_strands):
                for j in range(n_windows):
                    # a row holds one diagonal, along which one letter leaves and one joins
                    row = agree[s, (j - i) % n_windows]
                    if i > 0 and j > 0:
                        plus = is_letter[s, letters[x, i + width - 1], j + width - 1]
                        minus = is_letter[s, letters[x, i - 1], j - 1]
                        for t in range(n):
                            row[t] += plus[t] - minus[t]
                    else:
                        row[:] = 0
                        for c in range(width):
                            plus = is_letter[s, letters[x, i + c], j + c]
                            for t in range(n):
                                row[t] += plus[t]
                    if has_free[s, j] and is_seed[x, i]:
                        free = mask[s, j]
                        for t in range(n):
                            best[t] = max(best[t], row[t] & free[t])
            if is_seed[x, i]:
                sum_p, sum_q = 0.0, 0.0
                for c in range(width):
                    sum_p += log_p[letters[x, i + c]]
                    sum_q += log_q[letters[x, i + c]]
                _rate(best, width, numbers, sum_p, sum_q, rating[x, i])
    return rating


@njit(cache=True, nogil=True)
def _rate(best: U1, width: int, numbers: I8, sum_p: float, sum_q: float, rating: F8) -> None:
    """The bound of `scan_seeds` at each number, from each sequence's best agreement."""
    # four counters, as neighbours often agree in the same number of letters
    counts = np.zeros((4, width + 1), np.int64)
    whole = best.size - best.size % 4
    for t in range(0, whole, 4):
        for u in range(4):
            counts[u, best[t + u]] += 1
    for t in range(whole, best.size):
        counts[0, best[t]] += 1
    g, taken, letters = 0, 0, 0
    for agree in range(width, -1, -1):
        here = counts[0, agree] + counts[1, agree] + counts[2, agree] + counts[3, agree]
        if agree == 0:
            here = 0  # no free window, or none that agrees at all
        last = agree == 0
        while g < numbers.size and (last or taken + here >= numbers[g]):
            n = taken if last else numbers[g]
            if n < 2:
                break
            share = (letters + (n - taken) * agree) / (n * width)
            bound = -share * sum_p - (1.0 - share) * sum_q
            if share > 0.0:
                bound += width * share * math.log(share)
            if share < 1.0:
                bound += width * (1.0 - share) * math.log(1.0 - share)
            rating[g] = n * bound
            g += 1
        letters += here * agree
        taken += here


@njit(cache=True, nogil=True)
def align_seed(seed: U1, is_letter: U1, mask: U1) -> tuple[I8, I8, int]:
    """Every sequence's best window under one subsequence, of equals the first.

    Returns
    -------
    (n_sequences,) int64 sequences by falling agreement, ties in order; (n_sequences,) int64 start
    of each sequence's window, `start + longest` on strand 1; sequences that have a free window.
    """
    n_strands, n_windows, n = mask.shape
    width, longest = seed.size, is_letter.shape[2]
    best = np.zeros(n, np.uint8)
    where = np.zeros(n, np.uint8)
    strand = np.zeros(n, np.uint8)
    row = np.zeros(n, np.uint8)
    for s in range(n_strands):
        for j in range(n_windows):
            row[:] = 1
            for c in range(width):
                plus = is_letter[s, seed[c], j + c]
                for t in range(n):
                    row[t] += plus[t]
            free = mask[s, j]
            for t in range(n):
                value = row[t] & free[t]
                if value > best[t]:
                    best[t], where[t], strand[t] = value, j, s
    first = np.zeros(width + 3, np.int64)
    for t in range(n):
        first[width + 1 - best[t] + 1] += 1
    for k in range(1, width + 3):
        first[k] += first[k - 1]
    eligible = n - (first[width + 2] - first[width + 1])
    order = np.empty(n, np.int64)
    for t in range(n):
        k = width + 1 - best[t]
        order[first[k]] = t
        first[k] += 1
    return order, where.astype(np.int64) + longest * strand.astype(np.int64), eligible
