"""One node's sequences as the search for motifs uses them, and the windows of one width.

What is searched, and in which order, is in `builtin.py`.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saeborzoi.motifs.engine import significance
from saeborzoi.motifs.engine.site_kernels import SITE_LETTERS
from saeborzoi.motifs.engine.vectors import LANES
from saeborzoi.motifs.sequences import Sequences, four_mers, reverse_complement

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
U8 = NDArray[np.uint64]
U1 = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class SearchData:
    """One node's sequences, in an order that their letters alone decide, and what their
    significance is read from.

    Attributes
    ----------
    letters, codes4
        (n_strands, n_sequences, longest) uint8, letters and the 4-mers that start there; strand 1
        is the reverse complement.
    lengths
        (n_sequences,) int64, bp.
    given
        (n_sequences,) int64, the row of each sequence in what was given.
    background
        (4,) float64, probability of A C G T.
    table
        `significance.column_table` of it.
    min_width
        Narrowest motif, bp.
    """

    letters: U1
    codes4: U1
    lengths: I8
    given: I8
    background: F8
    table: F8
    min_width: int
    _excess: dict[int, F8] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        sequences: Sequences,
        background: F8,
        min_width: int,
        both_strands: bool,
        keep_table: bool,
    ) -> SearchData:
        """The data of some sequences; `keep_table` keeps the table for the next node."""
        given = canonical_order(sequences)
        ordered = Sequences(sequences.letters[given], sequences.lengths[given])
        strands = [ordered, reverse_complement(ordered)] if both_strands else [ordered]
        n = ordered.lengths.size
        if keep_table:
            table = significance.cached_column_table(n, tuple(background.tolist()))
        else:
            table = significance.column_table(n, background)
        return cls(
            letters=np.stack([s.letters for s in strands]),
            codes4=np.stack([four_mers(s) for s in strands]),
            lengths=ordered.lengths,
            given=given,
            background=background,
            table=table,
            min_width=min_width,
        )

    @property
    def longest(self) -> int:
        """Length of the longest sequence, bp."""
        return self.letters.shape[2]

    @cached_property
    def log_background(self) -> F8:
        """(4,) float64, natural logarithm."""
        return np.log(self.background)

    @cached_property
    def x_log_x(self) -> F8:
        """(n_sequences + 1,) float64, x ln x."""
        x = np.arange(self.lengths.size + 1, dtype=float)
        return x * np.log(np.maximum(x, 1))

    @cached_property
    def is_letter(self) -> U1:
        """(n_strands, 4, longest, n_sequences) uint8, 1 where a sequence has that letter there:
        sequences last, so that the compiler compares many at once."""
        inside = np.arange(self.longest)[:, None] < self.lengths
        columns = self.letters.transpose(0, 2, 1)
        return np.stack([(columns == a) & inside for a in range(4)], axis=1).astype(np.uint8)

    @cached_property
    def padded_letters(self) -> U1:
        """(n_strands, n_sequences, longest + SITE_LETTERS) uint8, `letters`, then zeros."""
        return np.pad(self.letters, ((0, 0), (0, 0), (0, SITE_LETTERS)))

    @cached_property
    def by_length(self) -> I8:
        """(n_sequences,) int64, rows from the shortest sequence on."""
        return np.argsort(self.lengths, kind="stable")

    @cached_property
    def words(self) -> U8:
        """(n_groups, n_strands, longest, LANES) uint64, 32 letters from each position on, the first
        in the lowest two bits; sequences in the order of `by_length`, `LANES` a group."""
        words = self.letters.astype(np.uint64)
        for n_letters in (1, 2, 4, 8, 16):
            words[:, :, :-n_letters] |= words[:, :, n_letters:] << np.uint64(2 * n_letters)
        return in_groups(words, self.by_length)

    @cached_property
    def numbers(self) -> I8:
        """Numbers of sites that may be expected: 2, 4, 8 ... n_sequences."""
        n = self.lengths.size
        powers = [2**k for k in range(1, n.bit_length()) if 2**k < n]
        return np.array([*powers, n], np.int64)

    def excess(self, n_sites: int) -> F8:
        """`significance.column_excess` of exactly this number of sites, kept."""
        if n_sites not in self._excess:
            self._excess[n_sites] = significance.column_excess(n_sites, self.background)
        return self._excess[n_sites]

    @cached_property
    def log_ways_of_widths(self) -> F8:
        """(longest + 1, n_sequences + 1) float64, `significance.log_ways`."""
        return significance.log_ways(np.sort(self.lengths)[::-1].copy(), len(self.letters))

    def log_ways(self, width: int) -> F8:
        """(n_sequences + 1,) float64, `significance.log_ways` of a width."""
        return self.log_ways_of_widths[width]


def in_groups(rows: NDArray[Any], order: I8) -> NDArray[Any]:
    """(n_groups, n_strands, n, LANES) of (n_strands, n_sequences, n): the sequences in an order,
    `LANES` side by side, filled up with zeros."""
    n_strands, n_sequences, n = rows.shape
    n_groups = -(-n_sequences // LANES)
    filled = np.zeros((n_groups * LANES, n_strands, n), rows.dtype)
    filled[:n_sequences] = rows[:, order].swapaxes(0, 1)
    grouped = filled.reshape(n_groups, LANES, n_strands, n).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(grouped)


def canonical_order(sequences: Sequences) -> I8:
    """(n_sequences,) int64: rows by a checksum of their letters, then by the letters.

    Where the search must prefer one of equals it takes the first, so the order may depend on the
    letters only. By letters alone sequences that begin with A would come first everywhere.
    """
    texts = [
        row[:length].tobytes()
        for row, length in zip(sequences.letters, sequences.lengths, strict=True)
    ]
    keys = [(zlib.crc32(text), text) for text in texts]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)


@dataclass(frozen=True, eq=False)
class MotifWindows:
    """All windows of one width.

    Attributes
    ----------
    is_free
        (n_strands, n_sequences, longest - width + 1) uint8, 1 where the window lies within its
        sequence and holds no position of an earlier motif.
    """

    data: SearchData
    width: int
    is_free: U1

    @classmethod
    def of(cls, data: SearchData, width: int, free: U1) -> MotifWindows:
        """The windows that hold only free positions.

        Parameters
        ----------
        free
            (n_sequences, longest) uint8, 1 where no site of an earlier motif lies, on the given
            strand.
        """
        n_windows = data.longest - width + 1
        forward = free[:, :n_windows].copy()
        for c in range(1, width):
            forward &= free[:, c : c + n_windows]
        last = data.lengths[:, None] - width
        j = np.arange(n_windows)
        inside = j <= last
        strands = [forward * inside]
        if len(data.letters) == 2:
            mirrored = np.take_along_axis(forward, np.maximum(last - j, 0), axis=1)
            strands.append(mirrored * inside)
        return cls(data, width, np.stack(strands).astype(np.uint8))

    @cached_property
    def free_bits(self) -> U1:
        """(n_groups, n_strands, n_windows) uint8, bits of `is_free` for the sequences of a group of
        `SearchData.words`."""
        grouped = in_groups(self.is_free, self.data.by_length)
        return np.packbits(grouped, axis=-1, bitorder="little")[..., 0]

    @cached_property
    def mask(self) -> U1:
        """(n_strands, n_windows, n_sequences) uint8, 255 where free: sequences last."""
        return np.ascontiguousarray(self.is_free.transpose(0, 2, 1)) * np.uint8(255)
