"""Which nodes fire along an interval: for the command `locus`, and for pages that ask their server.

The activations are read, or computed, in a process of its own: the user's model is imported there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.store import Store
from saeborzoi.errors import InputError, SaeBorzoiError
from saeborzoi.genome.regions import parse_region
from saeborzoi.jobs.job import Figures
from saeborzoi.settings.load import Settings, load_settings
from saeborzoi_assets.commands import tracks

PLACE = "locus"
"""Where a server of the pages answers, in the folder of all SAEs' pages."""
MAX_BP = 200_000
MAX_NODES = 12
Answer = tuple[int, dict[str, Any]]
"""HTTP status and document."""


def locus_rows(
    settings: Settings, key: str, request: Mapping[str, Any]
) -> tuple[Figures, pd.DataFrame]:
    """What the stage `locus` says of a region or FASTA: its figures; and chrom, start_bp, end_bp,
    node, activation, name of each node that fires at a position."""
    from saeborzoi.jobs.processes import available_cores
    from saeborzoi.stages.locus import TABLE
    from saeborzoi_resources.compute.once import run_once

    hyperparameters = settings.parse_key(key)
    store = Store(settings.project.store)
    sae = store.require_artifact(store.sae_artifact(key, "trained_sae"), "trained_sae", key)
    inputs = {"trained_sae": sae}
    cores = available_cores()
    with run_once(settings, "locus", hyperparameters, request, inputs, cores) as (figures, folder):
        rows = pd.read_parquet(folder / TABLE)
    names = tracks.names(Catalog(store.catalog), key)
    return figures, rows.assign(name=[names.get(node, "") for node in rows["node"].tolist()])


def answering(settings_file: Path) -> Callable[[Mapping[str, str]], Answer]:
    """What a server of the pages answers to `key` and `region`: one question at a time, as each
    starts a process; errors in words."""
    one_at_a_time = threading.Lock()

    def answer(query: Mapping[str, str]) -> Answer:
        if not one_at_a_time.acquire(blocking=False):
            return 429, {"error": "Another interval is being looked at; ask again."}
        try:
            return 200, _document(load_settings(settings_file), query)
        except SaeBorzoiError as error:
            return 400, {"error": str(error)}
        finally:
            one_at_a_time.release()

    return answer


def _document(settings: Settings, query: Mapping[str, str]) -> dict[str, Any]:
    """The `MAX_NODES` strongest nodes along the region, each with where it fires."""
    region = parse_region(query.get("region", ""))
    if region.end_bp - region.start_bp > MAX_BP:
        raise InputError(
            f"{region} is longer than {MAX_BP:,} bp, which is shown at most; shorten it"
        )
    figures, rows = locus_rows(settings, query.get("key", ""), {"region": str(region)})
    strongest = tracks.strongest(rows, MAX_NODES)
    at = dict(iter(rows.groupby("node")))
    return {
        "region": str(region),
        "start_bp": region.start_bp,
        "end_bp": region.end_bp,
        "origin": figures["origin"],
        "n_nodes": figures["n_nodes"],
        "nodes": [
            {
                "node": int(row.node),
                "start_bp": at[row.node]["start_bp"].tolist(),
                "end_bp": at[row.node]["end_bp"].tolist(),
                "activation": [float(f"{value:.4g}") for value in at[row.node]["activation"]],
            }
            for row in strongest.itertuples()
        ],
    }
