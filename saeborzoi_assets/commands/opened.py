"""Opening a project's Dagster instance, and what to do where its files are damaged."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from saeborzoi.errors import StoreError
from saeborzoi_resources.event_log import BatchedSqliteEventLogStorage

_DAMAGE = ("malformed", "not a database", "no such table", "disk I/O error")
_COSTS = {
    "history": "Dagster forgets past runs, which partitions show as made and which SAEs have one; "
    "results, catalogue and `saeborzoi trace` keep theirs, and the automation adds the SAEs again",
    "schedules": "sensors forget where they were and whether they were switched off",
    "dagster.yaml": "it is written anew with the defaults; what was set in it is lost",
}
"""What may be moved away, and what that costs."""


@contextlib.contextmanager
def opened_instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """The instance of a folder.

    Raises
    ------
    StoreError
        Where its files are damaged: which may be moved away, and what that costs; where its
        database does not answer.
    """
    import sqlalchemy.exc

    try:
        with dg.DagsterInstance.from_config(str(home)) as instance:
            yield instance
        _share(home)
    except sqlalchemy.exc.DatabaseError as error:
        if type(error.orig).__module__.startswith("psycopg2"):
            raise _unreachable(home, error) from error
        if not any(word in str(error) for word in _DAMAGE):
            raise
        raise _damaged(home, error) from error
    except dg.DagsterInvalidConfigError as error:
        raise _damaged(home, error) from error
    except Exception as error:
        # of Dagster's YAML reader and its PostgreSQL storage, which need not be installed
        origin = type(error).__module__.partition(".")[0]
        if origin == "dagster_postgres":
            raise _unreachable(home, error.__cause__ or error) from error
        if origin != "yaml":
            raise
        raise _damaged(home, error) from error


def kept_open(instance: dg.DagsterInstance) -> contextlib.AbstractContextManager[None]:
    """`BatchedSqliteEventLogStorage.kept_open` of an instance with such an event log."""
    log = instance.event_log_storage
    if isinstance(log, BatchedSqliteEventLogStorage):
        return log.kept_open()
    return contextlib.nullcontext()


def _share(home: Path) -> None:
    """Whoever may write a folder of the history may write its files, too: SQLite makes them 0644
    whatever the umask says."""
    for path in home.rglob("*.db*"):
        with contextlib.suppress(FileNotFoundError):
            status, of_folder = path.stat(), path.parent.stat().st_mode & 0o066
            if status.st_uid == os.getuid() and of_folder & ~status.st_mode:
                path.chmod(status.st_mode | of_folder)


def _unreachable(home: Path, error: BaseException) -> StoreError:
    reason = str(error).splitlines()[0]
    return StoreError(
        f"{home}: the database of Dagster's history does not answer ({reason}); the store is not "
        f"touched. Fix: start the database, or correct its address in {home / 'dagster.yaml'} or "
        "in the variable that is named there"
    )


def _damaged(home: Path, error: Exception) -> StoreError:
    reason = str(error).splitlines()[0]
    costs = "; ".join(f"{name}: {cost}" for name, cost in _COSTS.items())
    return StoreError(
        f"{home}: Dagster's own files are damaged ({reason}). The store is not touched. Fix: move "
        f"away what is damaged, which costs: {costs}"
    )
