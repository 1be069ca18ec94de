"""Stages of a moment for the tests: what a real stage does to its surroundings, and nothing else.

`job.nodes` steer them: the first is how much to do.
"""

from __future__ import annotations

import json
import os
import signal
import time

from saeborzoi.errors import InputError
from saeborzoi.files import write_json
from saeborzoi.jobs.job import Figures, Job, Progress, StageInterrupted, stop_requested


def count(job: Job, progress: Progress) -> Figures:
    """Count to `nodes[0]`, ten steps a second, with a checkpoint at every step."""
    total = job.nodes[0]
    state = job.work / "state.json"
    done = json.loads(state.read_text())["done"] if state.exists() else 0
    resumed_at = done
    while done < total:
        if stop_requested.is_set():
            write_json(state, {"done": done})
            raise StageInterrupted(f"saved at {done}")
        time.sleep(0.1)
        done += 1
        progress("counting", done, total)
    write_json(job.output, {"counted": done})
    return {"counted": done, "resumed_at": resumed_at, "threads": os.environ["OMP_NUM_THREADS"]}


def gated(job: Job, progress: Progress) -> Figures:
    """Wait until the file `gate` lies beside the jobs' work folders."""
    while not (job.work.parent / "gate").exists():
        progress("waiting", 0, 0)
        time.sleep(0.1)
    return {**touch(job, progress), "pid": os.getpid()}


def touch(job: Job, progress: Progress) -> Figures:
    """Write the artifact at once."""
    write_json(job.output, {"nodes": job.nodes})
    return {"n_nodes": len(job.nodes), "first_node": job.nodes[0] if job.nodes else None}


def refuse(job: Job, progress: Progress) -> Figures:
    """What a user can cause."""
    raise InputError("train.bed: 3 columns seen, 6 needed; make it with sae-borzoi")


def crash(job: Job, progress: Progress) -> Figures:
    """What nobody foresaw."""
    raise ZeroDivisionError("a bug")


def odd_nodes_crash(job: Job, progress: Progress) -> Figures:
    """Half of an array's tasks fail."""
    if job.nodes[0] % 2:
        raise ZeroDivisionError(f"node {job.nodes[0]}")
    return touch(job, progress)


def leave(job: Job, progress: Progress) -> Figures:
    """Exit with code `nodes[0]` without a word."""
    os._exit(job.nodes[0])


def kill_self(job: Job, progress: Progress) -> Figures:
    """As the kernel does where memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def deaf(job: Job, progress: Progress) -> Figures:
    """Sleep `nodes[0]` seconds and hear no request to stop; leave the process id behind."""
    write_json(job.work.parent / f"{job.job_id}_pid.json", {"pid": os.getpid()})
    end = time.monotonic() + job.nodes[0]
    while time.monotonic() < end:
        time.sleep(0.2)
    return touch(job, progress)


def swallow(job: Job, progress: Progress) -> Figures:
    """Fill `nodes[0]` MB of memory."""
    block = bytearray(job.nodes[0] * 2**20)
    block[:: 2**12] = b"x" * len(block[:: 2**12])
    return {"mb": len(block) // 2**20}


def checkpoint_then_deaf(job: Job, progress: Progress) -> Figures:
    """Save its state once, then hang on the first attempt and finish on the next."""
    state = job.work / "state.json"
    if state.exists():
        return touch(job, progress)
    write_json(state, {"done": 1})
    time.sleep(3600)
    return {}
