"""Threads that share a CPU's work on a batch.

PyTorch's own threads meet at each of its operations, and what a sum over rows comes out as depends
on their number. Here each thread takes its rows through many operations, alone, and what the ranges
of rows are is the caller's business.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, TypeVar

import torch

_T = TypeVar("_T")


class Threads:
    """A number of threads, in each of which PyTorch works alone; they sleep while they wait.

    One of them is the caller's: to wake a thread takes a hundredth of what a small step does.
    """

    def __init__(self, n: int = 1) -> None:
        self.n = n
        self._tasks: SimpleQueue[Any] = SimpleQueue()
        if n > 1:
            # at the interpreter's end, too: a thread that outlives PyTorch aborts the process
            weakref.finalize(self, _end, _started(n - 1, self._tasks), self._tasks)

    def map(self, work: Callable[[int, int], _T], ranges: Sequence[tuple[int, int]]) -> list[_T]:
        """`work(first, last)` of each range, in order."""
        if self.n == 1:
            return [work(first, last) for first, last in ranges]
        # not a pool of the standard library, which takes 60 µs for what takes 15 here
        done: SimpleQueue[tuple[int, Any, BaseException | None]] = SimpleQueue()
        for place in range(1, len(ranges)):
            self._tasks.put((work, ranges[place], place, done.put))
        try:
            own = self.alone(work, ranges[:1])
        finally:
            others = sorted((done.get() for _ in ranges[1:]), key=lambda each: each[0])
        for _, _, error in others:
            if error is not None:
                raise error
        return [*own, *(result for _, result, _ in others)]

    def alone(self, work: Callable[[int, int], _T], ranges: Sequence[tuple[int, int]]) -> list[_T]:
        """As `map`, in the caller's thread: for what takes less than the others' waking."""
        of_process = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return [work(first, last) for first, last in ranges]
        finally:
            torch.set_num_threads(of_process)


def _started(n: int, tasks: SimpleQueue[Any]) -> list[threading.Thread]:
    """Threads of which each has told PyTorch that it works alone, and does tasks."""
    of_process = torch.get_num_threads()
    all_there = threading.Barrier(n + 1)

    def serve() -> None:
        torch.get_num_threads()  # at its first use a thread takes up the number of the process
        torch.set_num_threads(1)  # of this thread, and of all that are yet to be started
        all_there.wait()
        while (task := tasks.get()) is not None:
            work, nodes_or_rows, place, tell = task
            try:
                tell((place, work(*nodes_or_rows), None))
            except BaseException as error:
                tell((place, None, error))
            del work, task  # what they hold is freed before the next one comes

    threads = [threading.Thread(target=serve, name="batch", daemon=True) for _ in range(n)]
    for thread in threads:
        thread.start()
    all_there.wait()
    torch.set_num_threads(of_process)
    return threads


def _end(threads: Sequence[threading.Thread], tasks: SimpleQueue[Any]) -> None:
    for _ in threads:
        tasks.put(None)
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join()


def parts(n: int, n_parts: int, unit: int = 1) -> list[tuple[int, int]]:
    """Ranges that cover 0 ... n-1, of whole units but for the last.

    >>> parts(10, 2, 3)
    [(0, 6), (6, 10)]
    >>> parts(2, 4, 1)
    [(0, 1), (1, 2)]
    """
    n_units = -(-n // unit)
    ends = [i * n_units // n_parts * unit for i in range(n_parts)] + [n]
    return [(a, b) for a, b in itertools.pairwise(ends) if a < b]


def blocks(n: int, size: int) -> list[tuple[int, int]]:
    """Ranges of `size` that cover 0 ... n-1, whatever the number of threads.

    >>> blocks(5, 2)
    [(0, 2), (2, 4), (4, 5)]
    """
    return [(first, min(first + size, n)) for first in range(0, n, size)]
