"""Where each letter of a FASTA lies: the whole file is looked at once, line by line.

An index that somebody else made is never taken: whether it fits cannot be told without such a
look, and one that does not fit gives other letters in silence. What is done with the letters is
not known here.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeborzoi.errors import InputError
from saeborzoi.files import write_file
from saeborzoi.reading import HEAD_BYTES, kind_of, shown

BLOCK_BYTES = 1 << 24
"""Bytes that are looked at at once."""
LETTERS = b"ACGTNRYSWKMBDHVacgtnryswkmbdhv"
"""Bases and IUPAC's codes for some of them."""
_NEWLINE, _RETURN, _HEADING = b"\n\r>"
_IS_FOREIGN = np.ones(256, bool)
_IS_FOREIGN[list(LETTERS + b"\n\r")] = False
_HINTS = {
    " ": "a blank; remove blanks, e.g. `sed 's/[[:blank:]]*$//'`",
    "\t": "a tab; remove it",
    "U": "RNA; write T for U",
    "X": "a masked base; write N for X",
    "-": "a gap, as of an alignment; needed is the sequence without gaps",
    "\0": "a zero byte, as of a damaged copy; bring the file again",
}


class Record(NamedTuple):
    """One sequence: its length in bp, where it begins in the file (byte), and the letters and
    bytes of each of its lines but the last."""

    length: int
    offset: int
    line_bases: int
    line_bytes: int


def scan_fasta(path: Path, text: NDArray[np.uint8]) -> dict[str, Record]:
    """Index of a FASTA, in the order of the file.

    Parameters
    ----------
    path
        The file, for messages.
    text
        (n_bytes,) uint8, its bytes.

    Returns
    -------
    dict
        Name to record. A record without sequence has length 0.

    Raises
    ------
    InputError
        Where a line is no part of a FASTA, holds another letter than IUPAC's of DNA, is longer
        or, before another one, shorter than the first of its sequence, or a name is missing or
        stands twice; names the line.
    """
    return _Scan(path, text).run()


