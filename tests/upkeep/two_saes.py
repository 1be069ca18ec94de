"""A store with rows, artifacts, pages, work and jobs of two SAEs, for the tests of cleaning."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.scope import Made, Scope
from saeborzoi.catalog.store import Store
from saeborzoi.settings.load import load_settings
from saeborzoi_resources.upkeep import cleaning, orphans

KEY = "conv1d_1_x4_k0.05_lr0.003_s1"
LONGER = "conv1d_1_x4_k0.05_lr0.003_s10"
_SETTINGS = """
[project]
name = "test"
[data]
genome = "genome.fa"
[[layer]]
name = "conv1d_1"
n_channels = 608
bp_per_position = 2
train = { shards = "shards", windows = "train_seqs.bed" }
[[sae]]
layer = "conv1d_1"
seed = 1
"""
OLD = 3 * orphans.DAY_S


class Project:
    """A store with two SAEs, one key the beginning of the other."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "dagster_project.toml"
        self.file.write_text(_SETTINGS)
        self.settings = load_settings(self.file)
        self.store = Store(self.settings.project.store)
        self.catalog = Catalog(self.store.catalog)
        for key in (KEY, LONGER):
            self.make(key, "umap_embedding")
            self.put(self.store.work(key, "trained_sae") / "checkpoint")
            self.put(self.store.browser / key / "index.html")
            self.put(self.store.jobs / f"trained_sae-{key}-0123456789abcdef" / "log.txt")
            self.put(self.store.jobs / f"seqlets-{key}-n0000-n0003.0a1b2c3d-0123" / "log.txt")

    def make(self, key: str, asset: str) -> Path:
        artifact = self.store.sae_artifact(key, asset)
        self.put(artifact / "table.parquet")
        rows = pd.DataFrame(
            {"node": [0, 1], "umap_1": 0.0, "umap_2": 0.0, "cluster": 0, "motif_family": 0}
        )
        rows["motif_family"] = None
        self.catalog.replace(
            Made(asset, "run", "1", "v", artifact),
            Scope(sae_key=key),
            {"node_embedding": rows} if asset == "umap_embedding" else {},
        )
        return artifact

    def put(self, path: Path, text: str = "12345") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def files(self) -> list[str]:
        return sorted(
            str(path.relative_to(self.store.root))
            for path in self.store.root.rglob("*")
            if path.is_file() and not path.name.startswith("catalog.duckdb")
        )

    def plan(self, target: str = KEY, nodes: Collection[int] | None = None) -> cleaning.Removal:
        return cleaning.plan_removal(self.settings, self.store, self.catalog, target, nodes)

    def batch(self, key: str, asset: str, nodes: Sequence[int], tables: Sequence[str]) -> Path:
        """A catalogued batch of nodes: two rows a node in each table's file."""
        folder = self.store.batch(key, asset, nodes, "v", "run")
        folder.mkdir(parents=True, exist_ok=True)
        for table in tables:
            frame = pd.DataFrame({"node": np.repeat(np.asarray(nodes, np.int32), 2), "x": 0.5})
            frame.to_parquet(folder / f"{table}.parquet", index=False)
        (folder / "provenance.json").write_text("{}")
        made = Made(asset, "run", "1", "v", folder)
        self.catalog.replace(made, Scope(sae_key=key, nodes=tuple(nodes)), {})
        return folder

    def leftovers(self, age_s: float = OLD) -> dict[str, str]:
        """Path to why, as seen `age_s` from now."""
        now = self.file.stat().st_mtime + age_s
        orphaned = orphans.orphans(self.store, self.catalog, now)
        return {
            str(each.path.relative_to(self.store.root)): each.why for each in orphaned.leftovers
        }
