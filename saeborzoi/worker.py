"""Runs one stage from a job document: the program of every job, local or on SLURM.

``python -m saeborzoi.worker <job.json>`` writes ``result.json`` beside the document, whole and
last; whoever started it believes nothing else. Exit codes: 0 done, 2 a `SaeBorzoiError` (its
message says how to fix it), 75 interrupted with its state saved (run the same job again),
1 anything else, with the traceback in the log. Where the job goes and how its end is told apart
belongs to `saeborzoi_resources.compute`.

Started several times by torchrun, the workers do the job together: the first one reports and
writes the result, unless another one failed and said why.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import platform
import resource
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from pydantic import ValidationError

from saeborzoi.caches import announce_compilation, find_caches
from saeborzoi.catalog.store import Store
from saeborzoi.errors import ComputeError, SaeBorzoiError
from saeborzoi.files import write_json
from saeborzoi.jobs.fingerprint import keep_in
from saeborzoi.jobs.job import Figures, Job, Stage, StageInterrupted, stop_requested

if TYPE_CHECKING:
    from dagster_pipes import PipesContext

RESULT = "result.json"
EXIT_ERROR = 1
EXIT_REFUSED = 2
EXIT_INTERRUPTED = 75
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "NUMBA_NUM_THREADS",
)


def thread_variables(threads: int) -> dict[str, str]:
    """Environment variables that libraries read when they are loaded: how many threads they use,
    and how these wait for one another.

    OpenMP's threads spin while they wait: where others have the cores, the one that is waited for
    does not run, and a training takes six times its CPU and its time.
    """
    count = dict.fromkeys(_THREAD_VARIABLES, str(threads))
    return {**count, "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}


def fingerprint(job: Job) -> str:
    """Identity of a job: 16 hex digits over what it is asked to do.

    Settings, threads and the asking run are left out: those that change the result are part of
    `job_id`, and the others may change while the job runs. Paths count relative to the store, which
    may lie elsewhere when the job goes on.
    """
    document = job.model_dump(mode="json", exclude={"settings", "threads", "run_id"})
    root = f"{job.settings.project.store}{os.sep}"
    for name in ("inputs", "together"):
        document[name] = {key: path.removeprefix(root) for key, path in document[name].items()}
    for name in ("output", "work"):
        document[name] = document[name].removeprefix(root)
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


def command(python: str, processes: int = 1) -> list[str]:
    """Command line that starts the worker; the job document comes after it.

    Parameters
    ----------
    python
        Interpreter.
    processes
        Workers that do the job together, a GPU each, started by torchrun. It hands the signals
        that ask to stop on to them, and waits while they save their state.
    """
    together = [
        "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
        "--signals-to-handle=SIGTERM,SIGINT,SIGUSR1", "--shutdown-timeout=100",
    ]  # fmt: skip
    return [python, *(together if processes > 1 else []), "-m", "saeborzoi.worker"]


def read_job(path: Path) -> Job:
    """The job of a document.

    Raises
    ------
    ComputeError
        Where the file is missing or is not a job.
    """
    try:
        return Job.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ComputeError(
            f"{path}: the job document cannot be read ({error.strerror}); a job's folder must be "
            "on a filesystem that the worker's machine shares"
        ) from None
    except ValidationError as error:
        raise ComputeError(
            f"{path}: not a job of this version of saeborzoi: {error}; install the same version "
            "in the worker's environment as where Dagster runs"
        ) from None


def find_stage(name: str) -> Stage:
    """The function of a stage: `run` of `saeborzoi.stages.<name>`, or `module:function`.

    Raises
    ------
    ComputeError
        Where there is none.
    """
    module, _, function = name.rpartition(":")
    if not module:
        module, function = f"saeborzoi.stages.{name}", "run"
    try:
        stage: Stage = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        raise ComputeError(
            f"stage {name!r}: {error}; it is not installed in {sys.executable}: "
            "install the extra `worker` there (docs/install.md)"
        ) from None
    except AttributeError:
        raise ComputeError(f"stage {name!r}: {module} has no function {function!r}") from None
    return stage


class Reporter:
    """A `Progress` that prints a readable line and tells Dagster, often at first, then rarely.

    A line comes with every new activity, then every 2 s, the interval growing with the elapsed
    time up to a minute, so that a job of a day stays readable.

    Parameters
    ----------
    pipes
        Where lines go besides standard output; None by hand.
    every_s
        Least time between two lines to Dagster, whose every message is an event in its database.
    """

    def __init__(self, pipes: PipesContext | None = None, every_s: float = 0) -> None:
        self._pipes = pipes
        self._every_s = every_s
        self._start = time.monotonic()
        self._activity = ""
        self._activity_start = (self._start, 0)
        self._printed = self._sent = -float("inf")
        self.last: dict[str, Any] = {}
        """The newest report: `what`, `done`, `total`."""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        is_new = what != self._activity
        if is_new:
            self._activity, self._activity_start = what, (now, done)
        self.last = {"what": what, "done": done, "total": total}
        interval = min(60.0, max(2.0, (now - self._start) / 20))
        is_end = 0 < total <= done
        if not (is_new or is_end or now - self._printed >= interval):
            return
        self._printed = now
        line = self._line(now, what, done, total, note)
        print(line, flush=True)
        if self._pipes is not None and (is_end or now - self._sent >= self._every_s):
            self._sent = now
            self._pipes.log.info(line)

    def _line(self, now: float, what: str, done: int, total: int, note: str) -> str:
        parts = [f"{what}: {done:,}"]
        if total > 0:
            parts[0] += f" of {total:,} ({min(1.0, done / total):.1%})"
            began, before = self._activity_start
            if before < done < total:
                remaining = (now - began) * (total - done) / (done - before)
                parts.append(f"about {duration(remaining)} left")
        return "; ".join([*parts, note] if note else parts)


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> [duration(s) for s in (4.2, 90, 7300)]
    ['4 s', '2 min', '2 h 2 min']
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


_MAXRSS_PER_MB = 1024 * 1024 if sys.platform == "darwin" else 1024
"""`ru_maxrss` counts bytes on macOS and kilobytes elsewhere."""


def usage() -> dict[str, Any]:
    """What this process has used: `cpu_s`, `peak_memory_mb`; in SLURM the job's id and GPUs;
    where torch used a GPU, its name and peak memory."""
    process, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    # what a process that still runs has started counts when that one ends: the motif search's
    running = [each.cpu_times() for each in psutil.Process().children()]
    figures: dict[str, Any] = {
        "cpu_s": round(
            process.ru_utime
            + process.ru_stime
            + children.ru_utime
            + children.ru_stime
            + sum(map(sum, running)),
            2,
        ),
        "peak_memory_mb": round(max(process.ru_maxrss, children.ru_maxrss) / _MAXRSS_PER_MB, 1),
    }
    if "SLURM_JOB_ID" in os.environ:
        task = os.environ.get("SLURM_ARRAY_TASK_ID")
        parent = os.environ.get("SLURM_ARRAY_JOB_ID", os.environ["SLURM_JOB_ID"])
        figures["slurm_job_id"] = f"{parent}_{task}" if task else parent
        if "SLURM_GPUS_ON_NODE" in os.environ:
            figures["n_gpus"] = int(os.environ["SLURM_GPUS_ON_NODE"])
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        figures["gpu"] = torch.cuda.get_device_name()
        figures.setdefault("n_gpus", torch.cuda.device_count())
        figures["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return figures


def run_stage(job: Job, stage: Stage, reporter: Reporter) -> tuple[int, dict[str, Any]]:
    """Run a stage to whatever end; nothing that it raises gets out.

    Returns
    -------
    tuple of int and dict
        Exit code, and the end as it goes into ``result.json``.
    """
    try:
        figures: Figures = stage(job, reporter)
        outputs = [each_job.output for each_job in job.each()]
        for output in outputs:
            if not output.exists():
                raise ComputeError(f"the stage ended without writing {output}")
    except StageInterrupted as error:
        print(f"interrupted: {error}", flush=True)
        return EXIT_INTERRUPTED, {"status": "interrupted", "progress": reporter.last}
    except SaeBorzoiError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return EXIT_REFUSED, _failure(error)
    except Exception as error:
        traceback.print_exc()
        return EXIT_ERROR, _failure(error)
    # a later result at the same place has another inode
    return 0, {
        "status": "success",
        "figures": figures,
        "output_inodes": [output.stat().st_ino for output in outputs],
    }


def _failure(error: Exception) -> dict[str, Any]:
    document = {"type": type(error).__name__, "message": str(error)}
    return {"status": "failure", "error": document}


def _pipes() -> PipesContext | None:
    """The door to Dagster, where it started this process."""
    from dagster_pipes import PipesEnvVarParamsLoader, open_dagster_pipes

    return open_dagster_pipes() if PipesEnvVarParamsLoader().is_dagster_pipes_process() else None


def run(path: Path, stage_name: str = "") -> int:
    """Run the job of a document and write its result beside it.

    Parameters
    ----------
    path
        The job document.
    stage_name
        `module:function` to run in place of the job's stage.

    Returns
    -------
    int
        The process's exit code.
    """
    start = time.monotonic()
    try:
        job = read_job(path)
        keep_in(Store(job.settings.project.store).fingerprints)
    except ComputeError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_REFUSED
    # its folder can be written where no temporary directory can
    find_caches(path.parent)
    is_first = int(os.environ.get("RANK", "0")) == 0
    n_together = int(os.environ.get("WORLD_SIZE", "1"))
    job = job.model_copy(update={"threads": max(1, job.threads // n_together)})
    os.environ.update(thread_variables(job.threads))
    if is_first:
        by = f", {n_together} processes of" if n_together > 1 else ","
        threads = f"{by} {job.threads} threads"
        print(f"job {job.job_id}: {job.stage} on {platform.node()}{threads}", flush=True)
    pipes = _pipes() if is_first else None
    try:
        try:
            stage = find_stage(stage_name or job.stage)
        except ComputeError as error:
            print(f"error: {error}", file=sys.stderr)
            code, end = EXIT_REFUSED, _failure(error)
        else:
            announce_compilation(lambda text: print(text, flush=True))
            every_s = float(pipes.extras.get("progress_every_s", 0)) if pipes else 0
            code, end = run_stage(job, stage, Reporter(pipes, every_s))
        elapsed_s = round(time.monotonic() - start, 2)
        document = {
            **end,
            "job_id": job.job_id,
            "fingerprint": fingerprint(job),
            "host": platform.node(),
            "elapsed_s": elapsed_s,
            **usage(),
        }
        result = path.with_name(RESULT)
        is_failure = end["status"] == "failure"
        # When one process fails, the others fail because of it: the first failure is the cause,
        # and a later one must not overwrite it.
        is_consequence = is_failure and n_together > 1 and result.exists()
        if (is_first or is_failure) and not is_consequence:
            write_json(result, document)
        if code == 0 and is_first:
            print(f"done in {duration(elapsed_s)}", flush=True)
    finally:
        if pipes is not None:
            pipes.close()
    return code


def _on_signal(number: int, _frame: object) -> None:
    if not stop_requested.is_set():
        os.write(1, f"{signal.Signals(number).name}: saving the state and stopping\n".encode())
    stop_requested.set()


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``python -m saeborzoi.worker``."""
    parser = argparse.ArgumentParser(prog="python -m saeborzoi.worker", description=__doc__)
    parser.add_argument("job", type=Path, help="job document, job.json in the job's folder")
    parser.add_argument(
        "--stage", default="", metavar="MODULE:FUNCTION", help="run this in place of the stage"
    )
    options = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _on_signal)
    return run(options.job.resolve(), options.stage)


if __name__ == "__main__":
    sys.exit(main())
