"""Threads that share a CPU's work on a batch.

PyTorch's own threads meet at each of its operations, and what a sum over rows comes out as depends
on their number. Here each thread takes its rows through many operations, alone, and what the ranges
of rows are is the caller's business.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

_T = TypeVar("_T")


class Threads:
    """A number of threads, in each of which PyTorch works alone; they sleep while they wait.

    One of them is the caller's: to wake a thread takes a tenth of what a step does.
    """

    def __init__(self, n: int = 1) -> None:
        self.n = n
        self._pool = _pool(n - 1) if n > 1 else None

    def map(self, work: Callable[[int, int], _T], ranges: Sequence[tuple[int, int]]) -> list[_T]:
        """`work(first, last)` of each range, in order."""
        if self._pool is None or len(ranges) < 2:
            return [work(first, last) for first, last in ranges]
        others = [self._pool.submit(work, first, last) for first, last in ranges[1:]]
        of_process = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            own = work(*ranges[0])
        finally:
            torch.set_num_threads(of_process)
            wait(others)
        return [own, *(other.result() for other in others)]


def _pool(n: int) -> ThreadPoolExecutor:
    """Threads of which each has told PyTorch that it works alone."""
    of_process = torch.get_num_threads()
    all_there = threading.Barrier(n)

    def alone() -> None:
        torch.get_num_threads()  # at its first use a thread takes up the number of the process
        torch.set_num_threads(1)  # of this thread, and of all that are yet to be started
        all_there.wait()

    pool = ThreadPoolExecutor(n, "batch", alone)
    list(pool.map(lambda _: None, range(n)))
    torch.set_num_threads(of_process)
    return pool


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
