"""How a job ended, in words: what it was, why, and what to change."""

from __future__ import annotations

from typing import Any, NamedTuple

from saeborzoi import errors
from saeborzoi.errors import SaeBorzoiError
from saeborzoi.worker import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_REFUSED

_OWN_ERRORS = {
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, SaeBorzoiError)
}


class End(NamedTuple):
    """An end without a result.

    Attributes
    ----------
    state
        One word: SLURM's state, or what is like it of a process.
    reason
        Why, as far as it is known.
    remedy
        What to change; a sentence.
    is_retriable
        Whether the same job may end well if it is run again as it is.
    """

    state: str
    reason: str
    remedy: str
    is_retriable: bool = False


def end_of_error(error: dict[str, Any], memory_setting: str) -> End:
    """The end that the worker itself wrote down: an exception.

    Parameters
    ----------
    error
        `type` and `message` of the exception.
    memory_setting
        What to raise where memory ran out.
    """
    kind, message = error["type"], error["message"].rstrip(".")
    if kind in _OWN_ERRORS:
        return End("REFUSED", message, "Fix that and run again.")
    if kind in ("MemoryError", "ArrayMemoryError", "_ArrayMemoryError"):
        return End("OUT_OF_MEMORY", f"{kind}: {message}", f"Raise {memory_setting}.")
    if kind == "OutOfMemoryError":
        return End(
            "OUT_OF_MEMORY",
            f"the GPU's memory is full: {message}",
            "Lower [training] batch_size, or ask for a larger GPU.",
        )
    if kind == "OSError" and "[Errno 28]" in message:
        return End("DISK_FULL", message, "Free room in the store, or on the node's /tmp.")
    return End("FAILED", f"{kind}: {message}", "The traceback is at the end of the log.")


def end_of_exit_code(code: int | None, memory_setting: str) -> End:
    """The end of a worker that left no result, by its exit code; negative for a signal."""
    if code is not None and code > 128:
        code = 128 - code
    if code is None:
        return End(
            "VANISHED",
            "the worker is gone and left neither a result nor an exit code",
            "The machine may have been restarted; run again, it goes on from its last state.",
            is_retriable=True,
        )
    if code == -9:
        return End(
            "KILLED",
            "the worker was killed (signal 9), mostly because memory ran out",
            f"Look at the machine's memory and raise {memory_setting}, or give it less work.",
        )
    if code < 0:
        return End("KILLED", f"the worker was killed by signal {-code}", "Look at the log.")
    if code == EXIT_INTERRUPTED:
        return End(
            "INTERRUPTED",
            "somebody asked the worker to stop; it saved its state",
            "Run again: it goes on from there.",
            is_retriable=True,
        )
    if code in (126, 127):
        return End(
            "FAILED",
            f"exit code {code}: the worker's program was not found or cannot be run",
            "Fix `python`, `activate` and `modules` of the profile; `saeborzoi check --compute` "
            "tries them.",
        )
    if code == 0:
        return End(
            "NO_RESULT",
            "the worker ended with exit code 0 and wrote no result",
            "Its folder must be on a filesystem that this machine shares with it; is the disk or "
            "the quota full?",
        )
    if code in (EXIT_ERROR, EXIT_REFUSED):
        return End(
            "FAILED",
            f"exit code {code} before the stage began",
            "The log says why; is saeborzoi's extra `worker` installed where it ran?",
        )
    return End("FAILED", f"exit code {code}", "Look at the end of the log.")
