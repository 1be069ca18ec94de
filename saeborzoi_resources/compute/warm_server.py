"""Workers that start at once: a process with the libraries loaded makes a copy of itself for each
job.

``python -m saeborzoi_resources.compute.warm_server <module> ...`` imports the modules, and reads
requests from its standard input, a JSON object a line: `arguments` of `saeborzoi.worker`, `log` to
write to, `environment`. It answers each with the copy's `pid`, and later, in any order, with `pid`
and exit `code`. Once it has what the first job needs, a request is looked for after every import,
so that a job does not wait for libraries that only later ones need. It ends with its input; copies
that still run go on.

Interpreter and imports take 1 to 4 s of each job. What a job computes is the same: nothing is
computed before the copy is made.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import sys
from collections.abc import Sequence
from typing import Any

from saeborzoi import worker

_MODULES = {
    "trained_sae": ("torch.utils.tensorboard",),
    "meme_motifs": ("saeborzoi.motifs.node_motifs",),
    "tomtom_matches": ("memelite",),
}
"""Of some stages: what they import only where it is needed."""
_FIRST = 2
"""Modules that the first job needs: `ready`, and its stage."""


def command(python: str, stages: Sequence[str]) -> list[str]:
    """Command line of a process that has what some stages need."""
    modules = ["saeborzoi.jobs.ready"]
    for stage in stages:
        modules += (f"saeborzoi.stages.{stage}", *_MODULES.get(stage, ()))
    return [python, "-m", "saeborzoi_resources.compute.warm_server", *modules]


def serve(modules: list[str]) -> None:
    """Import modules, and start workers until the input ends."""
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    # the terminal's Ctrl-C is for who started this
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    buffer = b""
    waiting = list(modules)
    for _ in modules[:_FIRST]:
        _load(waiting.pop(0))
    while True:
        ready, _, _ = select.select([0, wake], [], [], 0 if waiting else None)
        if wake in ready:
            os.read(wake, 1024)
            _tell_ended()
        if 0 in ready:
            data = os.read(0, 65536)
            if not data:
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                _answer(pid=_start(json.loads(line), [wake, waker]))
        elif waiting:
            _load(waiting.pop(0))


def _load(module: str) -> None:
    # a job that needs what cannot be imported says so itself
    with contextlib.suppress(Exception):
        importlib.import_module(module)


def _answer(**message: int) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def _tell_ended() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _answer(pid=pid, code=os.waitstatus_to_exitcode(status))


def _start(request: dict[str, Any], descriptors: list[int]) -> int:
    """A copy of this process that runs a worker; its process id."""
    ready, is_ready = os.pipe()
    pid = os.fork()
    if pid:
        # it has a session of its own, by which it can be ended, before anybody knows of it
        os.close(is_ready)
        os.read(ready, 1)
        os.close(ready)
        return pid
    code = worker.EXIT_ERROR
    try:
        os.setsid()
        os.close(ready)
        os.close(is_ready)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for descriptor, place in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(descriptor, place)
        for descriptor in (nothing, log, *descriptors):
            os.close(descriptor)
        os.environ.clear()
        os.environ.update(request["environment"])
        code = worker.main(request["arguments"])
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1:])
    os._exit(0)  # to take the libraries apart takes 2 s
