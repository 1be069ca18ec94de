"""Heavy stages as SLURM jobs and arrays, on a filesystem that the nodes share.

One loop submits, follows and resubmits the jobs of a call. What was submitted stands in files
before and after `sbatch`, so that a Dagster that was killed finds its jobs again; a result file
of this very job is the only success. A bare signal to Dagster leaves the jobs running,
terminating the run cancels them.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dagster import DagsterExecutionInterruptedError, Failure, MetadataValue

from saeborzoi.errors import MissingProgramError, SettingsError
from saeborzoi.files import write_file
from saeborzoi.jobs.job import Catalogue, Figures, Job
from saeborzoi.settings.load import Settings
from saeborzoi_resources.compute.folder import JobFolder
from saeborzoi_resources.compute.follow import Context, DagsterRun, Follower
from saeborzoi_resources.compute.slurm_commands import NoAnswer, Refused, Slurm
from saeborzoi_resources.compute.slurm_ends import ALIVE, end_of_refusal
from saeborzoi_resources.compute.slurm_script import SLURM_ID, Submission, sbatch_options
from saeborzoi_resources.compute.slurm_task import Task

RUN_TAG = "saeborzoi/slurm_job_id"
_SUBMISSIONS = ".submissions"
_LOOK_S = 0.5
_FEW_TASKS = 16
_EVENT_S_PER_TASK = 5.0
"""An array's tasks together make about one progress event in this time."""
_SUMMARY_S = 15.0
_SUBMIT_TRIES_S = 600.0
_SAFE_ARRAY_SIZE = 1000
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
        """See `Compute.run`; a job that can be retried is submitted again, from its last state,
        up to the profile's `max_attempts`."""
        run = DagsterRun(context)
        with ExitStack() as claims:
            tasks = []
            for job in jobs:
                folder = JobFolder(self._jobs_folder, job)
                claims.enter_context(folder.claimed(run.run_id))
                profile = self._settings.profile_of(job.stage)
                section = f"[compute.profile.{job.stage}]"
                tasks.append(Task(folder, section, profile.max_attempts))
            if lay_out is not None:
                lay_out()
            try:
                self._bring_to_end(run, tasks)
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
                shutil.rmtree(self._submission(name), ignore_errors=True)
        return figures

    def _bring_to_end(self, run: DagsterRun, tasks: list[Task]) -> None:
        try:
            self._join_earlier(run, tasks)
            asked = looked = -float("inf")
            said = _Said(run)
            while not all(task.is_ended for task in tasks):
                if any(task.is_waiting for task in tasks):
                    self._submit_waiting(run, tasks)
                for task in tasks:
                    is_pending = task.seen is not None and task.seen.state == "PENDING"
                    # hundreds of pending tasks have nothing to show
                    if task.is_out and not (is_pending and len(tasks) > _FEW_TASKS):
                        task.look()
                now = time.monotonic()
                if now - asked >= self._settings.poll_s:
                    asked = now
                    self._judge(tasks, said)
                if now - looked >= min(_CANCEL_LOOK_S, self._settings.poll_s):
                    looked = now
                    _stop_if_canceling(run)
                time.sleep(_LOOK_S)
        except BaseException:
            out = [task.slurm_id for task in tasks if task.is_out]
            if run.is_canceling():
                self._cancel(run, out, {task.submission for task in tasks if task.is_waiting})
            elif out:
                run.say(f"SLURM jobs {', '.join(out[:10])} go on; run again to follow them")
            raise

    def _judge(self, tasks: list[Task], said: _Said) -> None:
        out = [task for task in tasks if task.is_out]
        if not out:
            return
        try:
            states = self._slurm.states(task.slurm_id for task in out)
            for task in out:
                task.judge(states.get(task.slurm_id), self._slurm)
        except NoAnswer as error:
            said.rarely(f"SLURM does not answer ({error}); its jobs go on, asking again")
            return
        said.standing(tasks)

    def _join_earlier(self, run: DagsterRun, tasks: list[Task]) -> None:
        """Take results that nobody took, and find jobs that an earlier run submitted."""
        for task in tasks:
            task.result = task.folder.untaken_success(run.root_run_id)
            if task.result is not None:
                task.slurm_id = task.result.get("slurm_job_id", "")
                run.say(f"job {task.folder.job.job_id} finished earlier; its result is taken")
        noted = {
            task: note
            for task in tasks
            # the local backend notes a process in the same place
            if not task.is_ended and (note := task.folder.running) and "submission" in note
        }
        if not noted:
            return
        ids = {}
        for task, note in noted.items():
            parent = self._parent_id(run, note["submission"])
            if parent:
                ids[task] = f"{parent}_{note['task']}" if note["is_array"] else parent
        states = self._patiently(run, lambda: self._slurm.states(ids.values())) if ids else {}
        for task, slurm_id in ids.items():
            seen = states.get(slurm_id)
            if seen is not None and seen.state in ALIVE:
                follower = Follower(run, task.folder, _prefix(task, tasks), is_new=False)
                task.join(noted[task], slurm_id, follower)
                run.tag(RUN_TAG, slurm_id.partition("_")[0])
                run.say(f"job {task.folder.job.job_id} is SLURM job {slurm_id}; following it")

    def _parent_id(self, run: DagsterRun, submission: str) -> str | None:
        """Id of an earlier submission, also where Dagster died before it could note it."""
        path = self._submission(submission) / SLURM_ID
        if path.exists():
            return path.read_text().strip()
        found: str | None = self._patiently(run, lambda: self._slurm.find(submission))
        return found

    def _submit_waiting(self, run: DagsterRun, tasks: list[Task]) -> None:
        waiting = [task for task in tasks if task.is_waiting]
        profile = self._settings.profile_of(waiting[0].folder.job.stage)
        n_out = sum(task.is_out for task in tasks)
        room = len(waiting)
        if profile.max_parallel is not None and n_out:
            room = profile.max_parallel - n_out
        if min(room, len(waiting)) > _SAFE_ARRAY_SIZE:
            room = min(room, self._patiently(run, self._slurm.max_array_size))
        chosen = waiting[: max(0, room)]
        if not chosen:
            return
        stage = chosen[0].folder.job.stage
        submission = Submission(
            self._submission(f"{stage}-{uuid.uuid4().hex[:12]}"), [task.folder for task in chosen]
        )
        threads = max(task.folder.job.threads for task in chosen)
        options = sbatch_options(profile, submission, threads, profile.max_parallel)
        extras = {"progress_every_s": _EVENT_S_PER_TASK * len(tasks)} if len(tasks) > 1 else {}
        environments = []
        is_array = len(chosen) > 1
        for task in chosen:
            follower = Follower(run, task.folder, _prefix(task, tasks), is_new=True)
            environments.append(follower.environment(extras))
            task.begin(submission.name, follower)
            task.folder.prepare()
        script = submission.write(profile, options, environments, self._stage)
        for number, task in enumerate(chosen):
            task.folder.note_running(task=number, is_array=is_array, **task.notes())
        try:
            slurm_id = self._submit(run, options, script)
        except Refused as error:
            for task in chosen:
                task.end = end_of_refusal(str(error), task.section)
            return
        with write_file(submission.path / SLURM_ID) as file:
            file.write_text(f"{slurm_id}\n")
        run.tag(RUN_TAG, slurm_id)
        for number, task in enumerate(chosen):
            task.began(f"{slurm_id}_{number}" if is_array else slurm_id)
        what = f"array {slurm_id} of {len(chosen)} tasks" if is_array else f"job {slurm_id}"
        again = " again" if chosen[0].attempts > 1 else ""
        run.say(f"submitted{again} as SLURM {what} ({profile.partition or 'default partition'})")

    def _submit(self, run: DagsterRun, options: list[str], script: Path) -> str:
        """Submit, once: where SLURM did not answer it may have taken the job all the same."""
        is_first = True

        def attempt() -> str:
            nonlocal is_first
            found = None if is_first else self._slurm.find(script.parent.name)
            is_first = False
            return found or self._slurm.submit(options, script)

        slurm_id: str = self._patiently(run, attempt)
        return slurm_id

    def _patiently(self, run: DagsterRun, ask: Any) -> Any:
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
                run.say(f"SLURM does not answer ({error}); trying again")
                _stop_if_canceling(run)
                time.sleep(max(1.0, self._settings.poll_s))

    def _cancel(self, run: DagsterRun, ids: list[str], submissions: set[str]) -> None:
        """Cancel jobs, and those that a submission just interrupted may have left."""
        for _ in range(_CANCEL_TRIES):
            try:
                for name in submissions - {""}:
                    ids += [found] if (found := self._slurm.find(name)) else []
                self._slurm.cancel(ids)
            except NoAnswer as error:
                run.say(f"cancelling: SLURM does not answer ({error})")
                time.sleep(self._settings.poll_s)
            else:
                run.say(f"cancelled SLURM jobs {', '.join(ids[:10]) or '(none was submitted)'}")
                return
        run.say(f"not cancelled, SLURM does not answer: scancel {' '.join(ids)}")

    def _accounting(self, tasks: list[Task]) -> dict[str, dict[str, Any]]:
        """What accounting knows of the jobs, once it has closed them; {} without accounting."""
        ids = [task.slurm_id for task in tasks if task.slurm_id]
        known: dict[str, dict[str, Any]] = {}
        deadline = time.monotonic() + _ACCOUNTING_S
        while ids and time.monotonic() < deadline:
            try:
                known = self._slurm.accounting(ids)
            except (NoAnswer, MissingProgramError):
                break
            if not any(known.get(one, {}).get("state", "") in ALIVE for one in ids):
                break
            time.sleep(_LOOK_S)
        return known

    def _submission(self, name: str) -> Path:
        return self._jobs_folder / _SUBMISSIONS / name


