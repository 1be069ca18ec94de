"""Whose turn it is: two runs for one partition do not write over each other.

The second waits for the first. It takes what the first made where it asked for the very same job
and the result still lies where the job put it (a batch of nodes is moved into the catalogue's
folders, and is made again). The operating system lets go of a lock where its process dies.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import BaseFileLock, Timeout

from saeborzoi.files import lock_file, write_json
from saeborzoi_resources.compute.folder import JobFolder, read_json
from saeborzoi_resources.compute.follow import DagsterRun

_LOOK_S = 0.5


@contextlib.contextmanager
def claimed(folders: Sequence[JobFolder], run: DagsterRun, poll_s: float) -> Iterator[None]:
    """Hold job folders for a run; waits while another run holds one of them.

    Parameters
    ----------
    poll_s
        Seconds between two questions whether somebody terminated the run that waits.
    """
    # in one order for all, so that no two runs wait for each other
    locks = {lock: folder for folder in folders for lock in folder.locks}
    with contextlib.ExitStack() as held:
        for path in sorted(locks):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = lock_file(path)
            owner = path.with_name(f"{path.name}.json")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                for folder in folders:
                    folder.note_waiting()
                run.say(
                    f"job {locks[path].job.job_id}: {_holder(owner)} works on this partition "
                    "already; waiting for it. Terminate one of the two where one is enough"
                )
                _wait(lock, run, poll_s)
            held.callback(lock.release)
            write_json(
                owner, {"run_id": run.run_id, "pid": os.getpid(), "host": os.uname().nodename}
            )
        yield


def _wait(lock: BaseFileLock, run: DagsterRun, poll_s: float) -> None:
    asked = time.monotonic()
    while True:
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=_LOOK_S)
            return
        if time.monotonic() - asked >= poll_s:
            asked = time.monotonic()
            run.stop_if_canceling()


def _holder(owner: Path) -> str:
    holder = read_json(owner)
    if holder is None:
        return "another run"  # it has the lock, and is about to write who it is
    return f"run {holder['run_id']} (process {holder['pid']} on {holder['host']})"
