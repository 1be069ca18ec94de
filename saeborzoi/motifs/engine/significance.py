"""How significant an alignment of sites is: p of a column's log-likelihood ratio (LLR), p of a
motif, E-value.

Only statistics belong here; which sites are aligned is the engine's business. Everything is in
natural logarithms, as E-values such as 1e-1834 do not fit a float.

Sources: Hertz & Stormo 1999 (Bioinformatics 15:563, exact distribution of the information content
of a column, one letter at a time, on a grid of scores); Bailey & Gribskov 1998 (Bioinformatics
14:48, p-value of a product of p-values); Bailey & Elkan 1995 (E-value over starting places and
choices of sites).
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

N_BINS = 200
"""Bins between 0 and the largest LLR of a column. MEME's number: a finer grid gives other (less
conservative) E-values than MEME's."""
_GRID_RATIO = 1.25
_ROWS = 8
"""Numbers of letters that two letters share, looked at together."""


@njit(cache=True, nogil=True)
def column_excess(n_sites: int, background: NDArray[np.float64]) -> NDArray[np.float64]:
    """`ln P(LLR >= x) + x` of one column of `n_sites` letters, at the edges of the bins.

    The tail falls like `exp(-x)`, so a dynamic programme over letters that carries
    `P(counts) * exp(LLR)` never underflows: the weight of `j` letters is `j^j e^-j / j!`,
    whatever the background. Contributions `j ln(j / (n p))` are rounded to the grid letter by
    letter.

    Parameters
    ----------
    n_sites
        Letters in the column.
    background
        (4,) float64, probability of A C G T, each > 0.

    Returns
    -------
    (N_BINS + 1,) float64; entry `k` belongs to `x = k * bin`,
    `bin = n_sites * ln(1 / min(background)) / N_BINS`.
    """
    n = n_sites
    bin_nats = -n * math.log(background.min()) / N_BINS
    log_background = np.log(background)
    score = np.zeros((4, n + 1), np.int64)
    weight = np.ones((4, n + 1))
    log_factorial = 0.0
    for j in range(1, n + 1):
        log_factorial += math.log(j)
        base = math.exp(j * math.log(j) - j - log_factorial)
        log_share = math.log(j / n)
        for a in range(4):
            exact = j * (log_share - log_background[a]) / bin_nats
            rounded = np.rint(exact)
            score[a, j] = int(rounded)
            weight[a, j] = base * math.exp((rounded - exact) * bin_nats)
    shift = 0
    bins = np.zeros((4, n + 1), np.uint64)  # without a sign, so that no index is taken for one
    for a in range(4):
        lowest = score[a].min()
        shift -= lowest
        for j in range(n + 1):
            bins[a, j] = score[a, j] - lowest
    # two letters at a time, one row of scores for each number of letters that they share; few rows
    # at once, which stay in the first cache
    size = shift + N_BINS + 2 * _ROWS
    pair = np.zeros((2, _ROWS, size))
    low, high = np.zeros((2, _ROWS), np.int64), np.zeros((2, _ROWS), np.int64)
    total = np.zeros(2 * size)
    for first in range(0, n + 1, _ROWS):
        n_rows = min(_ROWS, n + 1 - first)
        for h in range(2):
            a, b = 2 * h, 2 * h + 1
            shared = first if h == 0 else n - first - n_rows + 1
            log_both = math.log(background[a] + background[b])
            for r in range(n_rows):
                # the sum of scores is smallest at the expected shares and largest where all
                # letters are the same; each of the two is rounded
                m = shared + r
                smallest = m * (math.log(max(m, 1) / n) - log_both) / bin_nats
                low[h, r] = max(bins[a, 0] + bins[b, 0] + math.floor(smallest) - 1, 0)
                high[h, r] = max(bins[a, m] + bins[b, 0], bins[a, 0] + bins[b, m]) + 2
                pair[h, r, low[h, r] : high[h, r] + _ROWS] = 0.0
            _add_pairs(pair[h], shared, n_rows, bins[a], bins[b], weight[a], weight[b])
        for r in range(n_rows):
            other = n_rows - 1 - r
            _add_sums(
                total[low[0, r] + low[1, other] :],
                pair[0, r, low[0, r] : high[0, r] + _ROWS],
                pair[1, other, low[1, other] : high[1, other]],
            )
    constant = log_factorial - n * math.log(n) + n
    excess = np.zeros(N_BINS + 1)
    # tail sums, scaled by exp(x) of their own bin
    decay = math.exp(-bin_nats)
    tail = 0.0
    for k in range(total.size - 1, -1, -1):
        tail = tail * decay + total[k]
        x = k - shift
        if 0 <= x <= N_BINS:
            excess[x] = math.log(tail) + constant if tail > 0.0 else -np.inf
    for k in range(1, N_BINS + 1):
        if excess[k] == -np.inf:  # beyond the largest rounded score: at most the bin before
            excess[k] = excess[k - 1]
    return excess


