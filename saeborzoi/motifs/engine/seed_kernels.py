"""Compiled loops that align starting points with every sequence, and which of them are the same.

A window scores the letters in which it agrees with the subsequence, as in `seed_scan.py`. The
innermost loops run over sequences, one byte each, which the compiler turns into vectors.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

I8 = NDArray[np.int64]
U1 = NDArray[np.uint8]
U8 = NDArray[np.uint64]


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
    by_four = width - width % 4  # four columns at a time, so that sums are read and written less
    row, best = np.zeros(n, np.uint8), np.zeros(n, np.uint8)
    place = np.zeros(n, np.uint16)
    for s in range(n_strands):
        for j in range(n_windows):
            row[:] = 1
            for c in range(0, by_four, 4):
                one, two = is_letter[s, seed[c], j + c], is_letter[s, seed[c + 1], j + c + 1]
                three, four = (
                    is_letter[s, seed[c + 2], j + c + 2],
                    is_letter[s, seed[c + 3], j + c + 3],
                )
                for t in range(n):
                    row[t] += one[t] + two[t] + three[t] + four[t]
            for c in range(by_four, width):
                one = is_letter[s, seed[c], j + c]
                for t in range(n):
                    row[t] += one[t]
            free, here = mask[s, j], np.uint16(s * n_windows + j)
            for t in range(n):
                agree_here = row[t] & free[t]
                place[t] = here if agree_here > best[t] else place[t]
                best[t] = max(best[t], agree_here)
    agree, start = np.zeros(n, np.int64), np.zeros(n, np.int64)
    for t in range(n):
        agree[t] = best[t]
        start[t] = place[t] if place[t] < n_windows else place[t] - n_windows + longest
    first = np.zeros(width + 3, np.int64)
    for t in range(n):
        first[width + 1 - agree[t] + 1] += 1
    for k in range(1, width + 3):
        first[k] += first[k - 1]
    eligible = n - (first[width + 2] - first[width + 1])
    order = np.empty(n, np.int64)
    for t in range(n):
        k = width + 1 - agree[t]
        order[first[k]] = t
        first[k] += 1
    return order, start, eligible


@njit(cache=True, nogil=True)
def align_seeds(seeds: U1, is_letter: U1, mask: U1) -> tuple[I8, I8, I8]:
    """`align_seed` of each of some subsequences."""
    n_seeds, n = len(seeds), mask.shape[2]
    orders, starts = np.empty((n_seeds, n), np.int64), np.empty((n_seeds, n), np.int64)
    n_eligible = np.empty(n_seeds, np.int64)
    for k in range(n_seeds):
        orders[k], starts[k], n_eligible[k] = align_seed(seeds[k], is_letter, mask)
    return orders, starts, n_eligible


@njit(cache=True, nogil=True)
def first_of_each(codes: U8, is_free: U1) -> U1:
    """Of the shape of `codes`, 1 at the first free place of each code.

    Codes are looked up in a table by their highest bits, and from there on in the next place that
    is empty or has the same code.
    """
    n_bits = 4
    while 1 << n_bits < 2 * codes.size:
        n_bits += 1
    held = np.zeros(1 << n_bits, np.uint64)
    is_held = np.zeros(1 << n_bits, np.uint8)
    last = np.uint64((1 << n_bits) - 1)
    first = np.zeros(codes.shape, np.uint8)
    for i in range(codes.shape[0]):
        for j in range(codes.shape[1]):
            if is_free[i, j]:
                code = codes[i, j]
                at = code >> np.uint64(64 - n_bits)
                while is_held[at] and held[at] != code:
                    at = (at + np.uint64(1)) & last
                first[i, j] = 1 - is_held[at]
                held[at], is_held[at] = code, 1
    return first
