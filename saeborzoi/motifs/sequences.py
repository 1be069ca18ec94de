"""What engines of motif discovery take and give: short DNA sequences as arrays (letters, both
strands, letter frequencies) and the motif that was found.

The order of letters is A C G T = 0 1 2 3 everywhere. Genome coordinates do not belong here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeborzoi.errors import InputError

LETTERS = "ACGT"
_CODE = np.full(256, 255, np.uint8)
for _i, _letter in enumerate(LETTERS):
    _CODE[ord(_letter)] = _CODE[ord(_letter.lower())] = _i


class Sequences(NamedTuple):
    """Sequences of one node, one row each.

    Attributes
    ----------
    letters
        (n_sequences, longest) uint8, 0..3; 0 beyond the end of a sequence.
    lengths
        (n_sequences,) int64, bp.
    """

    letters: NDArray[np.uint8]
    lengths: NDArray[np.int64]


class Found(NamedTuple):
    """One motif as an engine gives it.

    Attributes
    ----------
    matrix
        (width, 4) float64, rows sum to 1.
    n_sites, llr, log10_e_value
        As in table `motif`; llr is nan where the engine does not say.
    n_effective_sites, suspect
        As in table `motif`; None where the engine does not say.
    """

    matrix: NDArray[np.float64]
    n_sites: int
    llr: float
    log10_e_value: float
    n_effective_sites: float | None = None
    suspect: str | None = None


def encode(sequences: Sequence[str]) -> Sequences:
    """Letters of some sequences.

    Raises
    ------
    InputError
        Where there is no sequence, or one holds another letter than A, C, G, T.
    """
    if len(sequences) == 0:
        raise InputError("no seqlets to look for motifs in; needed is at least one")
    lengths = np.array([len(s) for s in sequences], np.int64)
    flat = _CODE[np.frombuffer("".join(sequences).encode("ascii", "replace"), np.uint8)]
    letters = np.zeros((lengths.size, int(lengths.max())), np.uint8)
    inside = np.arange(letters.shape[1]) < lengths[:, None]
    letters[inside] = flat
    bad = np.flatnonzero((letters == 255).any(axis=1))
    if bad.size:
        raise InputError(
            f"seqlet {sequences[bad[0]]!r} ({bad.size} such) holds letters other than A, C, G, T; "
            "leave such seqlets out, as the seqlets stage does"
        )
    return Sequences(letters, lengths)


def reverse_complement(sequences: Sequences) -> Sequences:
    """The other strand, read from its own 5' end."""
    letters, lengths = sequences
    columns = lengths[:, None] - 1 - np.arange(letters.shape[1])
    inside = columns >= 0
    flipped = 3 - np.take_along_axis(letters, np.maximum(columns, 0), axis=1)
    return Sequences(np.where(inside, flipped, 0).astype(np.uint8), lengths)


def four_mers(sequences: Sequences) -> NDArray[np.uint8]:
    """(n_sequences, longest) uint8, the 4-mer that starts at each position, first letter in the
    highest bits."""
    letters = np.pad(sequences.letters, ((0, 0), (0, 3)))
    n = sequences.letters.shape[1]
    code = np.zeros(sequences.letters.shape, np.uint8)
    for k in range(4):
        code = (code * 4 + letters[:, k : k + n]).astype(np.uint8)
    return code


def letter_frequencies(sequences: Sequences, both_strands: bool = False) -> NDArray[np.float64]:
    """(4,) float64, order-0 frequencies of A C G T, each counted once more than it is there (MEME's
    add-one prior), so never 0."""
    inside = np.arange(sequences.letters.shape[1]) < sequences.lengths[:, None]
    counts = np.bincount(sequences.letters[inside], minlength=4).astype(float)
    if both_strands:
        counts = counts + counts[::-1]
    counts += 1
    return counts / counts.sum()
