"""One job of a call: where it stands, how it ended, whether it goes on.

Decides from the worker's result and SLURM's last word; submits and cancels nothing.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from saeborzoi.jobs.job import Figures
from saeborzoi_resources.compute.ends import End, end_of_error
from saeborzoi_resources.compute.folder import JobFolder, used_by
from saeborzoi_resources.compute.follow import Follower
from saeborzoi_resources.compute.slurm_commands import JobState, Slurm
from saeborzoi_resources.compute.slurm_ends import ALIVE, IMPOSSIBLE, end_of_state
from saeborzoi_resources.compute.slurm_script import EXIT_CODE

_SETTLE_S = 20.0
"""How long a network filesystem may take to show what a node has written."""


class Task:
    """One job of a call.

    Attributes
    ----------
    slurm_id
        ``12`` or ``12_3``; '' while it waits to be submitted.
    submission
        Name of its submission.
    failed_attempts
        Ended attempts that brought it no further.
    result
        The worker's result document, once it has succeeded.
    end
        How it ended without one.
    """

    def __init__(self, folder: JobFolder, section: str, max_attempts: int) -> None:
        self.folder = folder
        self.section = section
        self.follower: Follower | None = None
        self.slurm_id = ""
        self.submission = ""
        self.attempts = 0
        self.failed_attempts = 0
        self.seen: JobState | None = None
        self.result: dict[str, Any] | None = None
        self.end: End | None = None
        self.exit_code: int | None = None
        self._max_attempts = max_attempts
        self._progress: dict[str, Any] = {}
        self._submitted_at = 0.0
        self._ended_since: float | None = None

    @property
    def is_ended(self) -> bool:
        """Whether nothing more will be tried."""
        return self.result is not None or self.end is not None

    @property
    def is_waiting(self) -> bool:
        """Whether it is to be submitted."""
        return not self.is_ended and not self.slurm_id

    @property
    def is_out(self) -> bool:
        """Whether SLURM has it."""
        return not self.is_ended and bool(self.slurm_id)

    def begin(self, submission: str, follower: Follower) -> None:
        """A new attempt is about to be submitted."""
        self.submission = submission
        self.follower = follower
        self.attempts += 1
        self._submitted_at = time.time()

    def began(self, slurm_id: str) -> None:
        """SLURM has it under this id."""
        self.slurm_id = slurm_id
        self.seen = None
        self._ended_since = None

    def join(self, noted: dict[str, Any], slurm_id: str, follower: Follower) -> None:
        """Follow the attempt that an earlier run noted."""
        self.submission = noted["submission"]
        self.attempts = noted["attempts"]
        self.failed_attempts = noted["failed_attempts"]
        self._progress = noted["progress"]
        self._submitted_at = noted["submitted_at"]
        self.follower = follower
        self.began(slurm_id)

    def notes(self) -> dict[str, Any]:
        """What a later run must know to join."""
        return {
            "submission": self.submission,
            "attempts": self.attempts,
            "failed_attempts": self.failed_attempts,
            "progress": self._progress,
            "submitted_at": self._submitted_at,
        }

    def look(self, *, is_last: bool = False) -> None:
        """Stream what is new and see whether the worker has written its end."""
        if self.follower is not None:
            self.follower.drain(is_last=is_last)
        if self.is_ended:
            return
        result = self.folder.result()
        if result is None or result["status"] == "interrupted":
            return
        if result["status"] == "success":
            self.result = result
        else:
            self.end = end_of_error(result["error"], f"`mem` in {self.section}")
        if self.follower is not None:
            self.follower.drain(is_last=True)

    def judge(self, seen: JobState | None, slurm: Slurm) -> None:
        """Draw the conclusion from SLURM's word; None where it knows the job no more."""
        if seen is not None and seen.state in ALIVE:
            self.seen = seen
            self._ended_since = None
            if seen.state == "PENDING" and seen.reason in IMPOSSIBLE:
                slurm.cancel([self.slurm_id])
                self.end = end_of_state(seen, None, self.section, has_new_state=False)
            return
        now = time.monotonic()
        if self._ended_since is None:
            self._ended_since = now
        self.exit_code = self._written_exit_code()
        may_lag = seen is None or seen.state in ("COMPLETED", "FAILED")
        if self.exit_code is None and may_lag and now - self._ended_since < _SETTLE_S:
            return
        self.look(is_last=True)
        if self.is_ended:
            return
        if seen is None:
            accounted = slurm.accounted_end(self.slurm_id)
            if accounted is not None:
                seen = JobState(accounted[0], "")
                self.exit_code = accounted[1] if self.exit_code is None else self.exit_code
        elif self.exit_code is None:
            self.exit_code = slurm.exit_code(self.slurm_id)
        self.seen = seen
        self._conclude(seen)

    def _conclude(self, seen: JobState | None) -> None:
        has_new_state = self._newest_state() > self._submitted_at
        end = end_of_state(seen, self.exit_code, self.section, has_new_state=has_new_state)
        result = self.folder.result()
        progress = result["progress"] if result is not None else {}
        was_interrupted = result is not None
        is_further = _is_further(progress, self._progress)
        if was_interrupted and end.state not in ("CANCELLED", "PREEMPTED", "NODE_FAIL"):
            end = End(
                "INTERRUPTED",
                f"it saved its state before its time limit ({progress or 'no progress'})",
                f"Raise `time` in {self.section}: one job does not bring it any further.",
                is_retriable=True,
            )
        if end.state in ("PREEMPTED", "NODE_FAIL") and has_new_state:
            is_further = True
        self._progress = progress or self._progress
        if not (was_interrupted and is_further) and not (is_further and end.is_retriable):
            self.failed_attempts += 1
        if end.is_retriable and self.failed_attempts < self._max_attempts:
            self.slurm_id = ""
        else:
            self.end = end

    def figures(self, accounting: dict[str, dict[str, Any]]) -> Figures:
        """The job's figures with what it used."""
        assert self.result is not None, "asked of a success only"
        used = used_by(self.result)
        if "n_gpus" in used:
            used["gpu_h"] = round(used["n_gpus"] * used["elapsed_s"] / 3600, 4)
        accounted = {
            name: value
            for name, value in accounting.get(self.slurm_id, {}).items()
            if name != "state"
        }
        if "peak_memory_mb" in accounted:
            # SLURM samples now and then, the kernel tells the worker its true peak
            accounted["peak_memory_mb"] = max(accounted["peak_memory_mb"], used["peak_memory_mb"])
        return {
            **self.result["figures"],
            "compute": {
                "backend": "slurm",
                "slurm_job_id": self.slurm_id,
                "attempts": self.attempts,
                **used,
                **accounted,
            },
        }

    def _written_exit_code(self) -> int | None:
        path = self.folder.path / EXIT_CODE
        return int(path.read_text()) if path.exists() else None

    def _newest_state(self) -> float:
        """Time of the newest file that the stage keeps for its next attempt."""
        files: list[Path] = [path for path in self.folder.job.work.rglob("*") if path.is_file()]
        return max((path.stat().st_mtime for path in files), default=0.0)


def _is_further(progress: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether an interrupted attempt came further than the one before it."""
    if not progress:
        return False
    if progress["what"] != before.get("what"):
        return bool(progress["done"] > 0)
    return bool(progress["done"] > before["done"])
