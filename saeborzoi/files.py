"""Files and folders written whole or not at all.

How a file is written belongs here; where it lies is the store's business.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saeborzoi.errors import StoreError


@contextlib.contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """A temporary sibling of `path` to fill; takes its place when the block ends without error.

    An earlier artifact at `path` stays until then.

    Raises
    ------
    StoreError
        Where the folder cannot be written or the disk is full.
    """
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        with _explained(path):
            yield temporary
            temporary.chmod(0o755)
            for file in temporary.rglob("*"):
                if file.is_file():
                    _fsync(file)
            _swap(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def write_file(path: Path) -> Iterator[Path]:
    """A temporary sibling of `path` to write; renamed to it when the block ends without error.

    Raises
    ------
    StoreError
        Where the file cannot be written or the disk is full.
    """
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(
            prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent
        )
        os.close(descriptor)
    temporary = Path(name)
    try:
        with _explained(path):
            yield temporary
            temporary.chmod(0o644)
            _fsync(temporary)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document whole."""
    with write_file(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, default=str) + "\n")


def _fsync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _swap(temporary: Path, path: Path) -> None:
    """Put `temporary` at `path`; folders cannot replace each other in one system call."""
    old = path.with_name(f".{path.name}.old-{os.getpid()}")
    if path.exists():
        os.rename(path, old)
    try:
        os.rename(temporary, path)
    except OSError:
        if old.exists():
            os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StoreError(
                f"{path}: the disk is full; free room there or set another [project] store. "
                "What was there before is untouched"
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR):
            raise StoreError(
                f"{path}: cannot be written ({error.strerror}); mend the folder's rights or set "
                "another [project] store"
            ) from error
        raise
