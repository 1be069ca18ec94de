"""A job's folder: its files, who may use it, and what its result is worth.

=================  ============================================================================
``job.json``       the job, written before anything starts
``log.txt``        everything that the worker printed, over all attempts
``messages.jsonl`` Pipes messages, over all attempts
``result.json``    written whole by the worker at its end
``taken.json``     which run took the result
``running.json``   process or SLURM job that works on it
=================  ============================================================================

Locks lie in ``.locks`` for jobs of a whole SAE or layer, as jobs of other settings put their result
in the same place, and in the job's folder for batches of nodes, which have places of their own.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dagster import Failure, MetadataValue
from filelock import Timeout

from saeborzoi.files import lock_file, write_file, write_json
from saeborzoi.jobs.job import Job
from saeborzoi.worker import RESULT, fingerprint
from saeborzoi_resources.markdown import verbatim

LOG_TAIL_BYTES = 6_000


class JobFolder:
    """The folder of one job."""

    def __init__(self, jobs_folder: Path, job: Job) -> None:
        self.job = job
        self.path = jobs_folder / job.job_id
        self._locks = [
            self.path / "lock"
            if job.nodes
            else jobs_folder / ".locks" / f"{job.stage}-{single_job.subject}"
            for single_job in job.each()
        ]
        self.fingerprint = fingerprint(job)

    @property
    def document(self) -> Path:
        """The job document."""
        return self.path / "job.json"

    @property
    def log(self) -> Path:
        """The worker's output."""
        return self.path / "log.txt"

    @property
    def messages(self) -> Path:
        """Pipes messages, one JSON document a line."""
        return self.path / "messages.jsonl"

    @contextlib.contextmanager
    def claimed(self, run_id: str) -> Iterator[None]:
        """Hold the folder for a run, so that two runs for one partition do not write over each
        other. The operating system lets go where the process dies.

        Raises
        ------
        dagster.Failure
            Where another run holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as held:
            for lock in self._locks:
                held.enter_context(self._held(lock, run_id))
            yield

    @contextlib.contextmanager
    def _held(self, path: Path, run_id: str) -> Iterator[None]:
        lock = lock_file(path)
        owner = path.with_name(f"{path.name}.json")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            holder = _read_json(owner) or {}
            raise Failure(
                f"job {self.job.job_id}: run {holder.get('run_id', 'unknown')} (process "
                f"{holder.get('pid', '?')} on {holder.get('host', '?')}) works on this partition "
                "already; wait for it, or terminate it and run again",
                metadata={"job": self.job.job_id, "held_by_run": holder.get("run_id", "unknown")},
                allow_retries=False,
            ) from None
        try:
            write_json(owner, {"run_id": run_id, "pid": os.getpid(), "host": os.uname().nodename})
            yield
        finally:
            lock.release()

    def result(self) -> dict[str, Any] | None:
        """The worker's result document, None where there is none of this very job."""
        if not shows(self.path / RESULT):
            return None
        document = _read_json(self.path / RESULT)
        if document is None or document.get("fingerprint") != self.fingerprint:
            return None
        return document

    def hidden_output(self) -> Path | None:
        """An output of the job that does not show on this machine; None where all do."""
        return next(
            (single_job.output for single_job in self.job.each() if not shows(single_job.output)),
            None,
        )

    def untaken_success(self, root_run_id: str) -> dict[str, Any] | None:
        """A success that nobody took yet, or that an earlier attempt of the same run took.

        A job that finished while Dagster was down is not run twice; a user who asks for a
        partition again gets it made again.
        """
        document = self.result()
        if document is None or document["status"] != "success":
            return None
        outputs = [single_job.output for single_job in self.job.each()]
        inodes = [path.stat().st_ino if path.exists() else 0 for path in outputs]
        if inodes != document.get("output_inodes"):
            # deleted since, or another job has put its own result there
            return None
        taken = _read_json(self.path / "taken.json")
        if taken is None or taken["root_run_id"] == root_run_id:
            return document
        return None

    def take(self, root_run_id: str) -> None:
        """Note that a run has the result."""
        write_json(self.path / "taken.json", {"root_run_id": root_run_id})

    def prepare(self) -> None:
        """Lay the job out for a new start; an earlier result counts no more."""
        for name in (RESULT, "taken.json", "running.json"):
            (self.path / name).unlink(missing_ok=True)
        with write_file(self.document) as temporary:
            temporary.write_text(self.job.model_dump_json(indent=1))

    @property
    def running(self) -> dict[str, Any] | None:
        """What was noted of the process or SLURM job that works on this very job."""
        document = _read_json(self.path / "running.json")
        if document is None or document.get("fingerprint") != self.fingerprint:
            return None
        return document

    def note_running(self, **facts: Any) -> None:
        """Note which process or SLURM job works on it, so that another run can follow it."""
        write_json(self.path / "running.json", {"fingerprint": self.fingerprint, **facts})

    def log_tail(self) -> str:
        """The log's last lines."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LOG_TAIL_BYTES))
            text = file.read().decode(errors="replace")
        return text if size <= LOG_TAIL_BYTES else text.partition("\n")[2]

    def failure(
        self, state: str, reason: str, remedy: str, *, allow_retries: bool = False, **more: Any
    ) -> Failure:
        """A failure that says which job, how it ended, why and what to do, with the log's tail."""
        return Failure(
            f"job {self.job.job_id}: {state}: {reason}. {remedy}",
            metadata={
                "job": self.job.job_id,
                "state": state,
                "reason": reason,
                "remedy": remedy,
                "log_tail": verbatim(self.log_tail() or "(empty)"),
                "log_file": MetadataValue.path(str(self.log)),
                **{name: value for name, value in more.items() if value is not None},
            },
            allow_retries=allow_retries,
        )


def shows(path: Path) -> bool:
    """Whether a file or folder is there, for this machine."""
    try:
        # a listing makes network filesystems look again for a file that was not there
        return path.name in os.listdir(path.parent)
    except (FileNotFoundError, NotADirectoryError):
        return False


def used_by(result: dict[str, Any]) -> dict[str, Any]:
    """What a job used and where it ran, of its result document."""
    others = ("status", "figures", "job_id", "fingerprint", "output_inodes")
    return {name: value for name, value in result.items() if name not in others}


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        # not UTF-8 or not JSON: a killed machine or a full disk left it so
        return None
    return document if isinstance(document, dict) else None
