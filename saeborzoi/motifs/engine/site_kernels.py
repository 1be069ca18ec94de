"""Compiled loops of the built-in motif discovery over the sites of an alignment: letters, and the
number of sites and columns with the smallest E-value.

Shapes as in `kernels.py`; `start` is where each sequence's best window starts, `start + longest` on
strand 1. All functions release the GIL.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from saeborzoi.motifs.engine.significance import (
    N_BINS,
    column_minus_log_p,
    log_product_p,
    log_product_ps,
)

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
U1 = NDArray[np.uint8]

SITE_LETTERS = 16
"""Letters of a site are counted so many at a time: `letters` goes on so far beyond the longest."""
_AT_ONCE = 16
"""Numbers of sites that are looked at together."""


@njit(cache=True, nogil=True)
def _add_sites(
    counts: I8, order: I8, start: I8, first: int, last: int, letters: U1, longest: int
) -> None:
    """Count the letters of the sites `first` to `last` of `order` into (width, 4) `counts`."""
    width = counts.shape[0]
    filled = -(-width // SITE_LETTERS) * SITE_LETTERS
    packed = np.zeros(filled, np.uint32)
    for begin in range(first, last, 255):
        packed[:] = 0  # a byte for each letter: what the compiler adds up in vectors
        for k in range(begin, min(begin + 255, last)):
            place = start[order[k]]
            strand = 1 if place >= longest else 0
            j = place - strand * longest
            site = letters[strand, order[k], j : j + filled]
            for c in range(filled):
                packed[c] += np.uint32(1) << (np.uint32(site[c]) << np.uint32(3))
        for c in range(width):
            for a in range(4):
                counts[c, a] += (packed[c] >> np.uint32(8 * a)) & np.uint32(255)


@njit(cache=True, nogil=True)
def _column_llr(counts: I8, n: int, x_log_x: F8, log_background: F8) -> float:
    """LLR in nats of a column of `n` letters, `sum c ln(c / (n p))`."""
    llr = -x_log_x[n]
    for a in range(4):
        c = counts[a]
        llr += x_log_x[c] - c * log_background[a]
    return llr


@njit(cache=True, nogil=True)
def site_counts(order: I8, start: I8, n_sites: int, letters: U1, longest: int, width: int) -> I8:
    """(width, 4) int64, letters of the first `n_sites` sites of `order`."""
    counts = np.zeros((width, 4), np.int64)
    _add_sites(counts, order, start, 0, n_sites, letters, longest)
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
def _log_e_of(llr: F8, numbers: I8, log_background: F8, table: F8, log_ways: F8, log_e: F8) -> None:
    """`log_e_value` of some numbers of sites, from (width, n_numbers) LLR of their columns."""
    width, n_numbers = llr.shape
    bins_a_nat = np.empty(n_numbers)
    row = np.empty(n_numbers, np.int64)
    minus_log = np.zeros(n_numbers)
    excess = table.ravel()
    for t in range(n_numbers):
        bins_a_nat[t] = -N_BINS / (numbers[t] * log_background.min())
        row[t] = numbers[t] * (N_BINS + 1)
    for c in range(width):
        column = llr[c]
        for t in range(n_numbers):  # as `column_minus_log_p`, without a branch
            u = column[t] * bins_a_nat[t]
            k = int(min(max(u, 0.0), N_BINS - 1.0))
            at = np.uint64(row[t] + k)
            below, above = excess[at], excess[at + np.uint64(1)]
            value = column[t] - below - min(u - k, 1.0) * (above - below)
            minus_log[t] += max(value, 0.0) if u > 0.0 else 0.0
    log_p = log_product_ps(minus_log, width)
    for t in range(n_numbers):
        log_e[t] = log_p[t] + log_ways[numbers[t]]


@njit(cache=True, nogil=True)
def log_e_values(
    order: I8,
    start: I8,
    n_most: int,
    letters: U1,
    longest: int,
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
    table
        (n_sequences + 1, N_BINS + 1) float64, `significance.column_table`.
    log_ways
        (n_sequences + 1,) float64, ln of the choices of so many sites of this width.
    """
    gain = np.empty((n_most, 4))  # what one more of a letter adds to the LLR
    for k in range(n_most):
        for a in range(4):
            gain[k, a] = x_log_x[k + 1] - x_log_x[k] - log_background[a]
    counts = np.zeros((width, 4), np.uint64)
    llr = np.zeros(width)
    llr_of = np.empty((width, _AT_ONCE))
    log_e = np.full(n_most + 1, np.inf)
    for first in range(1, n_most + 1, _AT_ONCE):
        last = min(first + _AT_ONCE, n_most + 1)
        for n in range(first, last):
            place = start[order[n - 1]]
            strand = 1 if place >= longest else 0
            j = place - strand * longest
            site = letters[strand, order[n - 1], j : j + width]
            for c in range(width):
                letter = site[c]
                llr[c] += gain[counts[c, letter], letter]
                counts[c, letter] += np.uint64(1)
                llr_of[c, n - first] = llr[c] - x_log_x[n]
        _log_e_of(
            llr_of[:, : last - first], np.arange(first, last), log_background, table, log_ways,
            log_e[first:last],
        )  # fmt: skip
    log_e[:2] = np.inf
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
def rate_alignments(
    orders: I8,
    starts: I8,
    n_eligible: I8,
    letters: U1,
    longest: int,
    width: int,
    numbers: I8,
    log_background: F8,
    x_log_x: F8,
    table: F8,
    log_ways: F8,
) -> F8:
    """(n_alignments, n_numbers) float64, ln E of the best so many sites of each alignment, or of
    all where there are fewer; infinite where there are fewer than 2."""
    log_e = np.full((len(orders), numbers.size), np.inf)
    llr = np.empty((width, numbers.size))
    for k in range(len(orders)):
        if n_eligible[k] < 2:
            continue
        counts = np.zeros((width, 4), np.int64)
        n_sites = np.minimum(numbers, n_eligible[k])
        done = 0
        for g in range(numbers.size):
            _add_sites(counts, orders[k], starts[k], done, n_sites[g], letters, longest)
            done = n_sites[g]
            for c in range(width):
                llr[c, g] = _column_llr(counts[c], done, x_log_x, log_background)
        _log_e_of(llr, n_sites, log_background, table, log_ways, log_e[k])
    return log_e
