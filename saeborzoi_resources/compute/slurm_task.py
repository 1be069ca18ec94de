"""One job of a call: where it stands, how it ended, whether it goes on.

Decides from the worker's result and SLURM's last word; submits and cancels nothing.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

from saeborzoi.jobs.job import Figures
from saeborzoi.worker import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_REFUSED
from saeborzoi_resources.compute.ends import End, end_of_error
from saeborzoi_resources.compute.folder import JobFolder, shows, used_by
from saeborzoi_resources.compute.follow import Follower
from saeborzoi_resources.compute.slurm_answers import JobState
from saeborzoi_resources.compute.slurm_commands import Slurm
from saeborzoi_resources.compute.slurm_ends import ALIVE, IMPOSSIBLE, end_of_state
from saeborzoi_resources.compute.slurm_script import EXIT_CODE

_SETTLE_S = 90.0
"""How long a network filesystem may take to show what a node has written: NFS clients keep what a
folder held for up to 60 s (acdirmax)."""
_WRITES_A_RESULT = (None, 0, EXIT_ERROR, EXIT_REFUSED, EXIT_INTERRUPTED)
"""Exit codes after which a result file is to be expected; None where no exit code is seen."""


class Task:
    """One job of a call.

    Attributes
    ----------
    slurm_id
        ``12`` or ``12_3``, with ``;cluster`` behind it where SLURM named one; '' while it waits
        to be submitted.
    submission
        Name of its submission, which its SLURM job carries.
    failed_attempts
        Attempts that ended without new progress of the job.
    result
        The worker's result document, once it has succeeded.
    end
        How it ended without one.
    NOTES
        What of `notes` no note may lack.
    """

    NOTES = ("attempts", "failed_attempts", "progress")

    def __init__(self, folder: JobFolder, section: str, max_attempts: int) -> None:
        self.folder = folder
        self.section = section
        self.follower: Follower | None = None
        self.slurm_id = ""
        self.submission = ""
        self.attempts = 0
        self.failed_attempts = 0
        self.last_state: JobState | None = None
        self.result: dict[str, Any] | None = None
        self.end: End | None = None
        self.exit_code: int | None = None
        self._max_attempts = max_attempts
        self._progress: dict[str, Any] = {}
        self._state_before: dict[str, int] = {}
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
        self._state_before = self._saved_state()

    def put_back(self) -> None:
        """SLURM did not take the attempt that `begin` announced; it waits again."""
        self.attempts -= 1
        self.submission = ""

    def began(self, slurm_id: str) -> None:
        """SLURM has it under this id."""
        self.slurm_id = slurm_id
        self.last_state = None
        self._ended_since = None

    def join(self, noted: dict[str, Any], slurm_id: str, follower: Follower) -> None:
        """Follow the attempt that an earlier run noted."""
        self.submission = noted["submission"]
        self.attempts = noted["attempts"]
        self.failed_attempts = noted["failed_attempts"]
        self._progress = noted["progress"]
        self._state_before = noted.get("state_before", {})
        self.follower = follower
        self.began(slurm_id)

    def notes(self) -> dict[str, Any]:
        """What a later run must know to join."""
        return {
            "submission": self.submission,
            "attempts": self.attempts,
            "failed_attempts": self.failed_attempts,
            "progress": self._progress,
            "state_before": self._state_before,
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
            if self.folder.hidden_output() is None:
                self.result = result
        else:
            self.end = end_of_error(result["error"], f"`mem` in {self.section}")
        if self.follower is not None:
            self.follower.drain(is_last=True)

    def judge(self, state: JobState | None, slurm: Slurm) -> None:
        """Draw the conclusion from SLURM's word; None where it knows the job no more."""
        if state is not None and state.state in ALIVE:
            self.last_state = state
            self._ended_since = None
            if state.state == "PENDING" and state.reason in IMPOSSIBLE:
                slurm.cancel({self.slurm_id: self.submission})
                self.end = end_of_state(state, None, self.section, has_new_state=False)
            return
        now = time.monotonic()
        if self._ended_since is None:
            self._ended_since = now
        self.exit_code = self._written_exit_code()
        self.look()
        if self.is_ended:
            return
        if self._may_show_late(state) and now - self._ended_since < _SETTLE_S:
            self.last_state = JobState(
                "ended", f"waiting up to {_SETTLE_S:.0f} s for its files to show"
            )
            return
        self.look(is_last=True)
        if self.is_ended:
            return
        if state is None:
            accounted = slurm.accounted_end(self.slurm_id, self.submission)
            if accounted is not None:
                state = JobState(accounted[0], "")
                self.exit_code = accounted[1] if self.exit_code is None else self.exit_code
        elif self.exit_code is None:
            self.exit_code = slurm.exit_code(self.slurm_id, self.submission)
        self.last_state = state
        self._conclude(state)

    def _may_show_late(self, state: JobState | None) -> bool:
        """Whether the node may have written more of the job's end than shows here."""
        if state is not None and state.state == "TIMEOUT":
            return not self._has_new_state()
        if state is not None and state.state not in ("COMPLETED", "FAILED"):
            return False
        result = self.folder.result()
        if result is not None and result["status"] == "interrupted":
            return self.exit_code is None
        return self.exit_code in _WRITES_A_RESULT

    def _conclude(self, state: JobState | None) -> None:
        has_new_state = self._has_new_state()
        end = end_of_state(state, self.exit_code, self.section, has_new_state=has_new_state)
        result = self.folder.result()
        hidden = self.folder.hidden_output()
        if result is not None and result["status"] == "success":
            self.end = End(
                "NO_RESULT",
                f"the worker reports success, but {hidden} does not show on this machine after "
                f"{_SETTLE_S:.0f} s",
                "Is the store at the same path on a filesystem that this machine shares with the "
                "nodes? Run again: a result that shows by then is taken.",
            )
            return
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
                "attempts": self.attempts,
                **used,
                # the worker does not know of which cluster it is
                "slurm_job_id": self.slurm_id or used.get("slurm_job_id", ""),
                **accounted,
            },
        }

    def _written_exit_code(self) -> int | None:
        path = self.folder.path / EXIT_CODE
        if not shows(path):
            return None
        try:
            return int(path.read_text())
        except (FileNotFoundError, ValueError):
            # still empty on this machine
            return None

    def _has_new_state(self) -> bool:
        """Whether this attempt saved its state: times of files are compared with each other only,
        as this machine's clock may be another."""
        state = self._saved_state()
        return any(self._state_before.get(name) != time for name, time in state.items())

    def _saved_state(self) -> dict[str, int]:
        """Files that the stage keeps for its next attempt, each with its time in ns."""
        work = self.folder.job.work
        state = {}
        for path in work.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file():
                    state[str(path.relative_to(work))] = path.stat().st_mtime_ns
        return state


def _is_further(progress: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether an interrupted attempt came further than the one before it."""
    if not progress:
        return False
    if progress["what"] != before.get("what"):
        return bool(progress["done"] > 0)
    return bool(progress["done"] > before["done"])
