"""How a file that a user brings is opened: what it really is, whether it is text, and how large
it may grow. What stands in it belongs to the reader of its format."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import psutil

from saeborzoi.errors import InputError

_GZIP_MAGIC = b"\x1f\x8b"
_BIGBED_MAGIC = (b"\xeb\xf2\x89\x87", b"\x87\x89\xf2\xeb")  # of either byte order
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MAX_TEXT_BYTES = 1 << 28
"""Of a file that is read as a whole: 256 MiB, far beyond any motif database."""
_LARGEST_FLOAT32 = (2 - 2**-23) * 2.0**127
_MAX_EXPANSION = 500
_ALWAYS_BYTES = 1 << 26
"""A gzip may grow to so many times its size, and to so many bytes in any case: sequence and
tables grow four- to fiftyfold, a file made to fill the memory a thousandfold."""

_KINDS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer: `git lfs pull` brings the file itself"),
    (b"\x1f\x8b", "gzip: decompress it with `gunzip`"),
    (b"PK\x03\x04", "a zip archive: unpack it"),
    (b"BZh", "bzip2: decompress it with `bunzip2`"),
    (b"\xfd7zXZ\x00", "xz: decompress it with `unxz`"),
    (b"\x28\xb5\x2f\xfd", "zstd: decompress it with `unzstd`"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"\x26\xfc\x8f\x88", "a bigWig, which holds a signal"),
    (b"\x88\x8f\xfc\x26", "a bigWig, which holds a signal"),
    (b"\x89PNG", "a PNG image"),
    (b"%PDF", "a PDF document"),
    (b"\x1aA'C", "UCSC's 2bit: convert it with `twoBitToFa`"),
    (b"C'A\x1a", "UCSC's 2bit: convert it with `twoBitToFa`"),
    (b"\xff\xfe", "text in UTF-16: save it as UTF-8"),
    (b"\xfe\xff", "text in UTF-16: save it as UTF-8"),
    (b"<!doctype html", "a web page: the download brought an error page"),
    (b"<html", "a web page: the download brought an error page"),
    (b"<?xml", "an XML document"),
)
HEAD_BYTES = 32
"""Bytes of a file that `kind_of` wants."""


def kind_of(head: bytes) -> str | None:
    """What a file is and what to do with it, None where it is nothing that is known here.

    >>> kind_of(b"version https://git-lfs.github.com/spec/v1")
    'a Git LFS pointer: `git lfs pull` brings the file itself'
    """
    if not head:
        return "empty: bring it whole"
    start = head.lstrip().lower() if head.lstrip()[:1] == b"<" else head
    for magic, kind in _KINDS:
        if start.startswith(magic):
            return kind
    return None


def is_gzipped(path: Path) -> bool:
    """Whether a file is gzipped, whatever its name."""
    with path.open("rb") as file:
        return file.read(2) == _GZIP_MAGIC


class _Bounded(io.RawIOBase):
    """The content of a gzip, which refuses to grow without bounds."""

    def __init__(self, path: Path, most: int | None) -> None:
        self._most = most
        self._gzip = gzip.GzipFile(path)
        self._path = path
        self._size = path.stat().st_size
        self._given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._gzip.read(len(buffer))
        buffer[: len(piece)] = piece
        self._given += len(piece)
        if self._given > max(_ALWAYS_BYTES, self._size * _MAX_EXPANSION):
            raise InputError(
                f"{self._path}: {self._size:,} bytes of gzip grow to more than "
                f"{self._given - len(piece):,}, as no file of this kind does; bring it decompressed"
            )
        _require_memory(self._path, self._given, self._most)
        return len(piece)

    def close(self) -> None:
        self._gzip.close()
        super().close()


def _require_memory(path: Path, n_bytes: int, most: int | None) -> None:
    if most is not None and n_bytes > most:
        raise InputError(
            f"{path}: {n_bytes / 2**30:,.1f} GiB of text or more; the memory that is free holds "
            f"{most / 2**30:,.1f} GiB as a table: keep the rows that are needed, or use a larger "
            "machine"
        )


@contextlib.contextmanager
def opened(path: Path, memory_a_byte: int = 0) -> Iterator[IO[bytes]]:
    """A file to read in pieces, decompressed where it is gzipped.

    Parameters
    ----------
    path
        The file.
    memory_a_byte
        Bytes of memory that its reader takes for each byte of content; 0 where it keeps little.

    Raises
    ------
    InputError
        Where it cannot be read, is a damaged or truncated gzip, one that grows beyond measure, or
        larger than the memory that is free.
    """
    try:
        most = psutil.virtual_memory().available // memory_a_byte if memory_a_byte else None
        raw: io.RawIOBase
        if is_gzipped(path):
            raw = _Bounded(path, most)
        else:
            _require_memory(path, path.stat().st_size, most)
            raw = io.FileIO(path)
        with io.BufferedReader(raw, 1 << 20) as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{path}: the gzip is truncated or damaged ({error}); bring it whole (`gzip -t` tests "
            "it)"
        ) from None
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); fix the path or its rights"
        ) from None


def is_bigbed(path: Path) -> bool:
    """Whether a file is a bigBed, whatever its name; raises `InputError` as `opened`."""
    with opened(path) as file:
        return file.read(4) in _BIGBED_MAGIC


def read_text(path: Path, most_bytes: int = MAX_TEXT_BYTES, fallback: str | None = None) -> str:
    """The text of a small file in UTF-8, decompressed; a byte order mark is left out.

    Parameters
    ----------
    path
        The file.
    most_bytes
        Of the text; what is larger is no file of the kind.
    fallback
        Encoding of what is not UTF-8, where that is usual; left out: refused.

    Raises
    ------
    InputError
        Where the file cannot be read, is larger than `most_bytes`, or is no text in UTF-8; names
        the line.
    """
    pieces, n_bytes = [], 0
    with opened(path) as file:
        while piece := file.read(1 << 20):
            pieces.append(piece)
            n_bytes += len(piece)
            if n_bytes > most_bytes:
                raise InputError(
                    f"{path}: more than {most_bytes:,} bytes of text, as no file of this kind has; "
                    "bring the right file"
                )
    return decoded(path, b"".join(pieces), fallback)


def decoded(path: Path, data: bytes, fallback: str | None = None) -> str:
    """Text of bytes in UTF-8, without the byte order mark; raises as `read_text`."""
    data = data.removeprefix(_BYTE_ORDER_MARK)
    kind = kind_of(data[:HEAD_BYTES]) if data else None
    if kind is not None:
        raise InputError(f"{path}: not the text that is needed, but {kind}")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if fallback is not None:
            return decoded(path, data.decode(fallback).encode())
        line = data[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8 (as of Latin-1 or "
            "Windows-1252); save the file as UTF-8"
        ) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError(
            f"{path}, line {line}: a zero byte, as of UTF-16 or a damaged copy; save the file as "
            "UTF-8, or bring it again"
        )
    return text


def read_json(path: Path, most_bytes: int = MAX_TEXT_BYTES) -> Any:
    """A JSON document; each key of an object stands once, and numbers are finite.

    Raises
    ------
    InputError
        As `read_text`, and where the text is no such document; names line and column.
    """
    text = read_text(path, most_bytes)
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError:
        raise InputError(
            f"{path}: not JSON of use: nested too deeply; bring the file again"
        ) from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}; bring the file again") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice")
    return mapping


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is not a number of JSON")


def shown(value: Any) -> str:
    """A value for a message, shortened where it is long.

    >>> shown("chr1")
    "'chr1'"
    """
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def is_whole(value: Any, at_least: int = 0) -> bool:
    """Whether a value of a document is a whole number of some size; true is none."""
    return isinstance(value, int) and not isinstance(value, bool) and at_least <= value < 2**63


def is_number(value: Any) -> bool:
    """Whether a value of a document is a number that float32 holds; true is none."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= _LARGEST_FLOAT32
    )
