"""What a motif is by itself: consensus, information content, palindrome, low complexity, CpG.

Needs the matrix only; what its occurrences say is in `evidence.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from saeborzoi.catalog.views import CORE_BITS

Matrix = NDArray[np.float64]
"""(width, 4) float64, rows sum to 1, order A C G T."""

_IUPAC = {
    frozenset(letters): code
    for code, letters in {
        "A": "A", "C": "C", "G": "G", "T": "T", "R": "AG", "Y": "CT", "S": "CG", "W": "AT",
        "K": "GT", "M": "AC", "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT",
    }.items()
}  # fmt: skip
_PALINDROME_R = 0.9
_PALINDROME_OVERLAP = 0.75
_INFORMATIVE_BITS = 0.5
"""A column with less than this says little of its letter."""
_REPEAT_PERIODS = (1, 2, 3, 4)
_REPEAT_R = 0.85
_POOR_LETTER = {"A": 0.75, "C": 0.95, "G": 0.95, "T": 0.75}
"""Share of the information above which one letter is the whole motif; runs of G and C with an
interruption are motifs of real factors (SP, KLF)."""
_POOR_WIDE_LETTER = 0.67
_POOR_WIDE = 14
"""The same for motifs at least this wide."""
_ALIKE_BITS = 0.1
"""Mean relative entropy of the columns to their mean below which all columns are alike."""
_POOR_AT_SHARE = 0.85
_POOR_AT_WIDTH = 12
_CORE_WIDTH = 6
_CPG_SHARE = 0.4
FULL_WIDTH_BITS = 0.25
"""Mean bits a column below which a motif as wide as its sequences, with nearly all of them as
sites, is uneven composition: such sites can be aligned in one way only, so any unevenness
scores."""
FULL_WIDTH_SHARE = 0.9
"""The share of the sequences that counts as nearly all."""


def as_matrix(rows: Iterable[Iterable[float]]) -> Matrix:
    """A matrix from column `matrix` of a frame, whose rows may be lists or arrays."""
    return np.array([list(row) for row in rows], float)


def consensus(matrix: Matrix) -> str:
    """IUPAC consensus: at each column the letters at least half as probable as the likeliest.

    >>> consensus(np.array([[0.9, 0.1, 0, 0], [0.4, 0, 0.6, 0], [0.25, 0.25, 0.25, 0.25]]))
    'ARN'
    """
    likely = matrix >= 0.5 * matrix.max(axis=1, keepdims=True)
    return "".join(_IUPAC[frozenset(np.array(list("ACGT"))[row])] for row in likely)


def column_bits(matrix: Matrix) -> NDArray[np.float64]:
    """Information content of each column in bits, `2 + sum p log2 p`: (width,) float64."""
    p = np.clip(matrix, 1e-300, None)
    return 2 + (matrix * np.log2(p)).sum(axis=1)


def core_bits(matrix: Matrix) -> float:
    """Largest information in bits of six neighbouring columns, or of all where there are fewer."""
    width = min(_CORE_WIDTH, len(matrix))
    return float(np.convolve(column_bits(matrix), np.ones(width), "valid").max())


def information_content(matrix: Matrix) -> float:
    """Information content in bits, against equal frequencies of the letters."""
    return float(column_bits(matrix).sum())


def aligned_correlation(a: Matrix, b: Matrix, min_overlap: int) -> tuple[float, int]:
    """Largest Pearson r of two matrices over all offsets with at least `min_overlap` columns.

    Returns
    -------
    r (-1 where no offset has that overlap or a matrix is flat there); start of `b` minus start
    of `a`.
    """
    best, best_offset = -1.0, 0
    for offset in range(min_overlap - len(b), len(a) - min_overlap + 1):
        low, high = max(0, offset), min(len(a), offset + len(b))
        x, y = a[low:high].ravel() - 0.25, b[low - offset : high - offset].ravel() - 0.25
        scale = float(np.sqrt((x @ x) * (y @ y)))
        r = float(x @ y) / scale if scale > 1e-12 else -1.0
        if r > best:
            best, best_offset = r, offset
    return best, best_offset


def is_palindrome(matrix: Matrix) -> bool:
    """Whether the motif equals its reverse complement, off by a few outer columns at most."""
    overlap = max(4, int(np.ceil(_PALINDROME_OVERLAP * len(matrix))))
    r, _ = aligned_correlation(matrix, matrix[::-1, ::-1], min(overlap, len(matrix)))
    return r >= _PALINDROME_R


def simple_composition(matrix: Matrix) -> str | None:
    """`low_complexity` or `cpg` where a matrix could be mere composition, else None.

    Known factors have such motifs too (ZNF384 a run of A): whether it is one is for the evidence to
    say, see `discovery`.

    Low complexity: the columns are all alike, or the informative ones repeat with a period of 1 to
    4 bp, or one letter holds nearly all information, or the motif is a long stretch of weak A and
    T. CpG: most of the
    informative columns are a run of C or G that are one another's neighbours as CG, and no other
    letter is asked for anywhere.
    """
    bits = column_bits(matrix)
    informative = np.flatnonzero(bits >= _INFORMATIVE_BITS)
    if informative.size == 0:
        return "low_complexity"
    mean = matrix.mean(axis=0)
    alike = (matrix * np.log2(np.clip(matrix, 1e-300, None) / np.clip(mean, 1e-300, None))).sum()
    if alike / len(matrix) < _ALIKE_BITS:
        return "low_complexity"
    core = matrix[informative[0] : informative[-1] + 1]
    for period in _REPEAT_PERIODS:
        if len(core) < 2 * period + 2 or informative.size < 2 * period:
            continue
        x, y = core[:-period].ravel() - 0.25, core[period:].ravel() - 0.25
        scale = float(np.sqrt((x @ x) * (y @ y)))
        if scale > 1e-12 and float(x @ y) / scale >= _REPEAT_R:
            return "low_complexity"
    share = bits @ matrix / bits.sum()
    if any(share[i] >= _POOR_LETTER[letter] for i, letter in enumerate("ACGT")):
        return "low_complexity"
    if len(matrix) >= _POOR_WIDE and max(share[0], share[3]) >= _POOR_WIDE_LETTER:
        return "low_complexity"
    is_long_at = share[0] + share[3] >= _POOR_AT_SHARE and len(matrix) >= _POOR_AT_WIDTH
    if is_long_at and core_bits(matrix) < CORE_BITS:
        return "low_complexity"
    strong_gc = matrix[informative, 1] + matrix[informative, 2]
    cpg = (core[:-1, 1] * core[1:, 2]).sum() * 2 / len(core)
    if strong_gc.min() >= 0.8 and cpg >= _CPG_SHARE:
        return "cpg"
    return None


MIN_SITES_SHARE = 0.02
"""Share of a node's seqlets that are a motif's sites at least, where the settings say no number,"""
MIN_SITES = 3
"""but never fewer."""
REPEAT_SHARE = 0.5
"""A motif belongs to a repeat where its sites are fewer than this share of independent ones."""


def least_sites(n_sequences: int) -> int:
    """Sites that a motif has at least unless it is suspect.

    >>> least_sites(1000), least_sites(50)
    (20, 3)
    """
    return max(MIN_SITES, math.ceil(MIN_SITES_SHARE * n_sequences))


def suspect(
    matrix: Matrix,
    n_sites: int,
    n_effective_sites: float,
    lengths: NDArray[np.int64],
    min_sites: int,
) -> str | None:
    """What a motif's sites say against it, None where nothing does.

    Parameters
    ----------
    n_effective_sites
        Sites with near-identical sequences counted once.
    lengths
        (n_sequences,) int64, bp, of the sequences that were searched.
    min_sites
        Independent sites that are needed.

    Returns
    -------
    str or None
        "composition": as wide as the sequences, nearly all of them sites, with little information.
        "repeat": the sites are copies of one element of the genome.
        "few_sites": fewer than `min_sites`.
    """
    if (
        is_full_width(matrix, n_sites, lengths)
        and information_content(matrix) < FULL_WIDTH_BITS * len(matrix)
    ):  # fmt: skip
        return "composition"
    if n_effective_sites < REPEAT_SHARE * n_sites:
        return "repeat"
    return "few_sites" if n_effective_sites < min_sites else None


def is_full_width(matrix: Matrix, n_sites: int, lengths: NDArray[np.int64]) -> bool:
    """Whether the motif is as wide as its sequences and nearly all of them are its sites."""
    return len(matrix) >= int(lengths.max()) and n_sites >= FULL_WIDTH_SHARE * lengths.size
