"""Fingerprints of the files that a user brings: the version of a file is its content.

Neither name of the folder nor time of the file enters, so that a copied, moved or touched file is
the same; a change of any byte is seen. Inputs are terabytes, so that each file is read once: its
digest is kept under its inode, size and times, in a folder that all hosts and people of a project
share.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from saeborzoi.errors import InputError, SaeBorzoiError
from saeborzoi.files import write_file

_CHUNK = 8 << 20
_THREADS = 4
"""Files read at once: parallel file systems are slow for one reader and fast for several."""
_SETTLED_NS = 2 * 10**9
"""A file that was written to within this time may be again without its times telling."""
_TELL_BYTES = 1 << 30
_WHOLE = "whole"

SENSOR_S = 20.0
"""Time that a sensor may read for: Dagster gives it a minute."""

Tell = Callable[[str], None]
"""Takes a line of progress."""

_kept_in: Path | None = None
_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


class StillReading(SaeBorzoiError):
    """Inputs that nobody has read before take longer than there is time for; ask again later."""


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Within the block `fingerprint_files` begins no further file after some time and raises
    `StillReading`; what it has read is kept."""
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def fingerprint_files(paths: Iterable[Path], cache: Path | None = None, tell: Tell = print) -> str:
    """Digest of the content of files, in their order.

    Parameters
    ----------
    paths
        Files, or folders: their files count with their names below the folder, but for those whose
        name begins with a dot.
    cache
        Folder that keeps digests; None keeps them in this process only.
    tell
        Gets a line now and then where gigabytes have to be read.

    Returns
    -------
    str
        ``x`` and 32 hexadecimal digits.

    Raises
    ------
    InputError
        Where a file is missing or cannot be read.
    StillReading
        Inside of `within`, where its time is over.
    """
    named = [pair for path in paths for pair in _files_of(path)]
    digests = digests_of([file for _, file in named], cache, tell)
    whole = xxhash.xxh3_128()
    for (name, _), digest in zip(named, digests, strict=True):
        whole.update(f"{name}\0{digest}\0".encode())
    return f"x{whole.hexdigest()}"


def keep_in(folder: Path) -> None:
    """Keep digests in a folder where none is named: a worker knows its job's store."""
    global _kept_in
    _kept_in = folder


def _files_of(path: Path) -> Iterator[tuple[str, Path]]:
    """Files of a path by their names below it."""
    if not path.exists():
        raise InputError(f"{path} does not exist; fix its path in dagster_project.toml")
    if not path.is_dir():
        yield "", path
        return
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path)
        if file.is_file() and not any(part.startswith(".") for part in name.parts):
            yield name.as_posix(), file


def digests_of(files: Sequence[Path], cache: Path | None = None, tell: Tell = print) -> list[str]:
    """XXH3-128 of the content of each file, 32 hexadecimal digits; read only where not kept."""
    cache = cache or _kept_in
    states = [_state(file) for file in files]
    known = [_known(state, cache) for state in states]
    unread = [i for i, digest in enumerate(known) if digest is None]
    if not unread:
        return [digest for digest in known if digest is not None]
    n_bytes = sum(states[i].size for i in unread)
    reading = _Reading(len(unread), n_bytes, tell)
    deadline = _deadline.get()  # of this thread, not of those that read

    def read(i: int) -> str:
        if deadline is not None and reading.n_files > 0 and time.monotonic() > deadline:
            raise StillReading(reading.so_far())
        digest = digest_of(files[i])
        after = _state(files[i])
        if after == states[i] and _is_settled(after):
            _keep(after, digest, cache)
        reading.done(states[i].size)
        return digest

    with ThreadPoolExecutor(min(_THREADS, len(unread))) as pool:
        for i, digest in zip(unread, pool.map(read, unread), strict=True):
            known[i] = digest
    return [digest for digest in known if digest is not None]