@njit(cache=True, nogil=True)
def _add_pairs(
    pair: NDArray[np.float64],
    shared: int,
    n_rows: int,
    bins_a: NDArray[np.uint64],
    bins_b: NDArray[np.uint64],
    weight_a: NDArray[np.float64],
    weight_b: NDArray[np.float64],
) -> None:
    """Add to row r of (_ROWS, size) `pair` the weights of all ways in which two letters share
    `shared + r`, at their score."""
    if n_rows == _ROWS:
        # all rows in turn: an addition need not wait for the one before, mostly at the same score
        p0, p1, p2, p3 = pair[0], pair[1], pair[2], pair[3]
        p4, p5, p6, p7 = pair[4], pair[5], pair[6], pair[7]
        for j in range(shared + 1):
            s, w = bins_a[j], weight_a[j]
            b, v = bins_b[shared - j :], weight_b[shared - j :]
            p0[s + b[0]] += w * v[0]
            p1[s + b[1]] += w * v[1]
            p2[s + b[2]] += w * v[2]
            p3[s + b[3]] += w * v[3]
            p4[s + b[4]] += w * v[4]
            p5[s + b[5]] += w * v[5]
            p6[s + b[6]] += w * v[6]
            p7[s + b[7]] += w * v[7]
    for r in range(n_rows):
        for j in range(shared + 1 if n_rows == _ROWS else 0, shared + r + 1):
            i = shared + r - j
            pair[r, bins_a[j] + bins_b[i]] += weight_a[j] * weight_b[i]


@njit(cache=True, nogil=True)
def _add_sums(
    total: NDArray[np.float64], first: NDArray[np.float64], second: NDArray[np.float64]
) -> None:
    """Add the convolution of two rows; the last `_ROWS` of the first are zeros, and the second one
    is added eight times in each step over the total."""
    padded = np.zeros(second.size + 14)
    padded[7 : 7 + second.size] = second
    for s in range(0, first.size - 7, 8):
        v0, v1, v2, v3 = first[s], first[s + 1], first[s + 2], first[s + 3]
        v4, v5, v6, v7 = first[s + 4], first[s + 5], first[s + 6], first[s + 7]
        sums = total[s : s + second.size + 7]
        for t in range(sums.size):
            sums[t] += (
                (v0 * padded[t + 7] + v1 * padded[t + 6])
                + (v2 * padded[t + 5] + v3 * padded[t + 4])
            ) + ((v4 * padded[t + 3] + v5 * padded[t + 2]) + (v6 * padded[t + 1] + v7 * padded[t]))


@njit(cache=True, nogil=True)
def site_grid(n_max: int) -> NDArray[np.int64]:
    """Numbers of sites for which tables are made: 1 ... n_max, geometric, every one below 8."""
    grid = np.empty(n_max + 1, np.int64)
    count = 0
    n = 1
    while n < n_max:
        grid[count] = n
        count += 1
        n = max(n + 1, int(n * _GRID_RATIO))
    grid[count] = n_max
    return grid[: count + 1].copy()


@njit(cache=True, nogil=True)
def column_table(n_max: int, background: NDArray[np.float64]) -> NDArray[np.float64]:
    """`column_excess` for every number of sites up to `n_max`, interpolated between the numbers
    of `site_grid` in ln(n); (n_max + 1, N_BINS + 1) float64, row 0 unused."""
    grid = site_grid(n_max)
    table = np.zeros((n_max + 1, N_BINS + 1))
    previous = 1
    for g in range(grid.size):
        n = grid[g]
        table[n] = column_excess(n, background)
        for m in range(previous + 1, n):
            f = math.log(m / previous) / math.log(n / previous)
            for k in range(N_BINS + 1):
                table[m, k] = (1 - f) * table[previous, k] + f * table[n, k]
        previous = n
    return table


