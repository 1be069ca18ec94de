"""Getting at the catalogue's file: who writes, who waits for whom, and what a damaged file says.

DuckDB lets one process write, or several read. Writers queue on a lock file beside the database;
readers open it read-only and retry for a moment. No SQL is here.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from saeborzoi.errors import CatalogError
from saeborzoi.extras import extra
from saeborzoi.files import lock_file

if TYPE_CHECKING:
    import duckdb

Tell = Callable[[str], None]

WRITER_PATIENCE_S = 300.0
READER_PATIENCE_S = 60.0
TELL_S = 60.0
"""Whoever waits says so this often."""
_RETRY_S = 0.05


class _Wait:
    """Waits for somebody to let go, says so each minute, and gives up after its patience."""

    def __init__(self, path: Path, patience_s: float | None, tell: Tell) -> None:
        self._path = path
        self._start = time.monotonic()
        self._patience_s = patience_s
        self._told = self._start
        self._tell = tell

    def sleep(self, holder: str) -> None:
        """Wait a moment.

        Raises
        ------
        CatalogError
            Where it has waited long enough.
        """
        now = time.monotonic()
        waited = now - self._start
        if self._patience_s is not None and waited > self._patience_s:
            raise CatalogError(
                f"catalogue {self._path} is held by {holder}; waited {waited:.0f} s. Wait for that "
                "process or end it, then run again; nothing was written"
            )
        if now - self._told >= TELL_S:
            self._told = now
            self._tell(
                f"catalogue {self._path} is held by {holder}; waited {waited:.0f} s for it. The "
                "result is finished and kept, and is written as soon as that process lets go"
            )
        time.sleep(_RETRY_S * (1 + random.random()))


@contextlib.contextmanager
def writing(path: Path, what: str, patience_s: float | None, tell: Tell = print) -> Iterator[None]:
    """Hold the catalogue's lock: nobody else writes, or removes what rows stand on.

    Parameters
    ----------
    path
        The DuckDB file.
    what
        What is written, for those that wait.
    patience_s
        Seconds to wait for another writer; None waits as long as it takes.
    tell
        Gets a line each minute of waiting.

    Raises
    ------
    CatalogError
        Where another writer does not let go.
    StoreError
        Where the lock belongs to somebody who does not share it.
    """
    lock = lock_file(Path(f"{path}.lock"))
    holder = Path(f"{path}.holder")
    wait = _Wait(path, patience_s, tell)
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except filelock.Timeout:
            wait.sleep(_read_holder(holder))
    try:
        with contextlib.suppress(OSError):  # it only helps those that wait
            holder.unlink(missing_ok=True)  # a killed process of somebody else left it
            holder.write_text(
                json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "what": what})
            )
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


@contextlib.contextmanager
def connected(
    path: Path, *, read_only: bool, patience_s: float | None, tell: Tell = print
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the catalogue; what shows that the file is damaged becomes an error that
    says how to get it back.

    Raises
    ------
    CatalogError
        Where it stays locked, is damaged, or the disk is full.
    """
    with extra("notebook"):
        import duckdb

    wait = _Wait(path, patience_s, tell)
    while True:
        try:
            connection = duckdb.connect(str(path), read_only=read_only)
            break
        except duckdb.Error as error:
            message = str(error)
            if "set lock on file" not in message and "different configuration" not in message:
                raise _explained(path, error) from error
            wait.sleep(_who(message))
    try:
        yield connection
    except duckdb.Error as error:
        if _is_of_the_file(error):
            raise _explained(path, error) from error
        raise
    finally:
        # an open transaction is rolled back by closing; a damaged file may refuse even that
        with contextlib.suppress(duckdb.Error):
            connection.close()


def _is_of_the_file(error: duckdb.Error) -> bool:
    """Whether an error comes from the file, and not from what was asked."""
    import duckdb

    of_the_file = (
        duckdb.IOException,
        duckdb.InternalException,
        duckdb.FatalException,
        duckdb.SerializationException,
    )
    return type(error) is duckdb.Error or isinstance(error, of_the_file)


def _explained(path: Path, error: duckdb.Error) -> CatalogError:
    message = str(error).splitlines()[0]
    if "No space left" in message or "quota" in message.lower():
        return CatalogError(
            f"{path}: the disk or the quota is full; free room there and run again. The catalogue "
            f"is as it was ({message})"
        )
    if "Permission denied" in message or "Read-only" in message:
        return CatalogError(
            f"{path}: cannot be written by this user ({message}); fix its rights: `chmod g+rw`, "
            "with `umask 002` for all who write"
        )
    return CatalogError(
        f"catalogue {path} is damaged ({message}); make it again from the artifacts of the store "
        "with `saeborzoi catalogue rebuild`, or bring a copy back with `saeborzoi catalogue "
        "restore FILE`"
    )


def _who(message: str) -> str:
    """The process that DuckDB names, e.g. ``/usr/bin/python3.11 (PID 4711)``."""
    named = message.partition("held in ")[2].partition(". ")[0].splitlines()
    return named[0] if named else message.splitlines()[0]


def _read_holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f"process {holder['pid']} on {holder['host']} ({holder['what']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
