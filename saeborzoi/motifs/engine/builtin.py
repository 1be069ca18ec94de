"""Built-in motif discovery: MEME's model and statistics, written from the papers, with nothing to
install.

ZOOPS expectation maximization (Bailey & Elkan 1994, 1995: zero or one occurrence a sequence,
starting points from subsequences, erasing of motifs that were found) over widths that grow by the
square root of 2; for each converged matrix the number of sites and the run of columns with the
smallest E-value (Bailey & Gribskov 1998; Hertz & Stormo 1999). What is faster than an exhaustive
search: starting points are ranked by over-represented 6-mers before any is aligned.

The search is written in steps (`search`), which ask for what is heavy: an executor answers for one
node at once (`search_data.py`) or for many nodes together (`batched.py`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeborzoi.motifs import properties
from saeborzoi.motifs.engine import kernels, significance, site_kernels
from saeborzoi.motifs.engine.search_data import (
    Align,
    Aligned,
    Converge,
    Converged,
    Order,
    Ordered,
    SearchData,
    Steps,
    Windows,
    run,
)
from saeborzoi.motifs.engine.starts import most_promising, starting_points
from saeborzoi.motifs.sequences import Sequences

VERSION = "2"
_SHARP_FRACTIONS = (0.512, 0.256, 0.128, 0.064)
"""Fractions of sequences at which the best matrix of a width is sharpened."""


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


class _Candidate(NamedTuple):
    """A converged matrix, the fraction of sequences that hold it, and its motif."""

    matrix: NDArray[np.float64]
    fraction: float
    motif: Motif


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
    return run(
        search(
            sequences, background, n_motifs=n_motifs, min_width=min_width, max_width=max_width,
            both_strands=both_strands, seed=seed, keep_table=keep_table,
        )
    )  # fmt: skip


def search(
    sequences: Sequences,
    background: NDArray[np.float64],
    *,
    n_motifs: int,
    min_width: int,
    max_width: int,
    both_strands: bool,
    seed: int,
    keep_table: bool = False,
) -> Steps[list[Motif]]:
    """`find_motifs` in steps, for an executor to take to their end."""
    data = SearchData.of(sequences, background, min_width, both_strands, keep_table)
    generator = np.random.default_rng(seed)
    free = np.ones(sequences.letters.shape)
    motifs: list[Motif] = []
    widest = min(max_width, int(sequences.lengths.max()))
    for _ in range(n_motifs):
        best: _Candidate | None = None
        for width in widths_to_try(min_width, max(widest, min_width)):
            windows = Windows.of(data, width, free)
            best = _best(best, (yield from _of_width(windows, generator)))
        if best is None:
            break
        motifs.append(_exact(data, best.motif))
        free = free * _left_free(data, best.motif, free)
    return motifs


def _best(*candidates: _Candidate | None) -> _Candidate | None:
    """The one with the smallest E-value, of equals the first."""
    found = [c for c in candidates if c is not None]
    return min(found, key=lambda c: c.motif.log_e_value, default=None)


def _of_width(windows: Windows, generator: np.random.Generator) -> Steps[_Candidate | None]:
    """The motif with the smallest E-value that starts of one width lead to."""
    letters = starting_points(windows, generator)
    if not len(letters):
        return None
    aligned = yield Align(windows, letters)
    assert isinstance(aligned, Aligned)
    matrices, fractions = most_promising(windows, letters, aligned)
    if not len(matrices):
        return None
    best = _best(*(yield from _refined(windows, matrices, fractions, False)))
    return None if best is None else (yield from _sharpened(windows, best))


def _sharpened(windows: Windows, best: _Candidate) -> Steps[_Candidate]:
    """The best of a matrix and of sharper ones that start from it."""
    matrices = np.repeat(best.matrix[None], len(_SHARP_FRACTIONS), axis=0)
    sharper = yield from _refined(windows, matrices, np.array(_SHARP_FRACTIONS), True)
    return _best(best, *sharper) or best


def _refined(
    windows: Windows,
    matrices: NDArray[np.float64],
    fractions: NDArray[np.float64],
    hold_fraction: bool,
) -> Steps[list[_Candidate]]:
    """What expectation maximization makes of some matrices: for each the sites and columns with
    the smallest E-value."""
    converged = yield Converge(windows, matrices, fractions, hold_fraction)
    assert isinstance(converged, Converged)
    ordered = yield Order(windows, *converged)
    assert isinstance(ordered, Ordered)
    candidates = []
    for matrix, fraction, *sites in zip(*converged, *ordered, strict=True):
        motif = _motif(windows, *sites)
        if motif is not None:
            candidates.append(_Candidate(matrix, float(fraction), motif))
    return candidates


def _motif(
    windows: Windows, order: NDArray[np.int64], start: NDArray[np.int64], n_eligible: int
) -> Motif | None:
    """The number of sites and the run of columns of an alignment with the smallest E-value; None
    where there is no alignment or it is the artefact of full width."""
    data, width = windows.data, windows.width
    n_sites = site_kernels.best_number_of_sites(
        order, start, n_eligible, data.codes4, width, data.background, data.x_log_x, data.table,
        data.log_ways(width),
    )  # fmt: skip
    if n_sites == 0:
        return None
    counts = site_kernels.site_counts(order, start, n_sites, data.codes4, width)
    first, width, log_e = _columns(data, counts, n_sites, data.table[n_sites], data.min_width)
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
    sequence, longest = order[:n_sites], data.codes4.shape[2]
    strand, place = np.divmod(start[sequence], longest)
    return Motif(counts, n_sites, llr, log_e, sequence, place + first, strand)


def _exact(data: SearchData, motif: Motif) -> Motif:
    """The motif with its E-value from the table of exactly its number of sites."""
    excess = significance.column_excess(motif.n_sites, data.background)
    _, _, log_e = _columns(data, motif.counts, motif.n_sites, excess, len(motif.counts))
    return motif._replace(log_e_value=log_e)


def _left_free(data: SearchData, motif: Motif, free: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n_sequences, longest) probability that no occurrence of a motif covers each position.

    The motif as it is reported, not the matrix that it came from: that one may be wider and, where
    it was sharpened, thinks the motif rarer than it is and would leave weak sites for the next.
    """
    # once a motif, and less than 1 % of the work: never worth sending away
    matrix = motif.counts + kernels.PSEUDOCOUNT * data.background
    return kernels.probability_free(
        data.codes4, data.lengths, matrix / matrix.sum(axis=1, keepdims=True),
        min(motif.n_sites / data.lengths.size, 1 - 1e-6), data.background,
        Windows.of(data, len(motif.counts), free).weight,
    )  # fmt: skip


def _columns(
    data: SearchData,
    counts: NDArray[np.int64],
    n_sites: int,
    excess: NDArray[np.float64],
    min_width: int,
) -> tuple[int, int, float]:
    """`site_kernels.best_columns` of at least `min_width`."""
    ways = np.zeros(len(counts) + 1)
    for width in range(min_width, len(counts) + 1):
        ways[width] = data.log_ways(width)[n_sites]
    return site_kernels.best_columns(
        counts, n_sites, data.background, data.x_log_x, excess, ways, min_width
    )
