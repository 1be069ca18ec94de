"""Built-in motif discovery: MEME's model and statistics, written from the papers, with nothing to
install.

ZOOPS expectation maximization (Bailey & Elkan 1994, 1995: zero or one occurrence a sequence,
starting points from subsequences, erasing of motifs that were found) over widths that grow by the
square root of 2; for each converged matrix the number of sites and the run of columns with the
smallest E-value (Bailey & Gribskov 1998; Hertz & Stormo 1999). What is faster than an exhaustive
search: starting points are ranked by over-represented 6-mers before any is aligned.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeborzoi.motifs import kernels, properties, significance
from saeborzoi.motifs.sequences import Sequences, four_mers, reverse_complement

VERSION = "1"
_N_RANKED = 60
"""Starting subsequences of each width from the highest rank."""
_N_SPREAD = 40
"""Further ones, the highest-ranked of some sequences each, so that one motif cannot take all."""
_N_STARTS = 4
"""Expectation maximizations for each width."""
_SHARP_FRACTIONS = (0.512, 0.256, 0.128, 0.064)
"""Fractions of sequences at which the best matrix of a width is sharpened."""
_SHARPNESS = 2 / 3
_K = 6


class Motif(NamedTuple):
    """One motif and its sites.

    Attributes
    ----------
    counts
        (width, 4) int64, letters of the sites.
    n_sites
        Sites that the counts are made from.
    llr
        Log-likelihood ratio of the sites against the background, nats.
    log_e_value
        Natural logarithm of the E-value.
    sequence, start, strand
        (n_sites,) int64: sequence of each site, start in bp on the given strand, and 0 for the
        given strand or 1 for its reverse complement.
    """

    counts: NDArray[np.int64]
    n_sites: int
    llr: float
    log_e_value: float
    sequence: NDArray[np.int64]
    start: NDArray[np.int64]
    strand: NDArray[np.int64]


class _Data(NamedTuple):
    letters: NDArray[np.uint8]  # (n_strands, n_sequences, longest)
    codes4: NDArray[np.uint8]  # (n_strands, n_sequences, longest)
    lengths: NDArray[np.int64]
    sorted_lengths: NDArray[np.int64]
    background: NDArray[np.float64]
    x_log_x: NDArray[np.float64]
    table: NDArray[np.float64]
    min_width: int


class _Candidate(NamedTuple):
    matrix: NDArray[np.float64]
    fraction: float


def widths_to_try(min_width: int, max_width: int) -> list[int]:
    """Widths from `min_width`, each sqrt(2) times the last, and `max_width`.

    >>> widths_to_try(8, 34)
    [8, 11, 15, 21, 29, 34]
    """
    widths = []
    width = min_width
    while width < max_width:
        widths.append(width)
        width = max(width + 1, int(width * math.sqrt(2)))
    return [*widths, max_width]


def find_motifs(
    sequences: Sequences,
    background: NDArray[np.float64],
    *,
    n_motifs: int,
    min_width: int,
    max_width: int,
    both_strands: bool,
    seed: int,
    keep_table: bool = False,
) -> list[Motif]:
    """The motifs of one set of sequences, strongest first, each after erasing those before.

    Parameters
    ----------
    sequences
        Sequences of at least `min_width` bp (shorter ones hold no site).
    background
        (4,) float64, probability of A C G T.
    n_motifs, min_width, max_width
        How many motifs, and their widths in bp.
    both_strands
        Whether a site may lie on the reverse complement.
    seed
        Chooses the sequences whose best subsequences are among the starting points.
    keep_table
        Keep the tables of significance for the next set with the same background.

    Returns
    -------
    At most `n_motifs` motifs, significant or not; fewer where no free site is left.
    """
    data = _prepare(sequences, background, min_width, both_strands, keep_table)
    generator = np.random.default_rng(seed)
    free = np.ones(sequences.letters.shape)
    motifs: list[Motif] = []
    widest = min(max_width, int(sequences.lengths.max()))
    for _ in range(n_motifs):
        best: tuple[Motif, _Candidate] | None = None
        for width in widths_to_try(min_width, max(widest, min_width)):
            best = _better(best, _best_of_width(data, width, free, generator))
        if best is None:
            break
        found, candidate = _shifted(data, free, best)
        motifs.append(_exact(data, found))
        weight = _window_weight(free, data, len(candidate.matrix))
        free = free * _left_free(data, candidate, weight)
    return motifs


def _better(
    a: tuple[Motif, _Candidate] | None, b: tuple[Motif, _Candidate] | None
) -> tuple[Motif, _Candidate] | None:
    """The one with the smaller E-value; `a` where they are equal."""
    if a is None or b is None:
        return a or b
    return b if b[0].log_e_value < a[0].log_e_value else a


def _best_of_width(
    data: _Data, width: int, free: NDArray[np.float64], generator: np.random.Generator
) -> tuple[Motif, _Candidate] | None:
    """The motif with the smallest E-value that starts of one width lead to."""
    weight = _window_weight(free, data, width)
    best: tuple[Motif, _Candidate] | None = None
    for candidate in _converged(data, width, weight, generator):
        best = _better(best, _refined(data, candidate, weight))
    if best is None:
        return None
    return _sharpened(data, weight, best)


def _sharpened(
    data: _Data, weight: NDArray[np.float64], best: tuple[Motif, _Candidate]
) -> tuple[Motif, _Candidate]:
    """The best of a matrix and of sharper ones that start from it."""
    start = best[1].matrix
    for fraction in _SHARP_FRACTIONS:
        matrix, _ = kernels.expectation_maximization(
            data.codes4, data.lengths, start, fraction, True, data.background, weight
        )
        best = _better(best, _refined(data, _Candidate(matrix, fraction), weight)) or best
    return best


def _shifted(
    data: _Data, free: NDArray[np.float64], best: tuple[Motif, _Candidate]
) -> tuple[Motif, _Candidate]:
    """The best of a matrix and of those that lie a few columns to its left or right.

    Expectation maximization does not move a matrix along its sites (Lawrence et al. 1993 shift
    theirs for the same reason).
    """
    matrix, fraction = best[1]
    width = len(matrix)
    weight = _window_weight(free, data, width)
    moved = best
    for shift in range(1, width // 3 + 1):
        flank = np.tile(data.background, (shift, 1))
        for start in (np.vstack([matrix[shift:], flank]), np.vstack([flank, matrix[:-shift]])):
            found, own = kernels.expectation_maximization(
                data.codes4, data.lengths, start, fraction, False, data.background, weight
            )
            moved = _better(moved, _refined(data, _Candidate(found, own), weight)) or moved
    return best if moved is best else _sharpened(data, weight, moved)


def _prepare(
    sequences: Sequences,
    background: NDArray[np.float64],
    min_width: int,
    both_strands: bool,
    keep_table: bool,
) -> _Data:
    strands = [sequences, reverse_complement(sequences)] if both_strands else [sequences]
    n = sequences.lengths.size
    x = np.arange(n + 1, dtype=float)
    x_log_x = x * np.log(np.maximum(x, 1))
    if keep_table:
        table = significance.cached_column_table(n, tuple(background.tolist()))
    else:
        table = significance.column_table(n, background)
    return _Data(
        letters=np.stack([s.letters for s in strands]),
        codes4=np.stack([four_mers(s) for s in strands]),
        lengths=sequences.lengths,
        sorted_lengths=np.sort(sequences.lengths)[::-1].copy(),
        background=background,
        x_log_x=x_log_x,
        table=table,
        min_width=min_width,
    )


def _window_weight(free: NDArray[np.float64], data: _Data, width: int) -> NDArray[np.float64]:
    """How free each window is of earlier motifs: its least free position; 0 past the end."""
    n_strands, _, longest = data.codes4.shape
    n_windows = longest - width + 1
    forward = np.lib.stride_tricks.sliding_window_view(free, width, axis=1).min(axis=2)
    last = data.lengths[:, None] - width
    j = np.arange(n_windows)
    weight = np.where(j <= last, forward, 0.0)
    if n_strands == 1:
        return weight[None]
    mirrored = np.take_along_axis(forward, np.maximum(last - j, 0), axis=1)
    return np.stack([weight, np.where(j <= last, mirrored, 0.0)])


def _log_places(data: _Data, width: int) -> NDArray[np.float64]:
    return significance.cumulative_log_places(data.sorted_lengths, width, data.codes4.shape[0])


def _converged(
    data: _Data, width: int, weight: NDArray[np.float64], generator: np.random.Generator
) -> Iterator[_Candidate]:
    """Matrices of one width after expectation maximization from the most promising starts."""
    starts = _starting_points(data, width, weight, generator)
    if not len(starts):
        return
    log_places = _log_places(data, width)
    log_e, n_sites, counts = kernels.rate_starts(
        starts, data.codes4, data.lengths, data.background, weight, data.x_log_x, data.table,
        log_places, _SHARPNESS,
    )  # fmt: skip
    chosen: list[int] = []
    for k in np.argsort(log_e, kind="stable"):
        if n_sites[k] < 2 or len(chosen) == _N_STARTS:
            break
        if all(_differ(counts[k], n_sites[k], counts[c], n_sites[c]) for c in chosen):
            chosen.append(int(k))
    for k in chosen:
        start = (counts[k] + data.background) / (n_sites[k] + 1)
        fraction = min(n_sites[k] / data.lengths.size, 0.95)
        matrix, fraction = kernels.expectation_maximization(
            data.codes4, data.lengths, start, fraction, False, data.background, weight
        )
        yield _Candidate(matrix, fraction)


def _differ(a: NDArray[np.int64], n_a: int, b: NDArray[np.int64], n_b: int) -> bool:
    """Whether two alignments are different enough to start from both."""
    return bool(np.abs(a / n_a - b / n_b).sum(axis=1).mean() > 0.2)


def _starting_points(
    data: _Data, width: int, weight: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.uint8]:
    """(n_starts, width) uint8, distinct subsequences rich in over-represented k-mers."""
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
    free = weight[0][:, : longest - width + 1]
    inside = np.arange(n_kmers) <= data.lengths[:, None] - k
    # a k-mer is free where a window over it is
    usable = np.zeros((n, n_kmers), bool)
    for shift in range(width - k + 1):
        usable[:, shift : shift + free.shape[1]] |= free > kernels.MIN_WEIGHT
    usable &= inside
    counts = np.bincount(code[usable], minlength=4**k).astype(float)
    if data.letters.shape[0] == 2:
        counts, expected = _both_strands(counts, k), expected + _both_strands(expected, k, False)
    expected *= usable.sum()
    excess = (counts - expected) / np.sqrt(expected + 1)
    rank = np.maximum(excess, 0.0)[code]
    cumulative = np.concatenate([np.zeros((n, 1)), np.cumsum(rank, axis=1)], axis=1)
    windows = cumulative[:, width - k + 1 :] - cumulative[:, : longest - width + 1]
    windows = np.where(free > kernels.MIN_WEIGHT, windows, -1.0)
    best = windows.argmax(axis=1)
    spread = generator.permutation(n)[:_N_SPREAD]
    spread = spread[windows[spread, best[spread]] >= 0]
    top = np.argsort(-windows, axis=None, kind="stable")
    top = top[windows.ravel()[top] >= 0]
    rows, columns = np.unravel_index(top[: 20 * _N_RANKED], windows.shape)
    ranked = letters[rows[:, None], columns[:, None] + np.arange(width)]
    _, first = np.unique(ranked, axis=0, return_index=True)
    ranked = ranked[np.sort(first)[:_N_RANKED]]
    others = letters[spread[:, None], best[spread][:, None] + np.arange(width)]
    return np.unique(np.concatenate([ranked, others]), axis=0)


def _both_strands(counts: NDArray[np.float64], k: int, add: bool = True) -> NDArray[np.float64]:
    """Counts of k-mers with those of their reverse complements."""
    index = np.arange(4**k)
    other = np.zeros_like(index)
    for c in range(k):
        other = other * 4 + 3 - ((index >> (2 * c)) & 3)
    return counts + counts[other] if add else counts[other]


def _refined(
    data: _Data, candidate: _Candidate, weight: NDArray[np.float64]
) -> tuple[Motif, _Candidate] | None:
    """The sites and columns of a converged matrix with the smallest E-value."""
    width = len(candidate.matrix)
    order, start, n_eligible = _ordered_sites(data, candidate, weight)
    n_sites, _ = kernels.best_number_of_sites(
        order, start, n_eligible, data.codes4, width, data.background, data.x_log_x, data.table,
        _log_places(data, width), 1.0,
    )  # fmt: skip
    if n_sites == 0:
        return None
    counts = kernels.site_counts(order, start, n_sites, data.codes4, width)
    sites = order[:n_sites]
    motif = _motif(data, counts, sites, start[sites], data.table[n_sites])
    return None if motif is None else (motif, candidate)


def _ordered_sites(
    data: _Data, candidate: _Candidate, weight: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    odds = kernels.four_mer_odds(candidate.matrix, data.background)
    score, start = kernels.best_windows(
        data.codes4, data.lengths, len(candidate.matrix), odds, weight, candidate.fraction
    )
    order = np.argsort(-score, kind="stable")
    return order, start, int((score > 0).sum())


def _motif(
    data: _Data,
    counts: NDArray[np.int64],
    sequence: NDArray[np.int64],
    start: NDArray[np.int64],
    excess: NDArray[np.float64],
) -> Motif | None:
    """The best run of columns of an alignment; None where it is the artefact of full width."""
    n_sites, width = len(sequence), len(counts)
    _, n, longest = data.codes4.shape
    places = np.zeros(width + 1)
    for w in range(data.min_width, width + 1):
        places[w] = _log_places(data, w)[n_sites]
    first, width, log_e = kernels.best_columns(
        counts, n_sites, data.background, data.x_log_x, excess, places, n, data.min_width
    )
    counts = counts[first : first + width]
    llr = float(
        data.x_log_x[counts].sum()
        - width * data.x_log_x[n_sites]
        - (counts * np.log(data.background)).sum()
    )
    matrix = counts / n_sites
    if (
        properties.is_full_width(matrix, n_sites, data.lengths)
        and properties.column_bits(matrix).mean() < properties.FULL_WIDTH_BITS
    ):
        return None
    return Motif(counts, n_sites, llr, log_e, sequence, start % longest + first, start // longest)


def _exact(data: _Data, motif: Motif) -> Motif:
    """The motif with its E-value from the table of exactly its number of sites."""
    excess = significance.column_excess(motif.n_sites, data.background)
    width = len(motif.counts)
    places = np.zeros(width + 1)
    places[width] = _log_places(data, width)[motif.n_sites]
    _, _, log_e = kernels.best_columns(
        motif.counts, motif.n_sites, data.background, data.x_log_x, excess, places,
        data.lengths.size, width,
    )  # fmt: skip
    return motif._replace(log_e_value=log_e)


def _left_free(
    data: _Data, candidate: _Candidate, weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n_sequences, longest) probability that no occurrence of the motif covers each position."""
    return kernels.probability_free(
        data.codes4, data.lengths, candidate.matrix, candidate.fraction, data.background, weight
    )
