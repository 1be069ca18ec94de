"""Heavy stages as processes on this machine, one after another.

A process is started in its own session, so that ending it ends its children too. It outlives a
Dagster that is killed; the run that is started again follows it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from saeborzoi.jobs.job import Catalogue, Figures, Job
from saeborzoi.settings.load import Settings
from saeborzoi.worker import EXIT_INTERRUPTED
from saeborzoi.worker import command as worker_command
from saeborzoi_resources.compute.claims import claimed
from saeborzoi_resources.compute.ends import end_of_error, end_of_exit_code
from saeborzoi_resources.compute.folder import JobFolder, used_by
from saeborzoi_resources.compute.follow import Context, DagsterRun, Follower
from saeborzoi_resources.compute.warm import WarmWorker, warm_worker

_LOOK_S = 0.1
_GRACE_S = 10.0
_MEMORY = "the machine's free memory"


class LocalCompute:
    """Runs jobs as processes on this machine.

    Parameters
    ----------
    settings
        Whole settings; of the compute section only `poll_s` and a profile's `processes` count
        here: the rest of it describes the cluster's environment, not this machine's.
    jobs_folder
        Holds a folder for each job.
    stage
        `module:function` to run in place of each job's own stage.
    """

    def __init__(self, settings: Settings, jobs_folder: Path, stage: str = "") -> None:
        self._compute = settings.compute
        self._jobs_folder = jobs_folder
        self._stage = stage

    def run(
        self,
        context: Context,
        jobs: Sequence[Job],
        catalogue: Catalogue | None = None,
        lay_out: Callable[[], None] | None = None,
    ) -> list[Figures]:
        """See `ComputeBackend.run`; jobs run one after another, each with its own threads."""
        run = DagsterRun(context)
        folders = [JobFolder(self._jobs_folder, job) for job in jobs]
        figures = []
        with claimed(folders, run, self._compute.poll_s):
            if lay_out is not None:
                lay_out()
            for number, folder in enumerate(folders, start=1):
                if len(folders) > 1:
                    run.say(f"job {number} of {len(folders)}: {folder.job.job_id}")
                figures.append(self._finish(run, folder))
            if catalogue is not None:
                catalogue(figures)
            for folder in folders:
                folder.take(run.root_run_id)
        return figures

    def _finish(self, run: DagsterRun, folder: JobFolder) -> Figures:
        """Bring one job to its end, from wherever it stands."""
        result = folder.untaken_success(run.root_run_id)
        code = None
        if result is not None:
            run.say(f"job {folder.job.job_id} finished earlier; its result is taken")
        else:
            code = self._follow(run, folder)
            result = folder.result()
        if result is not None and result["status"] == "success":
            return {**result["figures"], "compute": {"backend": "local", **used_by(result)}}
        if result is not None and result["status"] == "interrupted":
            code = EXIT_INTERRUPTED  # torchrun has an exit code of its own
        if result is not None and result["status"] == "failure":
            end = end_of_error(result["error"], _MEMORY)
        else:
            end = end_of_exit_code(code, _MEMORY)
        raise folder.failure(
            end.state, end.reason, end.remedy, allow_retries=end.is_retriable, exit_code=code
        )

    def _follow(self, run: DagsterRun, folder: JobFolder) -> int | None:
        """Start the job's process, or join the one that runs; its exit code where known."""
        process: subprocess.Popen[bytes] | WarmWorker | None = None
        orphan = _orphan(folder.running)
        follower = Follower(run, folder, "", is_new=orphan is None)
        if orphan is None:
            folder.prepare()
            process = self._start(folder, follower)
            pid = process.pid
            # a warm worker is no child of this process: of one that has ended already nothing stays
            with suppress(psutil.NoSuchProcess):
                folder.note_running(pid=pid, started=psutil.Process(pid).create_time())
        else:
            pid = orphan.pid
            run.say(f"job {folder.job.job_id} still runs as process {pid}; following it")

        def is_alive() -> bool:
            return process.poll() is None if process else orphan is not None and _is_alive(orphan)

        asked = time.monotonic()
        try:
            while is_alive():
                time.sleep(_LOOK_S)
                follower.drain()
                if time.monotonic() - asked >= self._compute.poll_s:
                    asked = time.monotonic()
                    run.stop_if_canceling()
        except BaseException:
            _end_group(pid, is_alive)
            if process:
                process.wait()
            run.say(f"process {pid} of job {folder.job.job_id} is ended")
            raise
        finally:
            follower.drain(is_last=True)
        return process.returncode if process else None

    def _start(self, folder: JobFolder, follower: Follower) -> subprocess.Popen[bytes] | WarmWorker:
        processes = self._compute.profile_of(folder.job.stage).processes
        arguments = [str(folder.document)]
        if self._stage:
            arguments += ["--stage", self._stage]
        environment = {**os.environ, **follower.environment({})}
        if processes == 1:
            warm = warm_worker(arguments, folder.job.threads, folder.log, environment)
            if warm is not None:
                return warm
        command = [*worker_command(sys.executable, processes), *arguments]
        with folder.log.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )


def _orphan(running: dict[str, Any] | None) -> psutil.Process | None:
    """The process that was noted, if it is still that one."""
    if running is None or "pid" not in running:
        return None
    try:
        process = psutil.Process(running["pid"])
        is_same = abs(process.create_time() - running["started"]) < 1
    except psutil.NoSuchProcess:
        return None
    return process if is_same and _is_alive(process) else None


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _end_group(pid: int, is_alive: Callable[[], bool]) -> None:
    """Ask the process to save its state and stop; after a while, kill its whole session."""

    def signal_group(number: int) -> None:
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            return

    signal_group(signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_S
    while time.monotonic() < deadline and is_alive():
        time.sleep(_LOOK_S)
    signal_group(signal.SIGKILL)
