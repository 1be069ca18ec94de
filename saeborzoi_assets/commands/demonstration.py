"""The demo from nothing to a table: make its data, materialize everything, compare."""

import importlib
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd

from saeborzoi.catalog.catalog import Catalog
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
from saeborzoi.jobs.processes import end_with_parent
from saeborzoi.pipeline import ARTIFACT, STAGES
from saeborzoi.settings.load import load_settings
from saeborzoi.worker import Reporter
from saeborzoi_assets.commands.progress import Display
from saeborzoi_assets.commands.runner import plan, run
from saeborzoi_assets.lacking import Range
from saeborzoi_resources.compute.warm import warm_workers
from saeborzoi_resources.platform import available_cores

_STAGES = [stage for stage in STAGES if not ARTIFACT[stage].needs]
"""Jobs of the demo's settings."""
_NEEDED = (
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
        ProcessPoolExecutor(1, get_context("spawn"), end_with_parent) as beside,
        warm_workers(_STAGES, available_cores()),
    ):
        making = beside.submit(make_demo, folder, Reporter())
        for module in _NEEDED:
            importlib.import_module(module)
        settings_file = making.result()
        untrained = beside.submit(judge_untrained, folder / DATA, settings_file)
        settings = load_settings(settings_file)
        saes = settings.wanted()
        planned = plan(settings_file, saes, Range())
        print(planned.text(), flush=True)
        outcome = run(settings_file, settings, saes, display=display, planned=planned)
    for line in outcome.lines():
        print(line, flush=True)
    if outcome.failures or outcome.is_stopped:
        return outcome.exit_code
    key = saes[0].key
    store = Store(settings.project.store)
    catalog = Catalog(store.catalog)
    selection = catalog.rows("node_selection", key)
    selected = selection.loc[selection["selected"], "node"].tolist()
    truth = read_planted(folder / DATA)
    seqlets = catalog.rows("seqlet", key, "node, chrom, start_bp, end_bp", nodes=selected)
    table = recovery_table(
        *truth,
        seqlets,
        catalog.rows("motif", key),
        catalog.rows("supported_match", key),
    )
    print(f"\nPlanted motifs and what was found for them ({key}):\n")
    print(recovery_text(table))
    print("\nWhat the nodes are, by where they fire (no names looked at):\n")
    print(
        precision_text(
            judge(*truth, seqlets),
            untrained.result(),
            pd.Index(catalog.rows("supported_motif", key, "node")["node"]),
            pd.Index(catalog.rows("best_match", key, "node")["node"]),
            catalog.rows("unmatched_node", key),
        )
    )
    print(f"in {time.monotonic() - start:.0f} s")
    print(_NEXT.format(saeborzoi=_own_command(), catalog=store.catalog, settings=settings_file))
    return 0 if table["is_right"].mean() >= 0.9 else 1


def _own_command() -> str:
    """How a reader calls the command of this environment."""
    command = Path(sys.executable).with_name("saeborzoi")
    on_path = shutil.which("saeborzoi")
    if not command.exists() or (on_path is not None and command.samefile(on_path)):
        return "saeborzoi"
    here = Path.cwd()
    return str(command.relative_to(here) if command.is_relative_to(here) else command)
