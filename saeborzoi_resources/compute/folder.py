"""A job's folder: its files, and what its result is worth.

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

import json
import os
from pathlib import Path
from typing import Any

from dagster import Failure, MetadataValue

from saeborzoi.files import state, write_file, write_json
from saeborzoi.jobs.job import Job
from saeborzoi.worker import RESULT, fingerprint
from saeborzoi_resources.markdown import verbatim

LOG_TAIL_BYTES = 6_000


class JobFolder:
    """The folder of one job."""

    def __init__(self, jobs_folder: Path, job: Job) -> None:
        self.job = job
        self.path = jobs_folder / job.job_id
        self.locks = [
            self.path / "lock"
            if job.nodes
            else jobs_folder / ".locks" / f"{job.stage}-{single_job.subject}"
            for single_job in job.each()
        ]
        self.fingerprint = fingerprint(job)
        self._taken_before: tuple[int, ...] | None = None

    @property
    def _taken(self) -> Path:
        return self.path / "taken.json"

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

    def result(self) -> dict[str, Any] | None:
        """The worker's result document, None where there is none of this very job."""
        if not shows(self.path / RESULT):
            return None
        document = read_json(self.path / RESULT)
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
        """A success that nobody took yet, that an earlier attempt of the same run took, or that
        another run took while this one waited for it.

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
        taken = read_json(self._taken)
        if taken is None or taken["root_run_id"] == root_run_id:
            return document
        if self._taken_before is not None and state(self._taken) != self._taken_before:
            return document
        return None

    def note_waiting(self) -> None:
        """From now on another run may make this very result, which is then as good as new."""
        if self._taken_before is None:
            self._taken_before = state(self._taken)

    def take(self, root_run_id: str) -> None:
        """Note that a run has the result."""
        write_json(self._taken, {"root_run_id": root_run_id})

    def prepare(self) -> None:
        """Lay the job out for a new start; an earlier result counts no more."""
        self.path.mkdir(parents=True, exist_ok=True)
        for name in (RESULT, self._taken.name, "running.json"):
            (self.path / name).unlink(missing_ok=True)
        with write_file(self.document) as temporary:
            temporary.write_text(self.job.model_dump_json(indent=1))

    @property
    def running(self) -> dict[str, Any] | None:
        """What was noted of the process or SLURM job that works on this very job."""
        document = read_json(self.path / "running.json")
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


def read_json(path: Path) -> dict[str, Any] | None:
    """What a file of a job says; None where there is none, or it was not written to its end."""
    try:
        document = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        # not UTF-8 or not JSON: a killed machine or a full disk left it so
        return None
    return document if isinstance(document, dict) else None
