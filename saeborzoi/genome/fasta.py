"""The reference: a FASTA with quick access to many short intervals. No coordinate is converted
here; which intervals are asked for is decided in `genome.py`."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tempfile
import weakref
import zlib
from pathlib import Path
from types import TracebackType

import numpy as np
import pandas as pd
import pyfaidx
from numpy.typing import ArrayLike, NDArray

from saeborzoi.errors import InputError, StoreError
from saeborzoi.files import write_file

_GZIP_MAGIC = b"\x1f\x8b"
_FETCH_ROWS = 1 << 16
_UPPER = np.frombuffer(bytes(range(256)).upper(), np.uint8)


def is_gzipped(path: Path) -> bool:
    """Whether a file is gzipped, whatever its name."""
    with path.open("rb") as file:
        return file.read(2) == _GZIP_MAGIC


class Genome:
    """A FASTA with quick access to many short intervals. Soft-masking is ignored.

    Bases are read through a memory map with pyfaidx's index, so opening is quick and memory
    stays small.

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
        Where the file is missing, truncated, no FASTA, empty, or names a sequence twice.
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
                f"genome {path}: cannot be read ({error.strerror}); mend [data] genome"
            ) from None
        if cache is None:
            temporary = tempfile.TemporaryDirectory(prefix="saeborzoi-genome-")
            self._cleanup = weakref.finalize(self, temporary.cleanup)
            cache = temporary.name
        cache = Path(cache)
        # size and time in the name: a FASTA that changes gets a new copy and a new index
        identity = f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}".encode()
        stem = f"{path.name.split('.')[0]}-{hashlib.blake2b(identity, digest_size=8).hexdigest()}"
        fasta = cache / f"{stem}.fa" if compressed else path
        if compressed and not fasta.is_file():
            _decompress(path, fasta)
        self._index = _fasta_index(path, fasta, cache / f"{stem}.fai")
        self._bytes: NDArray[np.uint8] = np.memmap(fasta, np.uint8, mode="r")
        for name, record in self._index.items():
            if record.bend > len(self._bytes):
                raise InputError(
                    f"genome {path}: sequence {name!r} ends beyond the file; the FASTA is "
                    "truncated or its .fai belongs to another; bring it whole, or delete the .fai"
                )
        self.chrom_sizes: dict[str, int] = {
            name: record.rlen for name, record in self._index.items()
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
        size = pd.Series(np.asarray(chrom, object)).map(self.chrom_sizes).to_numpy(float)
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
            seen = "is not in the FASTA" if size is None else f"has {size} bp"
            raise InputError(
                f"genome {self.path}: {names[code[i]]}:{start[i]}-{start[i] + width_bp} was "
                f"asked for, but {names[code[i]]} {seen}; use the FASTA of the same assembly"
            )
        letters = np.empty((len(start), width_bp), np.uint8)
        step = np.arange(width_bp)
        for k, name in enumerate(names):
            record = self._index[name]
            chosen = np.flatnonzero(code == k)
            for block in np.split(chosen, range(_FETCH_ROWS, len(chosen), _FETCH_ROWS)):
                base = start[block, None] + step
                base += record.offset + base // record.lenc * (record.lenb - record.lenc)
                letters[block] = _UPPER[self._bytes[base]]
        return letters


def _decompress(path: Path, target: Path) -> None:
    try:
        with write_file(target) as temporary, temporary.open("wb") as out, gzip.open(path) as file:
            shutil.copyfileobj(file, out, 1 << 22)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"genome {path}: the gzip is truncated or damaged ({error}); bring it whole "
            f"(`gzip -t {path.name}` tests it)"
        ) from None


def _fasta_index(path: Path, fasta: Path, cached_index: Path) -> dict[str, pyfaidx.IndexRecord]:
    """The FASTA's index: the one beside it where that is new enough, else one in the cache."""
    beside = Path(f"{fasta}.fai")
    has_own = beside.is_file() and beside.stat().st_mtime >= fasta.stat().st_mtime
    try:
        if has_own or cached_index.is_file():
            faidx = pyfaidx.Faidx(str(fasta), str(beside if has_own else cached_index))
        else:
            with write_file(cached_index) as temporary:
                temporary.unlink()  # pyfaidx takes an empty file for an index
                faidx = pyfaidx.Faidx(str(fasta), str(temporary))
        index = dict(faidx.index)
        faidx.close()
    except (pyfaidx.FastaIndexingError, pyfaidx.UnsupportedCompressionFormat, ValueError) as error:
        raise InputError(
            f"genome {path}: not a usable FASTA ({str(error).replace(str(fasta), path.name)}); "
            "needed are '>name' lines, each name once, and sequence lines of one length"
        ) from None
    except OSError as error:
        if error.errno is not None:
            raise
        # pyfaidx hides why it could not write
        raise StoreError(
            f"genome {path}: its index cannot be written to {cached_index.parent} ({error}); free "
            "room there or set another [project] store"
        ) from None
    if not any(record.rlen for record in index.values()):
        raise InputError(f"genome {path}: no sequence in it; needed is a FASTA")
    return index
