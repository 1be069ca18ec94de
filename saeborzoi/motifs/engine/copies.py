"""Near-identical seqlets: copies of one element of the genome, which are one observation.

Copies of a repeat (Alu, L1, SVA, ...) agree over their whole length, sites of a factor over the
motif only: two seqlets with a good site of a 15 bp factor agree in half of 26 letters, two Alu
copies in four of five. Where a wide motif makes seqlets near-identical by itself, what lies beside
its sites tells: it agrees in copies and in nothing else.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from saeborzoi.motifs.engine import bit_planes
from saeborzoi.motifs.engine.bit_planes import BLOCK, LANES, add_word
from saeborzoi.motifs.sequences import Sequences, reverse_complement

MIN_IDENTITY = 0.8
"""Share of letters that copies have in common, without gaps, where they overlap."""
MIN_OVERLAP = 20
"""Letters that overlap at least. Shorter seqlets are copies where they are equal: good sites of a
factor agree in as many letters by themselves."""

MIN_FLANK_AGREEMENT = 0.5
"""Sites are taken for copies where pairs of them agree in this share of the letters beside them:
about 0.3 by chance, 0.8 in copies."""


def effective_sites(
    letters: NDArray[np.uint8],
    lengths: NDArray[np.int64],
    rows: NDArray[np.int64],
    start: NDArray[np.int64],
    width: int,
    weights: NDArray[np.float64],
) -> float:
    """Independent sites of a motif: the weights of its sequences where the sites are copies of one
    another, else all of them.

    Parameters
    ----------
    letters, lengths
        (n_strands, n_sequences, longest) uint8 and (n_sequences,) int64, bp.
    rows, start
        (n_sites,) int64: sequence of each site and its start, `start + longest` on strand 1.
    weights
        (n_sequences,) float64, `copy_weights`.
    """
    agreement = _flank_agreement(letters, lengths, rows, start, width)
    return float(weights[rows].sum()) if agreement >= MIN_FLANK_AGREEMENT else float(rows.size)


@njit(cache=True, nogil=True)
def _flank_agreement(
    letters: NDArray[np.uint8],
    lengths: NDArray[np.int64],
    rows: NDArray[np.int64],
    start: NDArray[np.int64],
    width: int,
) -> float:
    """Share of pairs of sites that agree in a letter beside them; 1 where there is none beside."""
    longest = letters.shape[2]
    counts = np.zeros((2 * longest, 4), np.int64)
    for k in range(rows.size):
        strand, first = start[k] // longest, start[k] % longest
        for c in range(lengths[rows[k]]):
            if c < first or c >= first + width:
                counts[c - first + longest, letters[strand, rows[k], c]] += 1
    agree, pairs = 0, 0
    for c in range(2 * longest):
        n = counts[c].sum()
        pairs += n * (n - 1)
        for a in range(4):
            agree += counts[c, a] * (counts[c, a] - 1)
    return agree / pairs if pairs > 0 else 1.0


def copy_weights(sequences: Sequences, both_strands: bool) -> NDArray[np.float64]:
    """(n_sequences,) float64, 1 / the sequences that each is near-identical to, itself included.

    The weights of n copies that are all alike sum to 1. The sum over the sites of a motif is the
    number of independent sites that it has.

    Parameters
    ----------
    both_strands
        Whether the reverse complement of a sequence is a copy of it.
    """
    n_like = _n_like(sequences, sequences, skip_own=False)
    if both_strands:
        n_like = n_like + _n_like(sequences, reverse_complement(sequences), skip_own=True)
    return 1.0 / n_like


def _n_like(of: Sequences, among: Sequences, skip_own: bool) -> NDArray[np.int64]:
    columns = among.letters.T
    inside = np.arange(len(columns))[:, None] < among.lengths
    is_letter = np.stack([(columns == a) & inside for a in range(4)])
    lengths = np.unique(among.lengths)
    return _count_like(
        of.letters, of.lengths, lengths, bit_planes.packed(among.lengths == lengths[:, None]),
        bit_planes.packed(is_letter), bit_planes.planes_for(is_letter.shape[1]),
        MIN_IDENTITY, MIN_OVERLAP, skip_own,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _count_like(
    letters: NDArray[np.uint8],
    lengths: NDArray[np.int64],
    other_lengths: NDArray[np.int64],
    has_length: NDArray[np.uint64],
    is_letter: NDArray[np.uint64],
    planes: tuple[int, ...],
    min_identity: float,
    min_overlap: int,
    skip_own: bool,
) -> NDArray[np.int64]:
    """(n_sequences,) int64, sequences of the others that each is near-identical to at some shift.

    `is_letter` is packed from (4, longest, n_sequences) of the others, `has_length` from
    (n_lengths, n_sequences), which of them are so long.
    """
    n, longest = letters.shape
    n_like = np.zeros(n, np.int64)
    n_blocks = (n + BLOCK - 1) // BLOCK
    step = len(planes) * LANES
    agree = np.zeros(n_blocks * step, np.uint64)
    like = np.zeros(n_blocks * LANES, np.uint64)
    for x in range(n):
        like[:] = 0
        length = lengths[x]
        most = max(longest - min_overlap, 0)
        for shift in range(-most, most + 1):
            low, high = max(0, -shift), min(length, longest - shift)
            if high - low < min(min_overlap, length):
                continue
            agree[:] = 0
            add_word(
                planes, agree, 0, n_blocks, letters[x, low:high], is_letter, low + shift, longest
            )
            for m in range(other_lengths.size):
                overlap = min(length, other_lengths[m] - shift) - low
                if overlap >= min_overlap:
                    needed = int(np.ceil(min_identity * overlap))
                elif shift == 0 and length == other_lengths[m]:
                    needed = length
                else:
                    continue
                for k in range(n_blocks):
                    bit_planes.mark_at_least(
                        planes, like, k * LANES, agree, k * step, needed,
                        has_length, (m * n_blocks + k) * LANES,
                    )  # fmt: skip
        if skip_own:
            like[x // 64] &= ~(np.uint64(1) << np.uint64(x % 64))
        for k in range(n_blocks):
            n_like[x] += bit_planes.count((0,), like, k * LANES, 1)
    return n_like
