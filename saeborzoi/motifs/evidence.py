"""What the sequences say of a motif: is it enriched over shuffled seqlets and over other nodes,
and does the activation grow with its score.

A sequence holds the motif where its best window scores above a threshold that one random sequence
in fifty of the same length and order-0 composition passes. The seqlets are those that the motif
was found in, and a motif from few sites fits these sites by construction: each of the node's own
sites is therefore scored by the motif of the *other* sites (leave one out). That removes most of
the excess, not what comes from choosing sites that are alike: see `fan_in.MIN_ODDS_RATIO`.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from saeborzoi.genome import enrichment
from saeborzoi.motifs import evidence_kernels as kernels
from saeborzoi.motifs.engine.copies import effective_sites
from saeborzoi.motifs.sequences import (
    Sequences,
    four_mers,
    letter_frequencies,
    reverse_complement,
)

N_SHUFFLES = 5
"""Shuffled copies of each seqlet."""
_SHUFFLE_SEED = 0
"""The same for every node: shuffling depends on the seqlets alone."""
_RANDOM_SHARE = 0.02
_SCORE_BINS = 1000
_MATRIX_PSEUDOCOUNT = 0.01


class OddsRatio(NamedTuple):
    """Odds ratios with their 95 % confidence intervals and one-sided p-values of enrichment,
    float64 of the counts' common shape."""

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    p_value: NDArray[np.float64]


class NodeEvidence(NamedTuple):
    """Columns of table `motif` that the node's own seqlets give."""

    odds_ratio: float
    odds_ratio_low: float
    odds_ratio_high: float
    enrichment_p_value: float
    activation_spearman: float


def odds_ratio(
    hits: ArrayLike, n: ArrayLike, control_hits: ArrayLike, n_control: ArrayLike
) -> OddsRatio:
    """Enrichment of hits among `n` over `n_control` controls; counts are broadcast.

    Ratio and interval are those of `saeborzoi.genome.enrichment`, the p-value is Fisher's exact,
    one-sided.

    >>> odds_ratio([80, 50], 100, 20, 100).value.round(2).tolist()
    [15.42, 3.93]
    """
    ratio = enrichment.odds_ratio(hits, n, control_hits, n_control)
    hits, n = np.asarray(hits), np.asarray(n)
    p = stats.hypergeom.sf(hits - 1, n + n_control, hits + control_hits, n)
    return OddsRatio(*ratio, p)


def log_odds(matrix: NDArray[np.float64], background: NDArray[np.float64]) -> NDArray[np.float64]:
    """(width, 4) float64, natural log of probability over background, with a pseudocount."""
    smoothed = (matrix + _MATRIX_PSEUDOCOUNT * background) / (1 + _MATRIX_PSEUDOCOUNT)
    return np.log(smoothed / background)


class ScoreTail(NamedTuple):
    """Which share of random windows reaches a score, on a grid.

    Attributes
    ----------
    lowest, step
        Score of the first bin, and from bin to bin.
    share
        (n_bins,) float64, of windows that reach the bin.
    """

    lowest: float
    step: float
    share: NDArray[np.float64]

    @classmethod
    def of(cls, scores: NDArray[np.float64], background: NDArray[np.float64]) -> ScoreTail:
        """The tail for (width, 4) scores: exact on a grid of 1,000 bins (the widest error is
        width / 2 bins)."""
        lowest, highest = scores.min(axis=1).sum(), scores.max(axis=1).sum()
        step = max((highest - lowest) / _SCORE_BINS, 1e-12)
        whole = np.rint((scores - scores.min(axis=1, keepdims=True)) / step).astype(int)
        distribution = np.zeros(whole.max(axis=1).sum() + 1)
        distribution[0] = 1.0
        for row in whole:
            moved = np.zeros_like(distribution)
            for letter, shift in enumerate(row):
                moved[shift:] += background[letter] * distribution[: distribution.size - shift]
            distribution = moved
        return cls(lowest, step, np.cumsum(distribution[::-1])[::-1])

    def threshold(self, p_value: float) -> float:
        """Smallest score that a random window passes with at most `p_value`."""
        passing = np.flatnonzero(self.share <= p_value)
        k = passing[0] if passing.size else self.share.size - 1
        return float(self.lowest + (k - 0.5) * self.step)


def shuffled_copies(sequences: Sequences) -> Sequences:
    """`N_SHUFFLES` copies of some sequences, each shuffled with its dinucleotides."""
    letters = np.tile(sequences.letters, (N_SHUFFLES, 1))
    lengths = np.tile(sequences.lengths, N_SHUFFLES)
    return Sequences(kernels.shuffle_dinucleotides(letters, lengths, _SHUFFLE_SEED), lengths)


class Scannable(NamedTuple):
    """Sequences as motifs are looked for in them, of `scannable`: made once for all motifs.

    Attributes
    ----------
    letters, codes4
        (n_strands, n_sequences, longest) uint8, letters and 4-mers of each strand.
    lengths
        (n_sequences,) int64, bp.
    distinct_lengths, length_of
        (n_lengths,) int64, each length once; (n_sequences,) int64, which of them a sequence has.
    """

    letters: NDArray[np.uint8]
    codes4: NDArray[np.uint8]
    lengths: NDArray[np.int64]
    distinct_lengths: NDArray[np.int64]
    length_of: NDArray[np.int64]