class _Scan:
    """The state of a look through a FASTA: the record that is open, and its lines so far."""

    def __init__(self, path: Path, text: NDArray[np.uint8]) -> None:
        self.path, self.text = path, text
        self.records: dict[str, Record] = {}
        self.line_of_name: dict[str, int] = {}
        self.line = 0  # lines before the block
        self.name: str | None = None
        self.length = self.offset = self.line_bases = self.line_bytes = 0
        self.short_line = 0  # line that can only be the last of its sequence, 0: none yet

    def run(self) -> dict[str, Record]:
        text = self.text
        at = 3 if bytes(text[:3]) == b"\xef\xbb\xbf" else 0  # a byte order mark
        head = bytes(text[at : at + HEAD_BYTES])
        kind = kind_of(head)
        if kind is not None:
            raise InputError(f"genome {self.path}: not a FASTA, but {kind}")
        start = at  # of the line that is not over yet
        for low in range(at, len(text), BLOCK_BYTES):
            block = text[low : low + BLOCK_BYTES]
            ends = np.flatnonzero(block == _NEWLINE) + low
            if low + BLOCK_BYTES >= len(text) and text[-1] != _NEWLINE:
                ends = np.append(ends, len(text))
            starts = np.concatenate([[start], ends[:-1] + 1])[: len(ends)].astype(np.int64)
            self._foreign(block, low, start, starts, ends)
            if len(ends):
                self._lines(starts, ends)
                start = int(ends[-1]) + 1
                self.line += len(ends)
        self._close()
        if not any(record.length for record in self.records.values()):
            raise InputError(f"genome {self.path}: no sequence in it; needed is a FASTA")
        return self.records

    def _lines(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        """Whole lines, the newline of each at `ends`."""
        has_return = (ends > starts) & (self.text[ends - 1] == _RETURN)
        bases = ends - starts - has_return
        width = ends - starts + 1
        filled = np.flatnonzero(bases > 0)
        heading = filled[self.text[starts[filled]] == _HEADING]
        borders = [*heading.tolist(), len(starts)]
        self._sequence(0, borders[0], starts, bases, width)
        for i, following in pairwise(borders):
            self._open(bytes(self.text[starts[i] : ends[i]]), self.line + i + 1)
            self._sequence(i + 1, following, starts, bases, width)

    def _open(self, heading: bytes, line: int) -> None:
        self._close()
        try:
            words = heading[1:].decode().split()
        except UnicodeDecodeError:
            # what follows the name is nobody's business
            words = heading[1:].decode("latin-1").split()
            if words and not words[0].isascii():
                raise self._refused(
                    line, f"the name {words[0]!r} is not in UTF-8; rename it"
                ) from None
        if not words:
            raise self._refused(line, "'>' without a name; write '>name'")
        name = words[0]
        if not name.isprintable():
            raise self._refused(line, f"the name {shown(name)} holds control characters; rename it")
        if name in self.line_of_name:
            raise self._refused(
                line,
                f"the name {shown(name)} stands in line {self.line_of_name[name]} too; needed is "
                "each name once",
            )
        self.line_of_name[name] = line
        self.name = name
        self.length = self.offset = self.line_bases = self.line_bytes = self.short_line = 0

    def _close(self) -> None:
        if self.name is not None:
            self.records[self.name] = Record(
                self.length, self.offset, max(self.line_bases, 1), max(self.line_bytes, 1)
            )

    def _sequence(
        self,
        low: int,
        high: int,
        starts: NDArray[np.int64],
        bases: NDArray[np.int64],
        width: NDArray[np.int64],
    ) -> None:
        """Lines low ... high-1 of the block, which belong to the open record."""
        filled = low + np.flatnonzero(bases[low:high])
        if not len(filled):
            if self.length and high > low and not self.short_line:
                self.short_line = self.line + low + 1
            return
        line = self.line + filled + 1
        if self.name is None:
            raise self._refused(int(line[0]), "a line before the first '>name'; needed is a FASTA")
        if self.short_line:
            raise self._uneven(self.short_line)
        if not self.line_bases:
            self.offset = int(starts[filled[0]])
            self.line_bases, self.line_bytes = int(bases[filled[0]]), int(width[filled[0]])
        odd = (bases[filled] != self.line_bases) | (width[filled] != self.line_bytes)
        odd[:-1] |= np.diff(filled) > 1  # a blank line
        first = int(odd.argmax())
        if odd[first]:
            if bases[filled[first]] > self.line_bases or first < len(filled) - 1:
                raise self._uneven(int(line[first]))
            self.short_line = int(line[first])
        elif high > filled[-1] + 1:
            self.short_line = int(line[-1]) + 1  # a blank line
        self.length += int(bases[filled].sum())

    def _foreign(
        self,
        block: NDArray[np.uint8],
        low: int,
        start: int,
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
    ) -> None:
        """Refuse what is neither heading, letter nor line end; `start` is that of the block's
        first line, which may lie in an earlier block."""
        foreign = np.flatnonzero(_IS_FOREIGN[block]) + low
        returns = np.flatnonzero(block == _RETURN) + low
        if len(returns):
            # the end of the file counts as a line end; a lone return does not
            following = self.text[np.minimum(returns + 1, len(self.text) - 1)]
            lone = (following != _NEWLINE) & (returns + 1 < len(self.text))
            foreign = np.sort(np.concatenate([foreign, returns[lone]]))
        if not len(foreign):
            return
        # the line of each: starts are those of whole lines, the last line may go on
        opening = np.append(starts, ends[-1] + 1 if len(ends) else start)
        opening = opening[opening < len(self.text)]
        which = np.searchsorted(opening, foreign, side="right") - 1
        in_heading = self.text[opening[which]] == _HEADING
        foreign, which = foreign[~in_heading], which[~in_heading]
        if not len(foreign):
            return
        i, line = int(foreign[0]), self.line + int(which[0]) + 1
        letter = chr(self.text[i])
        if letter == "\r":
            raise self._refused(
                line, "lines end in a carriage return alone; convert the file, e.g. with `mac2unix`"
            )
        if self.name is None and not (self.text[opening] == _HEADING).any():
            raise self._refused(line, "a line before the first '>name'; needed is a FASTA")
        count = int((self.text[foreign] == self.text[i]).sum())
        hint = _HINTS.get(letter.upper(), "no base")
        raise self._refused(
            line,
            f"{letter!r} (byte {i}, the first of {count:,} near it) is {hint}. Needed are the "
            "letters A, C, G, T, N and IUPAC's other codes of DNA",
        )

    def _uneven(self, line: int) -> InputError:
        return self._refused(
            line,
            f"sequence {shown(self.name)} has lines of {self.line_bases} letters, but not here; "
            "needed are sequence lines of one length, the last may be shorter: `seqtk seq -l 60` "
            "or `fold` write them so",
        )

    def _refused(self, line: int, what: str) -> InputError:
        return InputError(f"genome {self.path}, line {line}: {what}")


def write_index(path: Path, records: dict[str, Record]) -> None:
    """Keep an index, with its own digest in the first line."""
    body = "".join("\t".join((name, *map(str, record))) + "\n" for name, record in records.items())
    with write_file(path) as temporary:
        temporary.write_text(f"{_digest(body)}\n{body}", newline="\n")


def read_index(path: Path) -> dict[str, Record] | None:
    """An index that was kept; None where there is none, or not as it was written."""
    try:
        digest, _, body = path.read_bytes().decode().partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    if digest != _digest(body):
        return None
    rows = (line.split("\t") for line in body.split("\n") if line)
    return {name: Record(*map(int, numbers)) for name, *numbers in rows}


def _digest(body: str) -> str:
    return hashlib.blake2b(body.encode(), digest_size=16).hexdigest()
