"""Compiled loops that align starting points with every sequence.

A window scores the letters in which it agrees with the subsequence, as in `seed_scan.py`. The
innermost loops run over sequences, one byte each, which the compiler turns into vectors.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from saeborzoi.motifs.engine.site_kernels import rate_alignment

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
U1 = NDArray[np.uint8]


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
    # agreement and place in one number, of equals the first place is the largest
    n_digits, n_places = 0, n_strands * n_windows
    while n_places >> n_digits:
        n_digits += 1
    last = (1 << n_digits) - 1
    best = np.zeros(n, np.int32)
    row = np.zeros(n, np.uint8)
    for s in range(n_strands):
        for j in range(n_windows):
            row[:] = 1
            for c in range(width):
                plus = is_letter[s, seed[c], j + c]
                for t in range(n):
                    row[t] += plus[t]
            free, place = mask[s, j], last - s * n_windows - j
            for t in range(n):
                best[t] = max(best[t], np.int32(((row[t] & free[t]) << n_digits) + place))
    agree, start = np.zeros(n, np.int64), np.zeros(n, np.int64)
    for t in range(n):
        agree[t] = best[t] >> n_digits
        place = last - (best[t] & last)
        start[t] = place if place < n_windows else place - n_windows + longest
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
def rate_seeds(
    seeds: U1,
    is_letter: U1,
    mask: U1,
    letters: U1,
    longest: int,
    numbers: I8,
    log_background: F8,
    x_log_x: F8,
    table: F8,
    log_ways: F8,
) -> F8:
    """(n_seeds, n_numbers) float64, ln E of each subsequence's best so many windows."""
    log_e = np.empty((len(seeds), numbers.size))
    for k in range(len(seeds)):
        order, start, n_eligible = align_seed(seeds[k], is_letter, mask)
        log_e[k] = rate_alignment(
            order, start, n_eligible, letters, longest, seeds.shape[1], numbers, log_background,
            x_log_x, table, log_ways,
        )  # fmt: skip
    return log_e
