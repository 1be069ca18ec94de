"""Making the next thing while the one before is worked on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

_T = TypeVar("_T")


def ahead(make: Callable[[int], _T], end: int, first: int = 0) -> Iterator[_T]:
    """`make(first)`, ... `make(end - 1)`, made by one thread while the consumer works.

    One result waits at most, so two are held at once; an error of the thread is raised here.
    """
    results: queue.Queue[tuple[_T | None, BaseException | None]] = queue.Queue(maxsize=1)
    slots = threading.Semaphore(1)
    stop = threading.Event()

    def work() -> None:
        for i in range(first, end):
            slots.acquire()
            if stop.is_set():
                return
            try:
                results.put((make(i), None))
            except BaseException as error:
                results.put((None, error))
                return

    thread = threading.Thread(target=work, name="read-ahead", daemon=True)
    thread.start()
    try:
        for _ in range(first, end):
            result, error = results.get()
            if error is not None:
                raise error
            slots.release()
            yield result  # type: ignore[misc]
    finally:
        stop.set()
        slots.release()
        thread.join()