@functools.lru_cache(maxsize=4)
def cached_column_table(n_max: int, background: tuple[float, ...]) -> NDArray[np.float64]:
    """`column_table`, kept: with a fixed background all nodes of an SAE share it."""
    table = column_table(n_max, np.array(background))
    table.setflags(write=False)
    return table


@njit(cache=True, nogil=True)
def column_minus_log_p(llr: float, bin_nats: float, excess: NDArray[np.float64]) -> float:
    """`-ln p` of a column's LLR in nats, linear between the edges of the bins."""
    u = llr / bin_nats
    k = int(u)
    if u <= 0:
        return 0.0
    if k >= N_BINS:
        return llr - excess[N_BINS]
    value = llr - excess[k] - (u - k) * (excess[k + 1] - excess[k])
    return max(value, 0.0)


@njit(cache=True, nogil=True)
def log_product_p(minus_log: float, n_columns: int) -> float:
    """ln of the p-value of a product of `n_columns` independent p-values, `exp(-minus_log)`.

    `p = e^-S sum_{i < n} S^i / i!` (Bailey & Gribskov 1998).

    >>> round(log_product_p(3.0, 1), 12)
    -3.0
    """
    s = minus_log
    if s <= 0.0:
        return 0.0
    # from the largest power down, each term is the one before times i / S
    if s >= n_columns:
        term, total = 1.0, 1.0
        for i in range(n_columns - 1, 0, -1):
            term *= i / s
            total += term
        lead = (n_columns - 1) * math.log(s) - math.lgamma(n_columns)
        return min(0.0, -s + lead + math.log(total))
    term, total = 1.0, 1.0
    for i in range(1, n_columns):
        term *= s / i
        total += term
    return min(0.0, -s + math.log(total))


@njit(cache=True, nogil=True)
def log_product_ps(minus_log: NDArray[np.float64], n_columns: int) -> NDArray[np.float64]:
    """`log_product_p` of many products of as many p-values."""
    n = minus_log.size
    # the sum over powers by Horner's scheme, for all at once
    total, inverse = np.ones(n), np.empty(n)
    for t in range(n):
        inverse[t] = 1.0 / max(minus_log[t], n_columns)
    for i in range(1, n_columns):
        for t in range(n):
            total[t] = 1.0 + i * inverse[t] * total[t]
    log_p = np.empty(n)
    log_factorial = math.lgamma(n_columns)
    for t in range(n):
        s = minus_log[t]
        if s >= n_columns:
            lead = (n_columns - 1) * math.log(s) - log_factorial
            log_p[t] = min(0.0, -s + lead + math.log(total[t]))
        else:
            log_p[t] = log_product_p(s, n_columns)
    return log_p


@njit(cache=True, nogil=True)
def log_choices(n_sequences: int, n_sites: int) -> float:
    """ln of the number of ways to choose the sequences that hold a site."""
    return (
        math.lgamma(n_sequences + 1)
        - math.lgamma(n_sites + 1)
        - math.lgamma(n_sequences - n_sites + 1)
    )


@njit(cache=True, nogil=True)
def log_ways(sorted_lengths: NDArray[np.int64], n_strands: int) -> NDArray[np.float64]:
    """ln of the number of ways to choose N sequences and a site in each of the N longest: what a
    p-value is multiplied by.

    Parameters
    ----------
    sorted_lengths
        (n_sequences,) int64, bp, longest first.
    n_strands
        1 or 2: a site may lie on either strand.

    Returns
    -------
    (longest + 1, n_sequences + 1) float64, entry w, N for N sites of w bp; sequences shorter than
    that add nothing.
    """
    n, longest = sorted_lengths.size, sorted_lengths[0]
    log_places = np.zeros(longest + 2)
    for places in range(1, longest + 2):
        log_places[places] = math.log(n_strands * places)
    choices = np.empty(n + 1)
    for k in range(n + 1):
        choices[k] = log_choices(n, k)
    ways = np.empty((longest + 1, n + 1))
    for width in range(longest + 1):
        cumulative = 0.0
        ways[width, 0] = choices[0]
        for k in range(n):
            cumulative += log_places[max(sorted_lengths[k] - width + 1, 0)]
            ways[width, k + 1] = cumulative + choices[k + 1]
    return ways
