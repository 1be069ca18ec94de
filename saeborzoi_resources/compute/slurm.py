"""Heavy stages as SLURM jobs and arrays, on a filesystem that the nodes share.

One loop submits, follows and resubmits the jobs of a call. What was submitted stands in files
before and after `sbatch`, so that a Dagster that was killed finds its jobs again; a result file
of this very job is the only success. A bare signal to Dagster leaves the jobs running,
terminating the run cancels them.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dagster import Failure

from saeborzoi.errors import MissingProgramError, SettingsError
from saeborzoi.jobs.job import Catalogue, Figures, Job
from saeborzoi.settings.load import Settings
from saeborzoi_resources import markdown
from saeborzoi_resources.compute.claims import claimed
from saeborzoi_resources.compute.folder import JobFolder
from saeborzoi_resources.compute.follow import Context, DagsterRun, Follower
from saeborzoi_resources.compute.slurm_answers import parent_of, task_of
from saeborzoi_resources.compute.slurm_commands import NoAnswer, Slurm
from saeborzoi_resources.compute.slurm_ends import ALIVE
from saeborzoi_resources.compute.slurm_submit import (
    RUN_TAG,
    Submitter,
    prefix_of,
)
from saeborzoi_resources.compute.slurm_task import Task

_LOOK_S = 0.5
_FEW_TASKS = 16
_SUMMARY_S = 15.0
_CANCEL_LOOK_S = 3.0
_CANCEL_TRIES = 5
_ACCOUNTING_S = 10.0
"""How long a job's record may take to be closed after the job wrote its result."""


class SlurmCompute:
    """Runs jobs on SLURM; several jobs of a call are one job array.

    Parameters
    ----------
    settings
        Whole settings; the compute section says how each stage's jobs are submitted.
    jobs_folder
        Holds a folder for each job, on a filesystem that the nodes share.
    stage
        `module:function` to run in place of each job's own stage.
    """

    def __init__(self, settings: Settings, jobs_folder: Path, stage: str = "") -> None:
        self._settings = settings.compute
        self._jobs_folder = jobs_folder.absolute()
        self._stage = stage
        self._slurm = Slurm(settings.compute.ssh_host)

    def run(
        self,
        context: Context,
        jobs: Sequence[Job],
        catalogue: Catalogue | None = None,
        lay_out: Callable[[], None] | None = None,
    ) -> list[Figures]:
        """See `ComputeBackend.run`; a job that can be retried is submitted again, from its last
        state, up to the profile's `max_attempts`."""
        run = DagsterRun(context)
        profile = self._settings.profile_of(jobs[0].stage if jobs else "default")
        submitter = Submitter(
            self._slurm, run, profile, self._jobs_folder, self._stage, self._settings.poll_s
        )
        folders = [JobFolder(self._jobs_folder, job) for job in jobs]
        with claimed(folders, run, self._settings.poll_s):
            tasks = [
                Task(folder, f"[compute.profile.{folder.job.stage}]", profile.max_attempts)
                for folder in folders
            ]
            if lay_out is not None:
                lay_out()
            try:
                self._bring_to_end(run, tasks, submitter)
            except (MissingProgramError, SettingsError) as error:
                raise Failure(str(error), allow_retries=False) from None
            _raise_failures(tasks)
            accounting = self._accounting(tasks)
            figures = [task.figures(accounting) for task in tasks]
            if catalogue is not None:
                catalogue(figures)
            for task in tasks:
                task.folder.take(run.root_run_id)
            for name in {task.submission for task in tasks} - {""}:
                shutil.rmtree(submitter.folder_of(name), ignore_errors=True)
        return figures

    def _bring_to_end(self, run: DagsterRun, tasks: list[Task], submitter: Submitter) -> None:
        try:
            self._join_earlier(run, tasks, submitter)
            asked = looked = -float("inf")
            news = _News(run)
            while not all(task.is_ended for task in tasks):
                if any(task.is_waiting for task in tasks):
                    submitter.submit_waiting(tasks)
                for task in tasks:
                    is_pending = task.last_state is not None and task.last_state.state == "PENDING"
                    # hundreds of pending tasks have nothing to show
                    if task.is_out and not (is_pending and len(tasks) > _FEW_TASKS):
                        task.look()
                now = time.monotonic()
                if now - asked >= self._settings.poll_s:
                    asked = now
                    self._judge(tasks, news)
                if now - looked >= min(_CANCEL_LOOK_S, self._settings.poll_s):
                    looked = now
                    run.stop_if_canceling()
                time.sleep(_LOOK_S)
        except BaseException:
            out = {task.slurm_id: task.submission for task in tasks if task.is_out}
            if run.is_canceling():
                waiting = {task.submission for task in tasks if task.is_waiting} - {""}
                self._cancel(run, out, waiting, submitter)
            elif out:
                run.say(f"SLURM jobs {', '.join(list(out)[:10])} go on; run again to follow them")
            raise

    def _judge(self, tasks: list[Task], news: _News) -> None:
        out = [task for task in tasks if task.is_out]
        if not out:
            return
        try:
            states = self._slurm.states({task.slurm_id: task.submission for task in out})
            for task in out:
                task.judge(states.get(task.slurm_id), self._slurm)
        except NoAnswer as error:
            news.rarely(f"SLURM does not answer ({error}); its jobs go on, asking again")
            return
        news.standing(tasks)

    def _join_earlier(self, run: DagsterRun, tasks: list[Task], submitter: Submitter) -> None:
        """Take results that nobody took, and find jobs that an earlier run submitted."""
        noted = {task: note for task in tasks if (note := _submission_noted(task.folder.running))}
        for task in tasks:
            task.result = task.folder.untaken_success(run.root_run_id)
            if task.result is None:
                continue
            note = noted.pop(task, None)
            if note is not None:
                task.submission = note["submission"]
                task.slurm_id = _id_of(note, submitter.noted_id(task.submission) or "")
            run.say(f"job {task.folder.job.job_id} finished earlier; its result is taken")
        names, ids = {}, {}
        for task, note in noted.items():
            if earlier_id := _id_of(note, submitter.id_of(note["submission"]) or ""):
                ids[task] = earlier_id
                names[earlier_id] = note["submission"]
        states = submitter.patiently(lambda: self._slurm.states(names)) if names else {}
        for task, slurm_id in ids.items():
            state = states.get(slurm_id)
            if state is not None and state.state in ALIVE:
                follower = Follower(run, task.folder, prefix_of(task, tasks), is_new=False)
                task.join(noted[task], slurm_id, follower)
                run.tag(RUN_TAG, parent_of(slurm_id))
                run.say(f"job {task.folder.job.job_id} is SLURM job {slurm_id}; following it")

    def _cancel(
        self, run: DagsterRun, names: dict[str, str], submissions: set[str], submitter: Submitter
    ) -> None:
        """Cancel jobs, and those that a submission just interrupted may have left."""
        for _ in range(_CANCEL_TRIES):
            try:
                cancelled = self._slurm.cancel(names)
                for name in submissions:
                    cancelled += self._slurm.cancel_named(name, submitter.profile.options)
            except NoAnswer as error:
                run.say(f"cancelling: SLURM does not answer ({error})")
                time.sleep(self._settings.poll_s)
            else:
                id_list = ", ".join(cancelled[:10]) or "(none was left)"
                run.say(f"cancelled SLURM jobs {id_list}")
                return
        run.say(f"not cancelled, SLURM does not answer: scancel {' '.join(names)}")

    def _accounting(self, tasks: list[Task]) -> dict[str, dict[str, Any]]:
        """What accounting knows of the jobs, once it has closed them; {} without accounting."""
        names = {task.slurm_id: task.submission for task in tasks if task.submission}
        known: dict[str, dict[str, Any]] = {}
        deadline = time.monotonic() + _ACCOUNTING_S
        while names and time.monotonic() < deadline:
            known = self._slurm.accounting(names)
            if not any(known.get(slurm_id, {}).get("state", "") in ALIVE for slurm_id in names):
                break
            time.sleep(_LOOK_S)
        return known


