"""What a person sees of `saeborzoi run`: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import re
import threading
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from saeborzoi.worker import duration
from saeborzoi_resources.compute.follow import show_lines

_PROGRESS = re.compile(r"^(?P<what>[^:]+): (?P<done>[\d,]+)(?: of (?P<total>[\d,]+))?(?P<rest>.*)$")


class Display:
    """Tells how runs go on.

    Parameters
    ----------
    quiet
        Nothing is told but failures.
    verbose
        Every line of the stages, also in a terminal.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self._quiet = quiet
        self._verbose = verbose
        self._console = Console(stderr=False, highlight=False)
        self._bars: Progress | None = None
        self._one_line = threading.Lock()
        self._tasks: dict[int, TaskID] = {}
        """Thread that a step goes in to its bar."""

    def __enter__(self) -> Display:
        if not self._quiet and not self._verbose and self._console.is_terminal:
            self._bars = Progress(
                TextColumn("{task.fields[owner]}"),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._bars.start()
        show_lines(self._line)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        show_lines(None)
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def say(self, text: str) -> None:
        """A line above the bars."""
        if self._bars is not None:
            self._bars.console.print(text, markup=False)
        elif not self._quiet:
            with self._one_line:
                print(text, flush=True)

    def started(self, owner: str, step: str, partition: str) -> None:
        """A step of an SAE starts."""
        if self._bars is not None:
            self._tasks[threading.get_ident()] = self._bars.add_task(step, owner=owner, total=None)
        else:
            self.say(f"{owner}: {step} of {partition}")

    def ended(self, owner: str, step: str, state: str, seconds: float) -> None:
        """A step of an SAE ended."""
        task = self._tasks.pop(threading.get_ident(), None)
        if self._bars is not None and task is not None:
            self._bars.remove_task(task)
        word = {"success": "done", "failure": "FAILED", "canceled": "stopped"}[state]
        self.say(f"{owner}: {step} {word} in {duration(seconds)}")

    def _line(self, text: str) -> None:
        """A line that a stage printed."""
        if self._quiet:
            return
        match = _PROGRESS.match(text)
        task = self._tasks.get(threading.get_ident())
        if self._bars is None or task is None:
            self.say(text)
        elif match is not None:
            total = match["total"]
            self._bars.update(
                task,
                description=match["what"],
                completed=int(match["done"].replace(",", "")),
                total=int(total.replace(",", "")) if total else None,
            )
