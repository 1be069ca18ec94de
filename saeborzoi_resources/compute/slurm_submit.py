"""Submitting the jobs of a call: how many at once, what is asked again, what is waited for.

What was submitted stands in files before and after `sbatch`, so that a Dagster that was killed
finds its jobs again. Following them and judging their ends belongs to `slurm.py`.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from dagster import Failure

from saeborzoi.files import write_file
from saeborzoi.settings.compute_sections import Profile
from saeborzoi_resources.compute.follow import DagsterRun, Follower
from saeborzoi_resources.compute.slurm_answers import parent_of, read_submitted, task_of
from saeborzoi_resources.compute.slurm_commands import NoAnswer, Refused, Slurm, SubmitLimit
from saeborzoi_resources.compute.slurm_ends import SUBMIT_LIMIT_REMEDY, end_of_refusal
from saeborzoi_resources.compute.slurm_script import SLURM_ID, Submission, sbatch_options
from saeborzoi_resources.compute.slurm_task import Task

RUN_TAG = "saeborzoi/slurm_job_id"
_SUBMISSIONS = ".submissions"
_EVENT_S_PER_TASK = 5.0
"""An array's tasks together make about one progress event in this time."""
_SUBMIT_TRIES_S = 600.0
_SAFE_ARRAY_SIZE = 1000
_LIMIT_PAUSE_S = 60.0
"""Time between two tries where SLURM takes no further job of this user."""

_Answer = TypeVar("_Answer")


