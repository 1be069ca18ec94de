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
from numpy.typing import NDArray
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
    """Odds ratio with its 95 % confidence interval and a one-sided p-value of enrichment."""

    value: float
    low: float
    high: float
    p_value: float


class NodeEvidence(NamedTuple):
    """Columns of table `motif` that the node's own seqlets give."""

    odds_ratio: float
    odds_ratio_low: float
    odds_ratio_high: float
    enrichment_p_value: float
    activation_spearman: float


def odds_ratio(hits: int, n: int, control_hits: int, n_control: int) -> OddsRatio:
    """Enrichment of hits among `n` over `n_control` controls.

    Ratio and interval are those of `saeborzoi.genome.enrichment`, the p-value is Fisher's exact,
    one-sided.

    >>> round(odds_ratio(80, 100, 20, 100).value, 2)
    15.42
    """
    ratio = enrichment.odds_ratio(hits, n, control_hits, n_control)
    p = stats.hypergeom.sf(hits - 1, n + n_control, hits + control_hits, n)
    return OddsRatio(float(ratio.value), float(ratio.low), float(ratio.high), float(p))


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


def node_evidence(
    matrix: NDArray[np.float64],
    n_sites: int,
    sequences: Sequences,
    shuffled: Sequences,
    activation: NDArray[np.float64],
    background: NDArray[np.float64],
    both_strands: bool,
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
    both_strands
        Whether an occurrence may lie on the reverse complement.
    weights
        (n_sequences,) float64, what each sequence counts, `copies.copy_weights`.
    """
    scorer = Scorer(matrix, background, both_strands)
    scores = scorer.own_scores(sequences, n_sites)
    hits = float(weights @ scorer.holds(scores, sequences))
    control = float(
        np.tile(weights, N_SHUFFLES) @ scorer.holds(scorer.scores(shuffled), shuffled)
    )  # fmt: skip
    n = float(weights.sum())
    enriched = odds_ratio(round(hits), round(n), round(control), round(n * N_SHUFFLES))
    return NodeEvidence(
        enriched.value,
        enriched.low,
        enriched.high,
        enriched.p_value,
        spearman(activation, scores),
    )


def independent_sites(
    matrix: NDArray[np.float64],
    n_sites: int,
    sequences: Sequences,
    background: NDArray[np.float64],
    both_strands: bool,
    weights: NDArray[np.float64],
) -> float:
    """`copies.effective_sites` where the engine does not say which the sites are: the `n_sites`
    best windows are taken for them."""
    score, start, letters = Scorer(matrix, background, both_strands)._best(sequences)
    rows = np.argsort(-score, kind="stable")[:n_sites]
    return effective_sites(letters, sequences.lengths, rows, start[rows], len(matrix), weights)


def likely_sites(
    matrix: NDArray[np.float64], n_sites: int, sequences: Sequences, both_strands: bool
) -> NDArray[np.int64]:
    """(n_sites,) int64, rows of the sequences whose best windows score highest: a catalogue has a
    motif's matrix and the number of its sites, not which they are."""
    background = letter_frequencies(sequences, both_strands)
    score = Scorer(matrix, background, both_strands).scores(sequences)
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

    def __init__(
        self,
        matrix: NDArray[np.float64],
        background: NDArray[np.float64],
        both_strands: bool,
    ) -> None:
        self.width = len(matrix)
        self.matrix = matrix
        self.background = background
        self.both_strands = both_strands
        self.log_odds = log_odds(matrix, background)
        self._thresholds: dict[int, float] = {}

    @cached_property
    def _tail(self) -> ScoreTail:
        return ScoreTail.of(self.log_odds, self.background)

    def scores(self, sequences: Sequences) -> NDArray[np.float64]:
        """Best score of each sequence."""
        return self._best(sequences)[0]

    def own_scores(self, sequences: Sequences, n_sites: int) -> NDArray[np.float64]:
        """The same for the sequences that the motif was found in: the `n_sites` best are taken
        for its sites, and each is scored by the motif without it."""
        score, start, strands = self._best(sequences)
        sites = np.argsort(-score, kind="stable")[: min(n_sites, int(np.isfinite(score).sum()))]
        longest = sequences.letters.shape[1]
        columns = start[sites, None] % longest + np.arange(self.width)
        letters = strands[start[sites, None] // longest, sites[:, None], columns]
        position = np.arange(self.width)
        counts = self.matrix[position, letters] * n_sites
        background = self.background[letters]
        rest = np.maximum(counts - 1, 0) / max(n_sites - 1, 1)
        smoothed = (rest + _MATRIX_PSEUDOCOUNT * background) / (1 + _MATRIX_PSEUDOCOUNT)
        score[sites] = np.log(smoothed / background).sum(axis=1)
        return score

    def _best(
        self, sequences: Sequences
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.uint8]]:
        """Score and start of each sequence's best window; letters of every strand."""
        strands = [sequences, reverse_complement(sequences)] if self.both_strands else [sequences]
        codes4 = np.stack([four_mers(s) for s in strands])
        score, start = kernels.best_log_odds(codes4, sequences.lengths, self.log_odds)
        return score, start, np.stack([s.letters for s in strands])

    def holds(self, scores: NDArray[np.float64], sequences: Sequences) -> NDArray[np.bool_]:
        holds = np.zeros(len(scores), bool)
        for length in np.unique(sequences.lengths):
            chosen = sequences.lengths == length
            holds[chosen] = scores[chosen] >= self._threshold(int(length))
        return holds

    def _threshold(self, length: int) -> float:
        n_windows = (1 + self.both_strands) * (length - self.width + 1)
        if n_windows <= 0:
            return float("inf")
        if n_windows not in self._thresholds:
            p = 1 - (1 - _RANDOM_SHARE) ** (1 / n_windows)
            self._thresholds[n_windows] = self._tail.threshold(p)
        return self._thresholds[n_windows]
