"""Order-0 background of the genome, or of the sequences at hand."""

from __future__ import annotations

import functools
import gzip
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saeborzoi.errors import InputError
from saeborzoi.files import state

_CHUNK = 1 << 22


def letter_shares(sequences: Iterable[str], both_strands: bool) -> NDArray[np.float64]:
    """Frequencies of A C G T in some sequences: (4,) float64; equal where there is none.

    Other letters do not count; with `both_strands` the other strand counts, too.
    """
    text = "".join(sequences).encode("ascii", "replace")
    counts = np.bincount(np.frombuffer(text, np.uint8), minlength=256)
    letters = np.array([counts[ord(c)] + counts[ord(c.lower())] for c in "ACGT"], float)
    if both_strands:
        letters = letters + letters[::-1]
    total = letters.sum()
    return letters / total if total else np.full(4, 0.25)


def genome_frequencies(path: Path | str) -> NDArray[np.float64]:
    """Frequencies of A C G T over both strands of a FASTA, plain or gzipped: (4,) float64.

    Raises
    ------
    InputError
        Where it cannot be read or holds no base.
    """
    path = Path(path)
    return np.array(_frequencies(path, state(path)))


@functools.lru_cache(maxsize=2)
def _frequencies(path: Path, _state: tuple[int, ...]) -> tuple[float, ...]:
    counts = np.zeros(256, np.int64)
    heading = False
    try:
        with path.open("rb") as raw:
            gzipped = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if gzipped else path.open("rb") as file:  # type: ignore[union-attr]
            while chunk := file.read(_CHUNK):
                # a heading may run over the end of a chunk
                pieces = chunk.split(b">") if b">" in chunk else [chunk]
                for k, piece in enumerate(pieces):
                    if k > 0 or heading:
                        _, newline, piece = piece.partition(b"\n")
                        heading = not newline
                    counts += np.bincount(np.frombuffer(piece, np.uint8), minlength=256)
    except (OSError, EOFError) as error:
        raise InputError(f"genome {path}: cannot be read ({error}); fix [data] genome") from None
    letters = np.array([counts[ord(c)] + counts[ord(c.lower())] for c in "ACGT"], float)
    if letters.sum() == 0:
        raise InputError(f"genome {path}: holds no A, C, G or T; fix [data] genome")
    letters = letters + letters[::-1]
    return tuple((letters / letters.sum()).tolist())
