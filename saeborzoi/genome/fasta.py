"""The reference: a FASTA with quick access to many short intervals. No coordinate is converted
here; which intervals are asked for is decided in `coordinates.py`."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import weakref
from pathlib import Path
from types import TracebackType

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from saeborzoi.errors import InputError
from saeborzoi.files import write_file
from saeborzoi.genome.fasta_index import read_index, scan_fasta, write_index
from saeborzoi.reading import is_gzipped, opened

_BGZF_MARK = b"BC\x02\x00"
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_COPIED_BYTES = 1 << 22
_FETCH_ROWS = 1 << 16
_FEW = 64
_UPPER = np.frombuffer(bytes(range(256)).upper(), np.uint8)


_COMPLEMENT = np.arange(256, dtype=np.uint8)
_COMPLEMENT[np.frombuffer(b"ACGT", np.uint8)] = np.frombuffer(b"TGCA", np.uint8)


def reverse_complement(letters: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The other strand of (..., n) upper-case letters; what is none of A, C, G, T stays.

    >>> reverse_complement(np.frombuffer(b"AACGN", np.uint8)).tobytes()
    b'NCGTT'
    """
    return _COMPLEMENT[letters][..., ::-1]


class Genome:
    """A FASTA with quick access to many short intervals. Soft-masking is ignored.

    Bases are read through a memory map with an index, so memory stays small. The index is made
    in one look through the whole file (seconds for a human genome), kept in the cache and used
    until the file changes; a `.fai` beside the file is not used, as it may be another file's.

    Parameters
    ----------
    path
        FASTA, plain, gzipped or bgzipped.
    cache
        Folder for the index and, of a compressed FASTA, the decompressed copy, so that they are
        made once. Left out: a temporary folder that goes with the object. Nothing is ever
        written beside the FASTA.

    Attributes
    ----------
    chrom_sizes
        Length of every chromosome in bp, in the order of the file.

    Raises
    ------
    InputError
        Where the file is missing, truncated, no FASTA (see `scan_fasta`) or empty.
    StoreError
        Where the cache cannot be written.
    """

    def __init__(self, path: Path | str, cache: Path | str | None = None) -> None:
        self.path = path = Path(path)
        try:
            stat = path.stat()
            compressed = is_gzipped(path)
        except OSError as error:
            raise InputError(
                f"genome {path}: cannot be read ({error.strerror}); fix [data] genome"
            ) from None
        if cache is None:
            temporary = tempfile.TemporaryDirectory(prefix="saeborzoi-genome-")
            self._cleanup = weakref.finalize(self, temporary.cleanup)
            cache = temporary.name
        cache = Path(cache)
        # size and times in the name: a FASTA that changes gets a new copy and a new index
        identity = "\0".join(
            map(str, (path.resolve(), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
        ).encode()
        stem = f"{path.name.split('.')[0]}-{hashlib.blake2b(identity, digest_size=8).hexdigest()}"
        fasta = cache / f"{stem}.fa" if compressed else path
        if compressed and not fasta.is_file():
            _decompress(path, fasta)
        if fasta.stat().st_size == 0:
            raise InputError(f"genome {path}: empty; needed is a FASTA")
        self._bytes: NDArray[np.uint8] = np.memmap(fasta, np.uint8, mode="r").view(np.ndarray)
        cached = cache / f"{stem}.index"
        index = read_index(cached)
        if index is None:
            index = scan_fasta(path, self._bytes)
            write_index(cached, index)
        self._index = index
        self.chrom_sizes: dict[str, int] = {
            name: record.length for name, record in self._index.items()
        }

    def __enter__(self) -> Genome:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file and remove the temporary folder, if there is one."""
        self._bytes = np.empty(0, np.uint8)
        if hasattr(self, "_cleanup"):
            self._cleanup()

    def inside(self, chrom: ArrayLike, start_bp: ArrayLike, end_bp: ArrayLike) -> NDArray[np.bool_]:
        """Whether each interval lies inside its chromosome: (n,) bool."""
        names = np.asarray(chrom, object)
        if len(names) < _FEW:  # pandas costs more than it saves
            size = np.array([self.chrom_sizes.get(name, np.nan) for name in names], float)
        else:
            code, distinct = pd.factorize(names)
            sizes = [self.chrom_sizes.get(name, np.nan) for name in distinct]
            size = np.array([*sizes, np.nan])[code]  # a missing name has code -1
        return (np.asarray(start_bp) >= 0) & (np.asarray(end_bp) <= size)

    def fetch(self, chrom: ArrayLike, start_bp: ArrayLike, end_bp: ArrayLike) -> list[str]:
        """Upper-case sequences of the forward strand.

        Parameters
        ----------
        chrom, start_bp, end_bp
            (n,) the intervals, of any widths.

        Raises
        ------
        InputError
            Where a chromosome is missing or an interval lies outside of it.
        """
        start, end = np.asarray(start_bp, np.int64), np.asarray(end_bp, np.int64)
        names = np.asarray(chrom, object)
        result = np.empty(len(start), object)
        for width in np.unique(end - start):
            chosen = np.flatnonzero(end - start == width)
            if width <= 0:
                i = chosen[0]
                raise InputError(f"{names[i]}:{start[i]}-{end[i]} is not an interval: it is empty")
            letters = self.fetch_bytes(names[chosen], start[chosen], int(width))
            result[chosen] = letters.view(f"S{width}")[:, 0].astype(str)
        return list(result)

    def fetch_bytes(
        self, chrom: ArrayLike, start_bp: ArrayLike, width_bp: int
    ) -> NDArray[np.uint8]:
        """Upper-case letters of intervals of one width, as ASCII: (n, width_bp) uint8.

        Raises
        ------
        InputError
            Where a chromosome is missing or an interval lies outside of it.
        """
        start = np.asarray(start_bp, np.int64)
        code, names = pd.factorize(np.asarray(chrom, object))
        outside = ~self.inside(chrom, start, start + width_bp)
        if outside.any():
            i = int(outside.argmax())
            size = self.chrom_sizes.get(names[code[i]])
            extent = "is not in the FASTA" if size is None else f"has {size} bp"
            raise InputError(
                f"genome {self.path}: {names[code[i]]}:{start[i]}-{start[i] + width_bp} was "
                f"asked for, but {names[code[i]]} {extent}; use the FASTA of the same assembly"
            )
        letters = np.empty((len(start), width_bp), np.uint8)
        step = np.arange(width_bp)
        for k, name in enumerate(names):
            record = self._index[name]
            chosen = np.flatnonzero(code == k)
            for block in np.split(chosen, range(_FETCH_ROWS, len(chosen), _FETCH_ROWS)):
                base = start[block, None] + step
                ends = record.line_bytes - record.line_bases
                base += record.offset + base // record.line_bases * ends
                letters[block] = _UPPER[self._bytes[base]]
        return letters

    def padded(self, chrom: ArrayLike, start_bp: ArrayLike, n_bp: int) -> NDArray[np.uint8]:
        """As `fetch_bytes`, N before a chromosome's start and beyond its end."""
        names, start = np.asarray(chrom, object), np.asarray(start_bp, np.int64)
        is_inside = self.inside(names, start, start + n_bp)
        if is_inside.all():
            return self.fetch_bytes(names, start, n_bp)
        letters = np.full((len(start), n_bp), ord("N"), np.uint8)
        letters[is_inside] = self.fetch_bytes(names[is_inside], start[is_inside], n_bp)
        beyond = np.flatnonzero(~is_inside)
        code, _ = pd.factorize(pd.MultiIndex.from_arrays([names[beyond], start[beyond]]))
        first_of = beyond[np.unique(code, return_index=True)[1]]
        for i in first_of:
            size = self.chrom_sizes.get(names[i])
            if size is None:
                self.fetch_bytes(names[i : i + 1], [0], 1)  # refuses it in words
                raise AssertionError
            first = int(start[i])
            low, high = (min(max(at, 0), size) for at in (first, first + n_bp))
            if low < high:
                stretch = self.fetch_bytes(names[i : i + 1], [low], high - low)[0]
                letters[i, low - first : high - first] = stretch
        letters[beyond] = letters[first_of[code]]
        return letters


def _decompress(path: Path, target: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        is_bgzf = file.read(16)[12:] == _BGZF_MARK
        file.seek(max(0, size - len(_BGZF_END)))
        if is_bgzf and file.read() != _BGZF_END:
            raise InputError(
                f"genome {path}: the bgzip is truncated: its end mark is missing; bring it whole "
                f"(`bgzip -t {path.name}` tests it)"
            )
    with (
        opened(path) as file,
        write_file(target) as temporary,
        temporary.open("wb") as out,
    ):
        shutil.copyfileobj(file, out, _COPIED_BYTES)