class _Reading:
    """How far the reading is, told every few gigabytes."""

    def __init__(self, total_files: int, total_bytes: int, tell: Tell) -> None:
        self.n_files = 0
        self._n_bytes = self._told = 0
        self._total = (total_files, total_bytes)
        self._tell = tell
        self._start = time.monotonic()

    def done(self, n_bytes: int) -> None:
        """A file was read."""
        self.n_files += 1
        self._n_bytes += n_bytes
        is_end = self.n_files == self._total[0]
        if self._n_bytes - self._told >= _TELL_BYTES or (is_end and self._told):
            self._told = self._n_bytes
            self._tell(self.so_far())

    def so_far(self) -> str:
        """Files and gigabytes of how many, and how fast."""
        files, n_bytes = self._total
        rate = self._n_bytes / max(time.monotonic() - self._start, 1e-3)
        return (
            f"reading inputs for their versions, once: {self.n_files} of {files} files, "
            f"{self._n_bytes / 1e9:.1f} of {n_bytes / 1e9:.1f} GB at {rate / 1e6:.0f} MB/s"
        )


class _State(NamedTuple):
    """What tells that a file is as it was. The device is left out: its number differs between the
    hosts that share a file system."""

    inode: int
    size: int
    modified_ns: int
    # Writing to a file changes this time even where a tool restored size and modification time.
    changed_ns: int

    @property
    def name(self) -> str:
        """File name of the kept digest."""
        return xxhash.xxh3_128_hexdigest(repr(tuple(self)).encode())


def _state(file: Path) -> _State:
    try:
        status = file.stat()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); fix its rights") from None
    return _State(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def changed(files: Mapping[Path, str], cache: Path | None = None) -> list[Path]:
    """Those of some files whose content has not the digest that it should have.

    Parameters
    ----------
    files
        Files and their digests as `digest_of` gives them.
    cache
        Folder that keeps what was found whole: where it says that the same files, with the sizes
        and times that they have now, had these digests, nothing is read. None reads every byte.

    Raises
    ------
    InputError
        Where a file is missing or cannot be read.
    """
    states = [_state(file) for file in files]
    name = fingerprint_of(
        [[*state, digest] for state, digest in zip(states, files.values(), strict=True)]
    )
    if cache is not None and _read_kept(cache, name) == _WHOLE:
        return []
    with ThreadPoolExecutor(_THREADS) as pool:
        digests = list(pool.map(digest_of, files))
    other = [
        file for (file, digest), now in zip(files.items(), digests, strict=True) if now != digest
    ]
    is_as_before = [_state(file) for file in files] == states
    if cache is not None and not other and is_as_before and all(map(_is_settled, states)):
        _write_kept(cache, name, _WHOLE)
    return other


def digest_of(file: Path) -> str:
    """XXH3-128 of a file's content, read now; 32 hexadecimal digits."""
    digest = xxhash.xxh3_128()
    buffer = memoryview(bytearray(_CHUNK))
    try:
        with file.open("rb", buffering=0) as stream:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            while n := stream.readinto(buffer):
                digest.update(buffer[:n])
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); fix its rights") from None
    return digest.hexdigest()


_memory: dict[_State, str] = {}


def _is_settled(state: _State) -> bool:
    """Whether a change from now on would show in the file's times."""
    return time.time_ns() - max(state.modified_ns, state.changed_ns) > _SETTLED_NS


def _known(state: _State, cache: Path | None) -> str | None:
    digest = _memory.get(state)
    if digest is None and cache is not None:
        digest = _read_kept(cache, state.name)
        if digest is not None:
            _memory[state] = digest
    return digest


def _keep(state: _State, digest: str, cache: Path | None) -> None:
    _memory[state] = digest
    if cache is not None:
        _write_kept(cache, state.name, digest)


def _read_kept(cache: Path, name: str) -> str | None:
    """What is kept under a name; None where there is nothing, or it is damaged."""
    try:
        value, _, check = (cache / name).read_text().partition(" ")
    except (OSError, ValueError):
        return None
    return value if check == _check(name, value) else None


def _write_kept(cache: Path, name: str, value: str) -> None:
    # where it cannot be kept, files are read again
    with contextlib.suppress(SaeBorzoiError, OSError), write_file(cache / name) as file:
        file.write_text(f"{value} {_check(name, value)}")


def _check(name: str, value: str) -> str:
    """A damaged entry is read again instead of taken for another version."""
    return xxhash.xxh64_hexdigest(f"{name} {value}".encode())


def fingerprint_of(document: Any) -> str:
    """Digest of a JSON-able document, independent of key order; 16 hexadecimal digits.

    >>> fingerprint_of({"a": 1, "b": 2}) == fingerprint_of({"b": 2, "a": 1})
    True
    """
    text = json.dumps(document, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
