"""Where the time of `saeborzoi run` goes: each step's wall time, and whose CPU time it took.

    .venv/bin/python -m benchmarks.pipeline [FOLDER]

Makes everything of the project in FOLDER again (the demo with its data, in a temporary folder,
where none is given), then runs once more with nothing to do. For each step: when it started; wall
seconds; CPU seconds of its thread in this process (Dagster, the catalogue, light assets, plots,
libraries that it loads while it waits); of its jobs' workers the CPU seconds and the wall seconds
of the stage itself. Steps with jobs go beside light ones, so that their wall seconds add up to more
than all took. On a machine that others use, read CPU seconds.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from saeborzoi.demo import DATA
from saeborzoi.pipeline import ARTIFACTS
from saeborzoi.settings.load import FILE_NAME, load_settings
from saeborzoi.worker import RESULT
from saeborzoi_assets.commands.demonstration import demonstrate
from saeborzoi_assets.commands.progress import Display
from saeborzoi_assets.commands.runner import Outcome, run


def cpu_s(who: int = resource.RUSAGE_SELF) -> float:
    """CPU seconds of this process, or of its children that ended."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


class Shares(Display):
    """Notes what each step takes from now on; shows nothing."""

    def __init__(self, jobs: Path) -> None:
        super().__init__(quiet=True)
        self.jobs = jobs
        self.rows: list[tuple[str, float, float, float, float, float]] = []
        self._start = time.perf_counter()
        self._begun: dict[int, tuple[float, float, float]] = {}

    def started(self, owner: str, step: str, partition: str) -> None:
        """See `Display`."""
        self._begun[threading.get_ident()] = time.time(), time.perf_counter(), time.thread_time()

    def ended(self, owner: str, step: str, state: str, seconds: float) -> None:
        """See `Display`."""
        began, clock, own = self._begun[threading.get_ident()]
        stages = {artifact.name for artifact in ARTIFACTS if artifact.step == step}
        results = [
            json.loads(path.read_text())
            for path in self.jobs.glob(f"*/{RESULT}")
            if path.stat().st_mtime >= began and path.parent.name.partition("-")[0] in stages
        ]
        self.rows.append(
            (
                step if state == "success" else f"{step} ({state})",
                clock - self._start,
                time.perf_counter() - clock,
                time.thread_time() - own,
                sum(result["cpu_s"] for result in results),
                sum(result["elapsed_s"] for result in results),
            )
        )


def shares(seen: Shares, make: Callable[[], object]) -> None:
    """Make everything of a project as `make` does, and print a row a step."""
    start, own = time.perf_counter(), cpu_s()
    made = make()
    wall, own = time.perf_counter() - start, cpu_s() - own
    table = Table("step", "start s", "wall s", "own CPU s", "workers' CPU s", "stage wall s")
    for step, *figures in seen.rows:
        table.add_row(step, *(f"{value:.1f}" for value in figures))
    own_steps = sum(row[3] for row in seen.rows)
    table.add_row("beside the steps", "", "", f"{own - own_steps:.1f}")
    workers = sum(row[4] for row in seen.rows)
    table.add_row("all", "", f"{wall:.1f}", f"{own:.1f}", f"{workers:.1f}", end_section=True)
    Console(width=100).print(table)
    if isinstance(made, Outcome):
        for line in made.lines():
            print(line)


def command_s(settings_file: Path, *arguments: str) -> str:
    """Wall and CPU seconds of a command on the project."""
    environment = {**os.environ, "SAEBORZOI_PROJECT": str(settings_file)}
    before, start = cpu_s(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [str(Path(sys.executable).with_name("saeborzoi")), *arguments]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    wall, cpu = time.perf_counter() - start, cpu_s(resource.RUSAGE_CHILDREN) - before
    return f"saeborzoi {' '.join(arguments)}: {wall:.1f} s, {cpu:.1f} s of CPU"


def main() -> None:
    """Of the project that the command line names."""
    print(f"{os.cpu_count()} cores at a load of {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if sys.argv[1:] else temporary).resolve()
        settings_file = folder / FILE_NAME
        if sys.argv[1:]:
            settings = load_settings(settings_file)
            seen = Shares(settings.project.store / "jobs")
            shares(
                seen,
                lambda: run(settings_file, settings, settings.wanted(), again=True, display=seen),
            )
        else:
            seen = Shares(folder / DATA / "store" / "jobs")
            shares(seen, lambda: demonstrate(folder, seen))
        print(command_s(settings_file, "run"))
        print(command_s(settings_file, "--version"))


if __name__ == "__main__":
    main()
