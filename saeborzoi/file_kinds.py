"""What a file really is, by its first bytes: for messages about files that are not what their
name says. How each format is read belongs to its reader."""

from __future__ import annotations

_KINDS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer: `git lfs pull` brings the file itself"),
    (b"\x1f\x8b", "gzip: decompress it with `gunzip`"),
    (b"PK\x03\x04", "a zip archive: unpack it"),
    (b"BZh", "bzip2: decompress it with `bunzip2`"),
    (b"\xfd7zXZ\x00", "xz: decompress it with `unxz`"),
    (b"\x28\xb5\x2f\xfd", "zstd: decompress it with `unzstd`"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
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