class _Said:
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
            elif task.seen is not None:
                told = f" ({task.seen.reason})" if task.seen.reason else ""
                counts[f"{task.seen.state}{told}"] += 1
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


def _stop_if_canceling(run: DagsterRun) -> None:
    if run.is_canceling():
        raise DagsterExecutionInterruptedError


def _prefix(task: Task, tasks: list[Task]) -> str:
    """Stands before each line of a job's log, to tell an array's jobs apart."""
    return f"[{tasks.index(task) + 1} of {len(tasks)}] " if len(tasks) > 1 else ""


def _raise_failures(tasks: list[Task]) -> None:
    """Raise what the jobs that have no result ended in, if any."""
    failed = [(task, task.end) for task in tasks if task.end is not None]
    if not failed:
        return
    task, end = failed[0]
    more: dict[str, Any] = {"slurm_job_id": task.slurm_id or None, "exit_code": task.exit_code}
    reason = end.reason
    if len(tasks) > 1:
        rows = "\n".join(
            f"| {t.folder.job.job_id} | {t.slurm_id} | {e.state} | {e.reason} |" for t, e in failed
        )
        more["failed_jobs"] = MetadataValue.md(
            f"| job | SLURM | state | reason |\n|-|-|-|-|\n{rows}"
        )
        more["n_failed"] = len(failed)
        reason = (
            f"{reason} ({len(failed)} of {len(tasks)} jobs failed; the results of the others are "
            "kept and taken when this is run again)"
        )
    can_retry = all(e.is_retriable for _, e in failed)
    raise task.folder.failure(end.state, reason, end.remedy, allow_retries=can_retry, **more)
