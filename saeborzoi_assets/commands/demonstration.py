"""The demo from nothing to a table: make its data, materialize everything, compare.

What takes long to import is imported in the functions: the processes that take longest are started
first.
"""

from __future__ import annotations

import importlib
import multiprocessing
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from saeborzoi.catalog.store import Store
from saeborzoi.demo import (
    DATA,
    judge,
    judge_untrained,
    make_demo,
    precision_text,
    read_planted,
    recovery_table,
    recovery_text,
)
from saeborzoi.jobs.processes import available_cores, end_with_parent, unheard
from saeborzoi.pipeline import ARTIFACT, STAGES
from saeborzoi.settings.load import load_settings
from saeborzoi.worker import Reporter
from saeborzoi_resources.compute.warm import warm_workers

if TYPE_CHECKING:
    from saeborzoi_assets.commands.progress import Display
    from saeborzoi_assets.commands.runner import Outcome

_STAGES = [stage for stage in STAGES if not ARTIFACT[stage].needs]
"""Jobs of the demo's settings."""
_NEEDED = (
    "saeborzoi_assets.commands.runner",
    "saeborzoi_assets.commands.instance",
    "saeborzoi_assets.commands.launch",
    "saeborzoi_assets.assets.input_files",
)
"""What this process imports to run them."""


_NEXT = """
What next:
  {saeborzoi} ui       Dagster's web interface on this project: http://127.0.0.1:3000
  {saeborzoi} browse   the feature browser: a page for each node
  {saeborzoi} report   one HTML file of everything, for others
  {saeborzoi} query "FROM transcription_factor"   the catalogue, or: duckdb {catalog}
  {settings}   the settings to start your own project from
"""


def demonstrate(folder: Path, display: Display | None = None) -> int:
    """Make the demo in a folder, run it through Dagster, print what was planted and found.

    Parameters
    ----------
    folder
        As `make_demo` takes it.
    display
        Of the run.

    Returns
    -------
    int
        Exit code: 0 where at least 90 % of the planted motifs are recovered and rightly named.
    """
    start = time.monotonic()
    # one process makes the data, then looks at the untrained dictionary while this one waits for
    # jobs; the jobs' workers and this process load their libraries meanwhile
    with (
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), end_with_parent) as beside,
        warm_workers(_STAGES, available_cores()),
    ):
        with unheard():
            making = beside.submit(make_demo, folder, Reporter())
        try:
            for module in _NEEDED:
                importlib.import_module(module)
            settings_file = making.result()
        except KeyboardInterrupt:
            for process in multiprocessing.active_children():
                process.kill()  # the data it makes are made anew
            raise
        untrained = beside.submit(judge_untrained, folder / DATA, settings_file)
        outcome = _materialize(settings_file, display)
        for line in outcome.lines():
            print(line, flush=True)
        if outcome.failures or outcome.is_stopped:
            return outcome.exit_code
        is_right = _compare(folder, settings_file, untrained.result())
    print(f"in {time.monotonic() - start:.0f} s")
    catalog = Store(load_settings(settings_file).project.store).catalog
    print(_NEXT.format(saeborzoi=_own_command(), catalog=catalog, settings=settings_file))
    return 0 if is_right else 1


def _materialize(settings_file: Path, display: Display | None) -> Outcome:
    from saeborzoi_assets.commands.runner import plan, run
    from saeborzoi_assets.lacking import Range

    settings = load_settings(settings_file)
    saes = settings.wanted()
    planned = plan(settings_file, saes, Range())
    print(planned.text(), flush=True)
    return run(settings_file, settings, saes, display=display, planned=planned)


def _compare(folder: Path, settings_file: Path, untrained: pd.DataFrame) -> bool:
    """Print what was planted and what was found; whether nearly all of it was."""
    from saeborzoi.catalog.catalog import Catalog

    settings = load_settings(settings_file)
    key = settings.wanted()[0].key
    catalog = Catalog(Store(settings.project.store).catalog)
    truth = read_planted(folder / DATA)
    with catalog.kept_open():
        selection = catalog.rows("node_selection", key)
        selected = selection.loc[selection["selected"], "node"].tolist()
        seqlets = catalog.rows("seqlet", key, "node, chrom, start_bp, end_bp", nodes=selected)
        motifs, matches = catalog.rows("motif", key), catalog.rows("supported_match", key)
        with_motif = catalog.rows("supported_motif", key, "node")["node"]
        with_match = catalog.rows("best_match", key, "node")["node"]
        unmatched = catalog.rows("unmatched_node", key)
    table = recovery_table(*truth, seqlets, motifs, matches)
    print(f"\nPlanted motifs and what was found for them ({key}):\n")
    print(recovery_text(table))
    print("\nWhat the nodes are, by where they fire (no names looked at):\n")
    verdicts = judge(*truth, seqlets), untrained
    print(precision_text(*verdicts, pd.Index(with_motif), pd.Index(with_match), unmatched))
    return bool(table["is_right"].mean() >= 0.9)


def _own_command() -> str:
    """How a reader calls the command of this environment."""
    command = Path(sys.executable).with_name("saeborzoi")
    on_path = shutil.which("saeborzoi")
    if not command.exists() or (on_path is not None and command.samefile(on_path)):
        return "saeborzoi"
    here = Path.cwd()
    return str(command.relative_to(here) if command.is_relative_to(here) else command)
