"""Runs over nodes of one SAE at once never remove each other's batches."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pandas as pd
import pytest

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.scope import Made, Scope
from saeborzoi.catalog.store import Store
from saeborzoi.jobs.provenance import write_artifact

KEY = "conv_x3_k0.25_lr0.003_s0"
ASSETS = ("seqlets", "meme_motifs", "tomtom_matches")


def _work(root: str, number: int, rounds: int) -> None:
    """Write and catalogue a node of this process's own and one that all have, again and again."""
    store = Store(Path(root))
    catalog = Catalog(store.catalog)
    for each in range(rounds):
        for asset in ASSETS:
            for nodes in ((number,), (99,), (number, 99)):
                folder = store.batch(KEY, asset, nodes, "v", f"{number}-{each}-{len(nodes)}")
                with write_artifact(folder, "v", {"job": None}) as new:
                    pd.DataFrame({"node": nodes}).to_parquet(new / "rows.parquet")
                made = Made(asset, "run", "1", "v", folder)
                catalog.replace(made, Scope(sae_key=KEY, nodes=nodes), {})


@pytest.mark.parametrize(
    ("n_processes", "rounds"), [(3, 2), pytest.param(8, 4, marks=pytest.mark.slow)]
)
def test_no_row_stands_on_a_missing_folder_and_none_is_left_over(
    tmp_path: Path, n_processes: int, rounds: int
) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [
        spawn.Process(target=_work, args=(str(tmp_path), i, rounds)) for i in range(n_processes)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * n_processes
    store = Store(tmp_path)
    for asset in ASSETS:
        standing = Catalog(store.catalog).artifacts(asset, KEY)
        assert all((folder / "rows.parquet").exists() for folder in standing)
        assert set(store.sae_artifact(KEY, asset).iterdir()) == set(standing)
        made = Catalog(store.catalog).partitions_made(asset, KEY)
        assert len(made) == n_processes + 1
