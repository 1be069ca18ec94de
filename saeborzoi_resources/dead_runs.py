"""Runs that nothing works on any more: after a power cut, a kill, a closed terminal.

Dagster goes on showing such a run as started, waits for it and counts it as busy. Here it is found
and reported failed. Whether a run lives is asked of what its processes leave behind: a lock that
the operating system lets go where they die, and the process ids in its events. Jobs that outlive
their run are the compute resource's business: the next run takes them up.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import filelock
import psutil

from saeborzoi.errors import StoreError
from saeborzoi.files import lock_file, write_json

NO_PROCESS_TAG = "saeborzoi/no_process"
"""Run tag: why the run was reported failed here. Such an end is no attempt of the automation."""

UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
"""States of a run that a process works on, or should; a queued one waits for the daemon."""

_MARKS = ".runs"
_START_S = 120.0
"""A process is started and has told of itself within this time."""
_ELSEWHERE_S = 600.0
"""Between two steps of a run on another host nothing here shows that it lives."""
_EVENTS_WITH_PID = {dg.DagsterEventType.ENGINE_EVENT, dg.DagsterEventType.STEP_WORKER_STARTED}

_held: dict[str, filelock.FileLock] = {}


class DeadRun(NamedTuple):
    """A run that was reported failed, and how it is known that nothing works on it."""

    run_id: str
    why: str

    def __str__(self) -> str:
        return (
            f"run {self.run_id[:8]} was left by its process ({self.why}): reported as failed. What "
            "it had saved is kept"
        )


def hold_mark(jobs_folder: Path, run_id: str) -> None:
    """Mark a run as alive for as long as this process lives."""
    if run_id in _held:
        return
    mark = _mark(jobs_folder, run_id)
    # another process of the same run holds it, or the store cannot be written, which the asset says
    with contextlib.suppress(filelock.Timeout, StoreError):
        lock = lock_file(mark)
        lock.acquire(timeout=0)
        _held[run_id] = lock
        write_json(mark.with_suffix(".json"), {"host": os.uname().nodename, "pid": os.getpid()})


def end_dead_runs(instance: dg.DagsterInstance, jobs_folder: Path) -> list[DeadRun]:
    """Report each run failed of which no process lives; those whose end was asked for, canceled.

    Parameters
    ----------
    instance
        The project's instance. Where its launcher can ask after its runs itself (Kubernetes,
        Docker), that is left to Dagster's run monitoring.
    jobs_folder
        Folder of the project's jobs, where living runs hold their marks.
    """
    if instance.run_launcher.supports_check_run_worker_health:
        return []
    ended = []
    unfinished = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    for run in unfinished:
        why = _why_dead(instance, jobs_folder, run.run_id)
        if why is None:
            continue
        # a process that has just done its work has written so before it went
        now = instance.get_run_by_id(run.run_id)
        if now is None or now.status not in UNFINISHED:
            continue
        dead = DeadRun(run.run_id, why)
        instance.add_run_tags(run.run_id, {NO_PROCESS_TAG: why})
        if now.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(now, f"{dead}.")
        else:
            instance.report_run_failed(
                now,
                f"{dead}; making the partition again goes on from there. The automation does so by "
                "itself and does not count this as an attempt.",
            )
        # else steps of a dead run keep their places in the pools
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        ended.append(dead)
    at_work = {run.run_id for run in unfinished} - {dead.run_id for dead in ended}
    for mark in (jobs_folder / _MARKS).glob("*"):
        if mark.stem not in at_work and not _is_held(mark.with_suffix("")):
            mark.unlink(missing_ok=True)
    return ended


def _mark(jobs_folder: Path, run_id: str) -> Path:
    return jobs_folder / _MARKS / run_id


def _why_dead(instance: dg.DagsterInstance, jobs_folder: Path, run_id: str) -> str | None:
    """How it is known that no process works on a run; None where one may."""
    mark = _mark(jobs_folder, run_id)
    if _is_held(mark):
        return None
    here = os.uname().nodename
    host, pids = _host_of(mark), []
    if host in (None, here):
        for pid, since in _processes(instance, run_id):
            if _lives(pid, since):
                return None
            pids.append(pid)
    if host == here:
        return f"process {', '.join(map(str, pids)) or 'of its step'} is gone"
    silence = time.time() - _last_sign(instance, run_id)
    if host is None and silence > _START_S:
        gone = f"process {', '.join(map(str, pids))} is gone" if pids else "it has no process"
        return f"{gone}, and it has said nothing for {silence:.0f} s"
    if host is not None and silence > _ELSEWHERE_S:
        return f"its lock of host {host} is free, and it has said nothing for {silence:.0f} s"
    return None


def _is_held(mark: Path) -> bool:
    if not mark.exists():
        return False
    try:
        with lock_file(mark).acquire(timeout=0):
            return False
    except filelock.Timeout:
        return True


def _host_of(mark: Path) -> str | None:
    try:
        return str(json.loads(mark.with_suffix(".json").read_text())["host"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _processes(instance: dg.DagsterInstance, run_id: str) -> Iterator[tuple[int, float]]:
    """Process ids that a run's events tell of, and when."""
    pids = set()
    for record in instance.get_records_for_run(run_id, of_type=_EVENTS_WITH_PID).records:
        event = record.event_log_entry.dagster_event
        data = None if event is None else event.event_specific_data
        pid = getattr(data, "metadata", {}).get("pid")
        if pid is not None and str(pid.value).isdigit() and pid.value not in pids:
            pids.add(pid.value)
            yield int(pid.value), record.event_log_entry.timestamp


def _lives(pid: int, since: float) -> bool:
    """Whether a process lives that had this id at a time; a later one with the same id is another
    one."""
    try:
        process = psutil.Process(pid)
        return process.create_time() <= since + 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _last_sign(instance: dg.DagsterInstance, run_id: str) -> float:
    """Time of a run's last event, else of its making; seconds since the epoch."""
    newest = instance.get_records_for_run(run_id, limit=1, ascending=False).records
    if newest:
        return newest[0].event_log_entry.timestamp
    record = instance.get_run_record_by_id(run_id)
    return time.time() if record is None else record.create_timestamp.timestamp()