class _News:
    """What was said last, so that the run's event log stays readable."""

    def __init__(self, run: DagsterRun) -> None:
        self._run = run
        self._standing = ""
        self._when = {"standing": -float("inf"), "rarely": -float("inf")}

    def rarely(self, message: str) -> None:
        """Say it at most once a minute."""
        if time.monotonic() - self._when["rarely"] > 60:
            self._when["rarely"] = time.monotonic()
            self._run.say(message)

    def standing(self, tasks: list[Task]) -> None:
        """Say how the jobs stand, where that changed; of an array now and then."""
        counts: Counter[str] = Counter()
        for task in tasks:
            if task.result is not None:
                counts["done"] += 1
            elif task.end is not None:
                counts[f"ended {task.end.state}"] += 1
            elif task.last_state is not None:
                reason = f" ({task.last_state.reason})" if task.last_state.reason else ""
                counts[f"{task.last_state.state}{reason}"] += 1
            else:
                counts["submitted"] += 1
        standing = ", ".join(
            f"{n} {word}" if len(tasks) > 1 else word for word, n in counts.items()
        )
        pause = _SUMMARY_S if len(tasks) > 1 else 0.0
        now = time.monotonic()
        if standing != self._standing and now - self._when["standing"] >= pause:
            self._standing, self._when["standing"] = standing, now
            self._run.say(f"SLURM: {standing}")


def _submission_noted(note: dict[str, Any] | None) -> dict[str, Any] | None:
    """What `Task.join` needs, where all of it was noted; the local backend notes a process in the
    same place."""
    needed = {"submission", "task", "is_array", *Task.NOTES}
    return note if note is not None and needed <= set(note) else None


def _id_of(note: dict[str, Any], parent: str) -> str:
    """Id of a noted job; '' where its submission's is not known."""
    return task_of(parent, note["task"]) if parent and note["is_array"] else parent


def _raise_failures(tasks: list[Task]) -> None:
    """Raise what the jobs that have no result ended in, if any."""
    failed = [(task, task.end) for task in tasks if task.end is not None]
    if not failed:
        return
    task, end = failed[0]
    more: dict[str, Any] = {"slurm_job_id": task.slurm_id or None, "exit_code": task.exit_code}
    reason = end.reason
    if len(tasks) > 1:
        more["failed_jobs"] = markdown.table(
            ("job", "SLURM", "state", "reason"),
            ((t.folder.job.job_id, t.slurm_id, e.state, e.reason) for t, e in failed),
        )
        more["n_failed"] = len(failed)
        reason = (
            f"{reason} ({len(failed)} of {len(tasks)} jobs failed; the results of the others are "
            "kept and taken when this is run again)"
        )
    can_retry = all(e.is_retriable for _, e in failed)
    raise task.folder.failure(end.state, reason, end.remedy, allow_retries=can_retry, **more)