def scannable(sequences: Sequences, both_strands: bool) -> Scannable:
    """Some sequences with their 4-mers, on one strand or on both."""
    strands = [sequences, reverse_complement(sequences)] if both_strands else [sequences]
    return Scannable(
        np.stack([strand.letters for strand in strands]),
        np.stack([four_mers(strand) for strand in strands]),
        sequences.lengths,
        *np.unique(sequences.lengths, return_inverse=True),
    )


def node_evidence(
    matrix: NDArray[np.float64],
    n_sites: int,
    sequences: Scannable,
    shuffled: Scannable,
    activation: NDArray[np.float64],
    background: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> NodeEvidence:
    """Evidence for one motif from its node's seqlets.

    Parameters
    ----------
    matrix
        (width, 4) float64.
    n_sites
        Sites among the sequences that it was made from.
    shuffled
        `shuffled_copies` of the sequences.
    activation
        (n_sequences,) activation of the node at each seqlet.
    background
        (4,) float64, for the score.
    weights
        (n_sequences,) float64, what each sequence counts, `copies.copy_weights`.
    """
    scorer = Scorer(matrix, background)
    scores = scorer.own_scores(sequences, n_sites)
    hits = float(weights @ scorer.holds(scores, sequences))
    control = float(
        np.tile(weights, N_SHUFFLES) @ scorer.holds(scorer.scores(shuffled), shuffled)
    )  # fmt: skip
    n = float(weights.sum())
    ratio, low, high, p_value = map(
        float, odds_ratio(round(hits), round(n), round(control), round(n * N_SHUFFLES))
    )
    return NodeEvidence(ratio, low, high, p_value, spearman(activation, scores))


def independent_sites(
    matrix: NDArray[np.float64],
    n_sites: int,
    sequences: Scannable,
    background: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> float:
    """`copies.effective_sites` where the engine does not say which the sites are: the `n_sites`
    best windows are taken for them."""
    score, start = Scorer(matrix, background).best(sequences)
    rows = np.argsort(-score, kind="stable")[:n_sites]
    letters, lengths = sequences.letters, sequences.lengths
    return effective_sites(letters, lengths, rows, start[rows], len(matrix), weights)


def likely_sites(
    matrix: NDArray[np.float64], n_sites: int, sequences: Sequences, both_strands: bool
) -> NDArray[np.int64]:
    """(n_sites,) int64, rows of the sequences whose best windows score highest: a catalogue has a
    motif's matrix and the number of its sites, not which they are."""
    background = letter_frequencies(sequences, both_strands)
    score = Scorer(matrix, background).scores(scannable(sequences, both_strands))
    return np.argsort(-score, kind="stable")[:n_sites]


def spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Spearman's rank correlation, nan where either is constant or fewer than three are finite."""
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    if x.size < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(stats.spearmanr(x, y).statistic)


class Scorer:
    """Scores of one motif, and which sequences hold it."""

    def __init__(self, matrix: NDArray[np.float64], background: NDArray[np.float64]) -> None:
        self.width = len(matrix)
        self.matrix = matrix
        self.background = background
        self.log_odds = log_odds(matrix, background)
        self._thresholds: dict[int, float] = {}

    @cached_property
    def _tail(self) -> ScoreTail:
        return ScoreTail.of(self.log_odds, self.background)

    def scores(self, sequences: Scannable) -> NDArray[np.float64]:
        """Best score of each sequence."""
        return self.best(sequences)[0]

    def own_scores(self, sequences: Scannable, n_sites: int) -> NDArray[np.float64]:
        """The same for the sequences that the motif was found in: the `n_sites` best are taken
        for its sites, and each is scored by the motif without it."""
        score, start = self.best(sequences)
        sites = np.argsort(-score, kind="stable")[: min(n_sites, int(np.isfinite(score).sum()))]
        longest = sequences.letters.shape[2]
        columns = start[sites, None] % longest + np.arange(self.width)
        letters = sequences.letters[start[sites, None] // longest, sites[:, None], columns]
        position = np.arange(self.width)
        counts = self.matrix[position, letters] * n_sites
        background = self.background[letters]
        rest = np.maximum(counts - 1, 0) / max(n_sites - 1, 1)
        smoothed = (rest + _MATRIX_PSEUDOCOUNT * background) / (1 + _MATRIX_PSEUDOCOUNT)
        score[sites] = np.log(smoothed / background).sum(axis=1)
        return score

    def best(self, sequences: Scannable) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Score and start of each sequence's best window, as `kernels.best_log_odds`."""
        score, start = kernels.best_log_odds(sequences.codes4, sequences.lengths, self.log_odds)
        return score, start

    def holds(self, scores: NDArray[np.float64], sequences: Scannable) -> NDArray[np.bool_]:
        """(n_sequences,) bool, whether each score is one of a sequence that holds the motif."""
        n_strands = len(sequences.letters)
        thresholds = [
            self._threshold(n_strands * (int(length) - self.width + 1))
            for length in sequences.distinct_lengths
        ]
        return scores >= np.array(thresholds)[sequences.length_of]

    def _threshold(self, n_windows: int) -> float:
        if n_windows <= 0:
            return float("inf")
        if n_windows not in self._thresholds:
            p = 1 - (1 - _RANDOM_SHARE) ** (1 / n_windows)
            self._thresholds[n_windows] = self._tail.threshold(p)
        return self._thresholds[n_windows]
