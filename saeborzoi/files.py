"""Files and folders written whole or not at all, and locks that a group can share.

How a file is written belongs here; where it lies is the store's business. Every mode follows the
umask of whoever writes: what is private stays private, what a group shares stays shared.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import pwd
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from saeborzoi.errors import StoreError

_ATTEMPTS = 5
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NO_EXCHANGE = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM}
"""What a kernel or file system answers that cannot exchange two names; NFS says EINVAL."""


@contextlib.contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """A temporary sibling of `path` to fill; takes its place when the block ends without error.

    An earlier artifact at `path` stays until then. A process that is killed at any point leaves the
    earlier folder or the new one: the two are exchanged in one system call, and where the file
    system cannot do that, `restore` puts the earlier one back at the next read or write.

    Raises
    ------
    StoreError
        Where the folder cannot be written or the disk is full.
    """
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        restore(path)
        temporary = path.with_name(_unique(path.name))
        # not `tempfile`, whose modes are 0700 and 0600 whatever the umask says
        temporary.mkdir()
    try:
        with _explained(path):
            yield temporary
            mode = temporary.stat().st_mode & 0o666
            for folder, _, files in os.walk(temporary):
                for name in files:
                    # safetensors writes 0600 whatever the umask says
                    (Path(folder) / name).chmod(mode)
                    fsync(Path(folder) / name)
                fsync(Path(folder))
            _place(temporary, path)
            fsync(path.parent)
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
        temporary = path.with_name(_unique(path.stem) + path.suffix)
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        with _explained(path):
            yield temporary
            fsync(temporary)
            os.replace(temporary, path)
            fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document whole."""
    with write_file(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, default=str) + "\n")


def restore(path: Path) -> None:
    """Put the earlier folder back that a write was killed over, where `path` itself is missing.

    Only file systems that cannot exchange two folders ever need it.
    """
    if path.exists() or not path.parent.is_dir():
        return
    pattern = re.compile(old_pattern(re.escape(path.name)))
    old = [entry for entry in path.parent.iterdir() if pattern.fullmatch(entry.name)]
    for entry in sorted(old, key=lambda entry: entry.stat().st_ctime, reverse=True):
        # another process may have restored it, or put the new one there, in the meantime
        with contextlib.suppress(OSError):
            os.rename(entry, path)
        return


def old_pattern(name: str) -> str:
    """Regular expression of what a folder is called while a new one takes its place."""
    return rf"\.{name}\.old-[0-9a-f]+"


def lock_file(path: Path) -> filelock.FileLock:
    """A lock at `path`, made with the mode that the umask gives; not yet acquired.

    Raises
    ------
    StoreError
        Where the file belongs to somebody who does not share it.
    """
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # made here: filelock would make it 0644, which the second person of a group cannot lock
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o666))
    except PermissionError as error:
        raise StoreError(
            f"{path}: {_owner(path)} and cannot be locked by {_name(os.getuid())}; fix: let its "
            f"owner run `chmod g+rw {path}` and work with `umask 002`, or use a store of your own"
        ) from error
    except OSError as error:
        raise StoreError(f"{path}: the lock cannot be made ({error.strerror})") from error
    return filelock.FileLock(path)


def state(path: Path) -> tuple[int, ...]:
    """What tells a file that was changed or replaced from what it was; empty where there is none.

    For what one process keeps of a file: a process that lives long must not answer from an old one.
    """
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def fsync(path: Path) -> None:
    """Bring a file's content, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # some network file systems cannot sync a folder, and need not
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _unique(name: str) -> str:
    """A name beside `name` that no other process takes, whatever its process id."""
    return f".{name}.{secrets.token_hex(6)}"


def _place(temporary: Path, path: Path) -> None:
    """Put the folder `temporary` at `path`; what was there is removed."""
    for attempt in range(_ATTEMPTS):
        if exchange(temporary, path):
            return  # the earlier one is called `temporary` now, which the caller removes
        old = path.with_name(f".{path.name}.old-{secrets.token_hex(6)}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, old)
        try:
            os.rename(temporary, path)
        except OSError as error:
            restore(path)
            # a reader has put the earlier folder back between the two renames
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and attempt + 1 < _ATTEMPTS:
                continue
            raise
        fsync(path.parent)
        shutil.rmtree(old, ignore_errors=True)
        return


def exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one system call; False where that cannot be done here."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # macOS, an old C library
        return False
    names = (os.fsencode(first), os.fsencode(second))
    if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number == errno.ENOENT or number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(second))


def _owner(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "its folder belongs to somebody else"
    return f"belongs to {_name(status.st_uid)} (mode {status.st_mode & 0o777:03o})"


def _name(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"{path}: the disk or the quota is full; free room there or set another [project] "
                "store. What was there before is untouched"
            ) from error
        if error.errno == errno.EISDIR:
            raise StoreError(f"{path}: is a folder; name a file to write") from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.EEXIST, errno.ENOTDIR):
            raise StoreError(
                f"{path}: cannot be written ({error.strerror}); fix the folder's rights or set "
                "another [project] store"
            ) from error
        raise
