"""Starting points of the built-in motif discovery: subsequences rich in over-represented k-mers,
and which of their alignments are worth an expectation maximization."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saeborzoi.motifs.engine import kernels, site_kernels
from saeborzoi.motifs.engine.search_data import SHARPNESS, Aligned, Windows

_N_RANKED = 60
"""Starting subsequences of each width from the highest rank."""
_N_SPREAD = 40
"""Further ones, the highest-ranked of some sequences each, so that one motif cannot take all."""
_K = 6


def starting_points(windows: Windows, generator: np.random.Generator) -> NDArray[np.uint8]:
    """(n_starts, width) uint8, distinct subsequences rich in over-represented k-mers."""
    data, width = windows.data, windows.width
    k = min(_K, width)
    letters = data.letters[0]
    n, longest = letters.shape
    n_kmers = longest - k + 1
    code = np.zeros((n, n_kmers), np.int64)
    expected = np.ones(4**k)
    index = np.arange(4**k)
    for c in range(k):
        code = code * 4 + letters[:, c : c + n_kmers]
        expected *= data.background[(index >> (2 * c)) & 3]
    is_free = windows.weight[0] > kernels.MIN_WEIGHT
    inside = np.arange(n_kmers) <= data.lengths[:, None] - k
    # a k-mer is free where a window over it is
    usable = np.zeros((n, n_kmers), bool)
    for shift in range(width - k + 1):
        usable[:, shift : shift + is_free.shape[1]] |= is_free
    usable &= inside
    counts = np.bincount(code[usable], minlength=4**k).astype(float)
    if data.letters.shape[0] == 2:
        other = _reverse_complements(k)
        counts, expected = counts + counts[other], expected + expected[other]
    expected *= usable.sum()
    excess = (counts - expected) / np.sqrt(expected + 1)
    rank = np.maximum(excess, 0.0)[code]
    cumulative = np.concatenate([np.zeros((n, 1)), np.cumsum(rank, axis=1)], axis=1)
    ranks = cumulative[:, width - k + 1 :] - cumulative[:, : longest - width + 1]
    ranks = np.where(is_free, ranks, -1.0)
    best = ranks.argmax(axis=1)
    spread = generator.permutation(n)[:_N_SPREAD]
    spread = spread[ranks[spread, best[spread]] >= 0]
    rows, columns = np.unravel_index(_highest(ranks.ravel(), 20 * _N_RANKED), ranks.shape)
    ranked = letters[rows[:, None], columns[:, None] + np.arange(width)]
    _, first = np.unique(ranked, axis=0, return_index=True)
    ranked = ranked[np.sort(first)[:_N_RANKED]]
    others = letters[spread[:, None], best[spread][:, None] + np.arange(width)]
    return np.unique(np.concatenate([ranked, others]), axis=0)


def _highest(ranks: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """Where the `n` highest ranks are that are not negative, highest first, ties in order."""
    lowest = 0.0 if ranks.size <= n else max(np.partition(ranks, -n)[-n], 0.0)
    candidates = np.flatnonzero(ranks >= lowest)
    return candidates[np.argsort(-ranks[candidates], kind="stable")[:n]]


def _reverse_complements(k: int) -> NDArray[np.int64]:
    """(4^k,) int64, the code of each k-mer's reverse complement."""
    index = np.arange(4**k)
    other = np.zeros_like(index)
    for c in range(k):
        other = other * 4 + 3 - ((index >> (2 * c)) & 3)
    return other


def most_promising(
    windows: Windows, letters: NDArray[np.uint8], aligned: Aligned
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Matrices to start from: for each number of sites that may be expected, the subsequence whose
    best so many windows have the smallest E-value.

    One start for each width and each expected number is the search of Bailey & Elkan 1995; the best
    subsequences whatever their number are too much alike.

    Parameters
    ----------
    letters
        (n_starts, width) uint8, the subsequences.

    Returns
    -------
    (n, width, 4) float64 matrices and (n,) float64 fractions of sequences that hold the motif; a
    subsequence that is best at several numbers starts from the largest.
    """
    data = windows.data
    log_e = site_kernels.rate_alignments(
        *aligned, data.numbers, data.background, data.x_log_x, data.table,
        data.log_ways(windows.width),
    )  # fmt: skip
    best = log_e.argmin(axis=0)
    rated = np.flatnonzero(np.isfinite(log_e.min(axis=0)))
    number = {int(best[g]): data.numbers[g] for g in rated}
    chosen = letters[list(number)]
    matrices = (1.0 - SHARPNESS) * data.background + SHARPNESS * np.eye(4)[chosen]
    fractions = np.array(list(number.values()), float) / data.lengths.size
    return matrices, np.minimum(fractions, 0.95)
