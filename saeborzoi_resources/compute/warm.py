"""Workers of several local jobs without the start of an interpreter for each: this process's door
to `warm_server.py`."""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

import psutil

from saeborzoi.jobs.processes import available_cores
from saeborzoi.settings.compute_sections import Compute
from saeborzoi.worker import thread_variables
from saeborzoi_resources.compute import warm_server

_LOOK_S = 0.1
_ANSWER_S = 0.3
"""A server that has loaded what the job needs answers sooner."""
_SHORT_S = 1.0
"""A job that runs for so long is no short one."""
_current: WarmWorkers | None = None


def threads_of(compute: Compute, stage: str) -> int:
    """Cores of a stage: its profile's, else all of this machine, or one of the cluster's."""
    cpus = compute.profile_of(stage).cpus
    if cpus is not None:
        return cpus
    return available_cores() if compute.backend == "local" else 1


class WarmWorker:
    """A started worker; like `subprocess.Popen` as far as `local.py` asks."""

    def __init__(self, server: WarmWorkers, pid: int) -> None:
        self._server = server
        self.pid = pid
        self.returncode: int | None = None
        self._started = time.monotonic()

    def poll(self) -> int | None:
        """Its exit code; None while it runs: then this process loads a library that it needs
        later, unless the job may end before that."""
        if self.returncode is None:
            self.returncode = self._server.code_of(self.pid)
            if self.returncode is None and time.monotonic() - self._started >= _SHORT_S:
                self._server.load_next()
        return self.returncode

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        while (code := self.poll()) is None:
            time.sleep(_LOOK_S)
        return code


class WarmWorkers:
    """A process that copies itself into workers.

    Parameters
    ----------
    stages
        Of the jobs, in the order in which they will be asked for.
    threads
        Of every job; libraries read it when they are loaded.
    later
        Modules that this process needs after some job; loaded while it waits for one.
    """

    def __init__(self, stages: Sequence[str], threads: int, later: Sequence[str] = ()) -> None:
        self.threads = threads
        self._later = [*later]
        self._codes: dict[int, int] = {}
        self._started: list[int] = []
        self._rest = b""
        self._is_gone = self._has_started = False
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            warm_server.command(sys.executable, stages),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, **thread_variables(threads)},
            start_new_session=True,
        )

    def start(
        self, arguments: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> WarmWorker | None:
        """Start a worker, or None where the process that copies itself is gone."""
        request = {"arguments": [*arguments], "log": str(log), "environment": {**environment}}
        with self._lock:
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
            except OSError:
                return None
            self._has_started = True
            while not self._started:
                # while it loads what the first job needs, there is time to load something, too
                if not self._later or self._has_answered(_ANSWER_S):
                    self._read(wait=True)
                else:
                    self.load_next()
                if self._is_gone:
                    return None
            return WarmWorker(self, self._started.pop())

    def code_of(self, pid: int) -> int | None:
        """Exit code of a worker; None while it runs."""
        with self._lock:
            self._read(wait=False)
            if pid not in self._codes and self._is_gone and not psutil.pid_exists(pid):
                # nobody is left who could say
                return -signal.SIGKILL
            return self._codes.get(pid)

    def load_later(self, modules: Sequence[str]) -> None:
        """Add modules that this process needs after some job."""
        self._later += modules

    def load_next(self) -> None:
        """Import the next of the modules that are needed later."""
        if self._later:
            # who needs what cannot be imported says so, and who imports shows the warnings
            with suppress(Exception), warnings.catch_warnings(action="ignore"):
                importlib.import_module(self._later.pop(0))

    def close(self) -> None:
        """End the process; workers that still run go on."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            if not self._has_started:
                self._process.terminate()  # it need not load the rest before it hears of the end
            self._process.stdin.close()
            self._process.wait()
            self._read(wait=False)
            self._process.stdout.close()
            self._is_gone = True

    def _has_answered(self, timeout_s: float) -> bool:
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], timeout_s)[0])

    def _read(self, *, wait: bool) -> None:
        """Take in what was answered."""
        assert self._process.stdout is not None
        while not self._is_gone:
            if not wait and not self._has_answered(0):
                return
            data = self._process.stdout.read(65536)
            self._is_gone = not data
            *lines, self._rest = (self._rest + (data or b"")).split(b"\n")
            for message in map(json.loads, lines):
                if "code" in message:
                    self._codes[message["pid"]] = message["code"]
                else:
                    self._started.append(message["pid"])
            wait = False


@contextmanager
def warm_workers(stages: Sequence[str], threads: int, later: Sequence[str] = ()) -> Iterator[None]:
    """While this lasts, local jobs of this process start at once; of no stages, as ever, and on
    macOS, where a copy of a process cannot use the system's libraries (Accelerate, Objective-C).
    Within such a block another one changes nothing. See `WarmWorkers`."""
    global _current
    if _current is not None:
        _current.load_later(later)
    if not stages or _current is not None or sys.platform == "darwin":
        yield
        return
    _current = WarmWorkers(stages, threads, later)
    try:
        yield
    finally:
        _current.close()
        _current = None


def local_workers(
    compute: Compute, stages: Sequence[str], later: Sequence[str] = ()
) -> AbstractContextManager[None]:
    """`warm_workers` for stages that this machine does; of a cluster's, none."""
    if compute.backend != "local":
        return nullcontext()
    return warm_workers(stages, threads_of(compute, stages[0]) if stages else 1, later)


def warm_worker(
    arguments: Sequence[str], threads: int, log: Path, environment: Mapping[str, str]
) -> WarmWorker | None:
    """A worker that started at once; None where there is none for so many threads."""
    if _current is None or _current.threads != threads:
        return None
    return _current.start(arguments, log, environment)
