"""Fingerprints of the files that a user brings: cheap, and changed where the file is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

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
    digest = hashlib.blake2b(digest_size=8)
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist; mend its path in dagster_project.toml")
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if not file.is_file():
                continue
            status = file.stat()
            digest.update(f"{file.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
            with file.open("rb") as stream:
                for offset in sorted({0, status.st_size // 2, max(0, status.st_size - _BLOCK)}):
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
