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
    score = np.zeros((4, n + 1), np.int64)
    weight = np.ones((4, n + 1))
    log_factorial = 0.0
    for j in range(1, n + 1):
        log_factorial += math.log(j)
        base = math.exp(j * math.log(j) - j - log_factorial)
        for a in range(4):
            exact = j * (math.log(j / n) - math.log(background[a])) / bin_nats
            rounded = round(exact)
            score[a, j] = int(rounded)
            weight[a, j] = base * math.exp((rounded - exact) * bin_nats)
    lowest = np.zeros(4, np.int64)
    for a in range(4):
        lowest[a] = score[a].min()
    # two letters at a time, one vector of scores for each number of letters that they share
    offset = np.array([-lowest[0] - lowest[1], -lowest[2] - lowest[3]])
    size = offset.max() + N_BINS + 3
    pair = np.zeros((2, n + 1, size))
    first = np.full((2, n + 1), size, np.int64)
    last = np.full((2, n + 1), -1, np.int64)
    for h in range(2):
        score_a, weight_a = score[2 * h] + offset[h], weight[2 * h]
        score_b, weight_b = score[2 * h + 1], weight[2 * h + 1]
        for m in range(n + 1):
            row = pair[h, m]
            for j in range(m + 1):
                row[score_a[j] + score_b[m - j]] += weight_a[j] * weight_b[m - j]
            low, high = 0, size - 1
            while row[low] == 0.0:
                low += 1
            while row[high] == 0.0:
                high -= 1
            first[h, m], last[h, m] = low, high
    total = np.zeros(2 * size)
    for m in range(n + 1):
        low, high = first[1, n - m], last[1, n - m] + 1
        rest = pair[1, n - m, low:high]
        for s in range(first[0, m], last[0, m] + 1):
            v = pair[0, m, s]
            if v > 0.0:
                sums = total[s + low : s + high]
                for t in range(rest.size):
                    sums[t] += v * rest[t]
    shift = offset[0] + offset[1]
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
def log_choices(n_sequences: int, n_sites: int) -> float:
    """ln of the number of ways to choose the sequences that hold a site."""
    return (
        math.lgamma(n_sequences + 1)
        - math.lgamma(n_sites + 1)
        - math.lgamma(n_sequences - n_sites + 1)
    )


@njit(cache=True, nogil=True)
def log_ways(sorted_lengths: NDArray[np.int64], width: int, n_strands: int) -> NDArray[np.float64]:
    """ln of the number of ways to choose N sequences and a site in each of the N longest: what a
    p-value is multiplied by.

    Parameters
    ----------
    sorted_lengths, width, n_strands
        As of `cumulative_log_places`.

    Returns
    -------
    (n_sequences + 1,) float64, entry N for N sites.
    """
    ways = cumulative_log_places(sorted_lengths, width, n_strands)
    for n in range(ways.size):
        ways[n] += log_choices(sorted_lengths.size, n)
    return ways


@njit(cache=True, nogil=True)
def cumulative_log_places(
    sorted_lengths: NDArray[np.int64], width: int, n_strands: int
) -> NDArray[np.float64]:
    """ln of the number of alignments of one site in each of the N longest sequences.

    Parameters
    ----------
    sorted_lengths
        (n_sequences,) int64, bp, longest first.
    width
        Width of the motif in bp.
    n_strands
        1 or 2: a site may lie on either strand.

    Returns
    -------
    (n_sequences + 1,) float64, entry N for N sites; sequences shorter than the motif add 0.
    """
    places = np.zeros(sorted_lengths.size + 1)
    for i in range(sorted_lengths.size):
        here = n_strands * max(sorted_lengths[i] - width + 1, 0)
        places[i + 1] = places[i] + (math.log(here) if here > 1 else 0.0)
    return places
