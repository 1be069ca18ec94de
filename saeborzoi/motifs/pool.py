"""Processes of one thread that search motifs: how they are started, and what they leave to the
process that waits for them."""

from __future__ import annotations

import importlib
import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from typing import NamedTuple

import psutil

from saeborzoi.jobs.processes import end_with_parent, unheard

_MODULES = ["saeborzoi.motifs.node_motifs", "saeborzoi.jobs.ready"]
"""What they work with."""


class SearchPool(NamedTuple):
    """Processes, and how many there are."""

    executor: ProcessPoolExecutor
    n: int


@contextmanager
def search_pool(n: int) -> Iterator[SearchPool | None]:
    """`n` processes, started when this begins; None for one, which needs no other process.

    To be opened early: where this process still has one thread they start at once.
    """
    if n <= 1:
        yield None
        return
    with ProcessPoolExecutor(n, _context(), end_with_parent) as executor:
        executor.submit(int).result()  # starts all of them
        yield SearchPool(executor, n)


def _context() -> BaseContext:
    """How they are started.

    A copy of this process is there at once, but lacks the threads that this one has, and waits for
    ever for what they hold: so only where there are none, else copies of a server that loads the
    search. Never copied on macOS, whose linear algebra (Accelerate) breaks off in a copy of a
    process that has loaded it.
    """
    if sys.platform == "darwin":
        return multiprocessing.get_context("spawn")
    if _n_threads() == 1:
        for module in _MODULES:
            importlib.import_module(module)
        if _n_threads() == 1:  # a library may start some when it is loaded
            return multiprocessing.get_context("fork")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_MODULES)
    _start_deaf_server()
    return context


def _n_threads() -> int:
    """Threads of this process, those of libraries with them."""
    return psutil.Process().num_threads()


def _start_deaf_server() -> None:
    """Start the server that processes are forked from so that it and they hear no signals.

    What asks the worker to stop reaches its whole session: it alone decides, and waits for the
    nodes under way. A server that ends is taken for the end of all its processes.
    """
    with unheard():
        forkserver.ensure_running()