class Submitter:
    """Submits what waits of a call's jobs.

    Parameters
    ----------
    slurm
        SLURM's commands.
    run
        The Dagster run that asks.
    profile
        How the jobs are submitted.
    jobs_folder
        Holds a folder for each job; submissions lie in one of their own there.
    stage
        `module:function` to run in place of each job's own stage.
    poll_s
        Time between two questions where SLURM does not answer.
    """

    def __init__(
        self,
        slurm: Slurm,
        run: DagsterRun,
        profile: Profile,
        jobs_folder: Path,
        stage: str,
        poll_s: float,
    ) -> None:
        self.profile = profile
        self._slurm = slurm
        self._run = run
        self._jobs_folder = jobs_folder
        self._stage = stage
        self._poll_s = poll_s
        self._most: int | None = None
        self._not_before = -float("inf")
        self._limited_since: float | None = None

    def folder_of(self, submission: str) -> Path:
        """Folder of a submission."""
        return self._jobs_folder / _SUBMISSIONS / submission

    def noted_id(self, submission: str) -> str | None:
        """Id that was noted after `sbatch`; None where Dagster died before."""
        path = self.folder_of(submission) / SLURM_ID
        if not path.exists():
            return None
        ids = read_submitted(path.read_text(errors="replace"))
        return ids[0] if len(ids) == 1 else None

    def id_of(self, submission: str) -> str | None:
        """Id of an earlier submission, also where Dagster died before it could note it."""
        noted = self.noted_id(submission)
        if noted is not None:
            return noted
        return self.patiently(lambda: self._slurm.find(submission, self.profile.options))

    def submit_waiting(self, tasks: Sequence[Task]) -> None:
        """Submit what waits, as far as there is room; several jobs are one array."""
        waiting = [task for task in tasks if task.is_waiting]
        if time.monotonic() < self._not_before:
            return
        chosen = waiting[: self._room(waiting, sum(task.is_out for task in tasks))]
        if not chosen:
            return
        stage = chosen[0].folder.job.stage
        submission = Submission(
            self.folder_of(f"{stage}-{uuid.uuid4().hex[:12]}"), [task.folder for task in chosen]
        )
        threads = max(task.folder.job.threads for task in chosen)
        options = sbatch_options(self.profile, submission, threads, self.profile.max_parallel)
        extras = {"progress_every_s": _EVENT_S_PER_TASK * len(tasks)} if len(tasks) > 1 else {}
        environments = []
        is_array = len(chosen) > 1
        for task in chosen:
            follower = Follower(self._run, task.folder, prefix_of(task, tasks), is_new=True)
            environments.append(follower.environment(extras))
            task.begin(submission.name, follower)
            task.folder.prepare()
        script = submission.write(self.profile, options, environments, self._stage)
        for number, task in enumerate(chosen):
            task.folder.note_running(task=number, is_array=is_array, **task.notes())
        try:
            slurm_id = self._submit(options, script, submission.name)
        except Refused as error:
            for task in chosen:
                task.end = end_of_refusal(str(error), task.section)
            return
        except SubmitLimit as error:
            shutil.rmtree(submission.path, ignore_errors=True)
            self._wait_for_room(error, chosen, len(waiting))
            return
        self._limited_since = None
        self._most = None if self._most is None else 2 * len(chosen)
        with write_file(submission.path / SLURM_ID) as file:
            file.write_text(f"{slurm_id}\n")
        self._run.tag(RUN_TAG, parent_of(slurm_id))
        for number, task in enumerate(chosen):
            task.began(task_of(slurm_id, number) if is_array else slurm_id)
        what = f"array {slurm_id} of {len(chosen)} tasks" if is_array else f"job {slurm_id}"
        again = " again" if chosen[0].attempts > 1 else ""
        partition = self.profile.partition or "default partition"
        self._run.say(f"submitted{again} as SLURM {what} ({partition})")

    def _room(self, waiting: Sequence[Task], n_out: int) -> int:
        """How many jobs may be submitted now."""
        room = len(waiting)
        if self.profile.max_parallel is not None and n_out:
            room = min(room, self.profile.max_parallel - n_out)
        if self._most is not None:
            room = min(room, self._most)
        if room > _SAFE_ARRAY_SIZE:
            room = min(room, self.patiently(self._slurm.max_array_size))
        return max(0, room)

    def _wait_for_room(self, error: SubmitLimit, chosen: Sequence[Task], n_waiting: int) -> None:
        """SLURM took none of these jobs: fewer may fit at once, one has to wait."""
        section = chosen[0].section
        now = time.monotonic()
        if self._limited_since is None:
            self._limited_since = now
        is_one = len(chosen) == 1
        is_final = error.is_of_array or (
            not error.is_certain and now - self._limited_since > _SUBMIT_TRIES_S
        )
        for task in chosen:
            task.put_back()
            if is_one and is_final:
                task.end = end_of_refusal(str(error), section)
        if not is_one:
            self._most = len(chosen) // 2
        elif not is_final:
            self._not_before = now + _LIMIT_PAUSE_S
            self._run.say(
                f"SLURM takes no further job now ({error}); {n_waiting} wait here and are tried "
                f"again every {_LIMIT_PAUSE_S:.0f} s. {SUBMIT_LIMIT_REMEDY} (in {section})"
            )

    def _submit(self, options: Sequence[str], script: Path, name: str) -> str:
        """Submit, once: where SLURM did not answer it may have taken the job all the same."""
        is_first = True

        def attempt() -> str:
            nonlocal is_first
            slurm_id = None if is_first else self._slurm.find(name, self.profile.options)
            is_first = False
            return slurm_id or self._slurm.submit(options, script, name)

        try:
            return self.patiently(attempt)
        except SubmitLimit:
            # sbatch tries again by itself, and may have been taken when it was ended
            slurm_id = self.patiently(lambda: self._slurm.find(name, self.profile.options))
            if slurm_id is None:
                raise
            return slurm_id

    def patiently(self, ask: Callable[[], _Answer]) -> _Answer:
        """Ask until SLURM answers, for a while."""
        deadline = time.monotonic() + _SUBMIT_TRIES_S
        while True:
            try:
                return ask()
            except NoAnswer as error:
                if time.monotonic() > deadline:
                    raise Failure(
                        f"NO_ANSWER: {error}, for {_SUBMIT_TRIES_S / 60:.0f} minutes. Try "
                        "`sinfo` in a shell of this host (with [compute] ssh_host: `ssh <host> "
                        "sinfo`), then run again",
                        metadata={"state": "NO_ANSWER", "reason": str(error)},
                    ) from None
                self._run.say(f"SLURM does not answer ({error}); trying again")
                self._run.stop_if_canceling()
                time.sleep(max(1.0, self._poll_s))


def prefix_of(task: Task, tasks: Sequence[Task]) -> str:
    """Stands before each line of a job's log, to tell an array's jobs apart."""
    return f"[{tasks.index(task) + 1} of {len(tasks)}] " if len(tasks) > 1 else ""
