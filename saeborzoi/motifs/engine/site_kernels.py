"""Compiled loops of the built-in motif discovery over the sites of an alignment: letters, and the
number of sites and columns with the smallest E-value.

Shapes as in `kernels.py`; `start` is where each sequence's best window starts, `start + longest` on
strand 1. All functions release the GIL.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from saeborzoi.motifs.engine.significance import column_minus_log_p, log_product_p

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
U1 = NDArray[np.uint8]


@njit(cache=True, nogil=True)
def add_site(counts: I8, codes4: U1, sequence: int, start: int, width: int) -> None:
    """Count the letters of one site into (width, 4) `counts`."""
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
        add_site(counts, codes4, order[k], start[order[k]], width)
    return counts


@njit(cache=True, nogil=True)
def log_e_value(
    counts: I8, n: int, log_background: F8, x_log_x: F8, excess: F8, log_ways: F8
) -> float:
    """ln E of an alignment of `n` sites with all its columns."""
    bin_nats = -n * log_background.min() / (excess.size - 1)
    minus_log = 0.0
    for c in range(counts.shape[0]):
        llr = _column_llr(counts[c], n, x_log_x, log_background)
        minus_log += column_minus_log_p(llr, bin_nats, excess)
    return log_product_p(minus_log, counts.shape[0]) + log_ways[n]


@njit(cache=True, nogil=True)
def log_e_values(
    order: I8,
    start: I8,
    n_most: int,
    codes4: U1,
    width: int,
    log_background: F8,
    x_log_x: F8,
    table: F8,
    log_ways: F8,
) -> F8:
    """(n_most + 1,) float64, ln E of the alignment of the best so many sites; infinite below 2.

    Parameters
    ----------
    order
        (n_sequences,) int64, sequences by falling probability of their best window.
    start
        (n_sequences,) int64, start of that window, `start + longest` on strand 1.
    n_most
        Sites at most: sequences of `order` that have a free window, or fewer.
    log_ways
        (n_sequences + 1,) float64, ln of the choices of so many sites of this width.
    """
    counts = np.zeros((width, 4), np.int64)
    log_e = np.full(n_most + 1, np.inf)
    for k in range(n_most):
        add_site(counts, codes4, order[k], start[order[k]], width)
        if k > 0:
            log_e[k + 1] = log_e_value(
                counts, k + 1, log_background, x_log_x, table[k + 1], log_ways
            )
    return log_e


@njit(cache=True, nogil=True)
def best_columns(
    counts: I8,
    n_sites: int,
    background: F8,
    x_log_x: F8,
    excess: F8,
    log_ways_of_width: F8,
    min_width: int,
) -> tuple[int, int, float]:
    """The run of neighbouring columns with the smallest p-value, and its E-value.

    The places that narrower columns gain do not count against them in the choice, only in the
    E-value: what MEME's widths show.

    Parameters
    ----------
    excess
        (N_BINS + 1,) float64, `column_excess` of this number of sites.
    log_ways_of_width
        (width + 1,) float64, ln of the choices of `n_sites` sites at each width.

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
    for w in range(min(min_width, width), width + 1):
        for first in range(width - w + 1):
            minus_log = cumulative[first + w] - cumulative[first]
            log_p = log_product_p(minus_log, w)
            if log_p < best:
                best_first, best_width, best = first, w, log_p
    return best_first, best_width, best + float(log_ways_of_width[best_width])


@njit(cache=True, nogil=True)
def rate_alignment(
    order: I8,
    start: I8,
    n_eligible: int,
    codes4: U1,
    width: int,
    numbers: I8,
    background: F8,
    x_log_x: F8,
    table: F8,
    log_ways: F8,
) -> F8:
    """(n_numbers,) float64, ln E of the best so many sites, or of all where there are fewer;
    infinite where there are fewer than 2."""
    log_background = np.log(background)
    counts = np.zeros((width, 4), np.int64)
    log_e = np.full(numbers.size, np.inf)
    done = 0
    for g in range(numbers.size):
        n = min(numbers[g], n_eligible)
        while done < n:
            add_site(counts, codes4, order[done], start[order[done]], width)
            done += 1
        if n >= 2:
            log_e[g] = log_e_value(counts, n, log_background, x_log_x, table[n], log_ways)
    return log_e
