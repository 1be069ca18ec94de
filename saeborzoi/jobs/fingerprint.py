"""Fingerprints of the files that a user brings: cheap, and changed where the file is."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from saeborzoi.errors import InputError

_BLOCK = 65536


def fingerprint_files(paths: Iterable[Path]) -> str:
    """Digest of sizes, modification times and sampled content (start, middle, end) of files.

    Parameters
    ----------
    paths
        Files, or folders whose files count.

    Returns
    -------
    str
        16 hexadecimal digits. Reads at most 192 KiB a file.

    Raises
    ------
    InputError
        Where a file is missing.
    """
    seen = []
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist; mend its path in dagster_project.toml")
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file():
                status = file.stat()
                # a file that was written to has another change time, whatever else was kept
                changed = (status.st_ctime_ns, status.st_ino)
                seen.append(_Seen(file, status.st_size, status.st_mtime_ns, changed))
    return _digest(tuple(seen))


class _Seen(NamedTuple):
    """A file as it is now."""

    path: Path
    size: int
    modified_ns: int
    changed: tuple[int, int]


@functools.lru_cache(maxsize=256)
def _digest(files: tuple[_Seen, ...]) -> str:
    """Kept, as sensors ask for the same files every minute, once for each asset made from them."""
    digest = hashlib.blake2b(digest_size=8)
    for file in files:
        digest.update(f"{file.path.name}\0{file.size}\0{file.modified_ns}\0".encode())
        with file.path.open("rb") as stream:
            for offset in sorted({0, file.size // 2, max(0, file.size - _BLOCK)}):
                stream.seek(offset)
                digest.update(stream.read(_BLOCK))
    return digest.hexdigest()


def fingerprint_of(document: Any) -> str:
    """Digest of a JSON-able document, independent of key order; 16 hexadecimal digits.

    >>> fingerprint_of({"a": 1, "b": 2}) == fingerprint_of({"b": 2, "a": 1})
    True
    """
    text = json.dumps(document, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
