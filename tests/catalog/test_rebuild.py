"""A catalogue is made again from the artifacts alone, equal to what it was, or from a copy."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.rebuild import backup, rebuild, restore
from saeborzoi.catalog.rows import RECORD, reseal
from saeborzoi.catalog.schema import TABLES
from saeborzoi.catalog.scope import Made, Scope
from saeborzoi.catalog.store import Store
from saeborzoi.errors import CatalogError
from saeborzoi.jobs.fingerprint import digest_of
from saeborzoi.jobs.provenance import read_sealed, write_artifact, write_sealed

KEY = "conv_x3_k0.25_lr0.003_s0"
OTHER = "conv_x3_k0.25_lr0.003_s1"
_VALUES: dict[str, list[Any]] = {
    "INTEGER": [1, 2],
    "BIGINT": [2**40, 3],
    "REAL": [np.float32(0.1), np.float32(3)],
    "DOUBLE": [0.1, np.nan],
    "BOOLEAN": [True, False],
    "VARCHAR": ["ü|'", None],
    "TIMESTAMP WITH TIME ZONE": [pd.Timestamp("2026-01-31 12:00", tz="UTC")] * 2,
    "DOUBLE[]": [[0.1, 2.0], [1e-300]],
    "BIGINT[]": [[1, 2], [3]],
    "DOUBLE[][]": [[[0.25] * 4] * 2, [[1.0, 0.0, 0.0, 0.0]]],
}


def _frame(table: str, key_start: int = 0, nodes: tuple[int, ...] = (0, 1)) -> pd.DataFrame:
    """Two rows of a table, or one a node, without the scope's own column."""
    columns = next(t for t in TABLES if t.name == table).columns
    key = next(t for t in TABLES if t.name == table).key
    frame = {}
    for column in columns:
        values = _VALUES[column.type]
        if column.name in ("hyperparameters", "layer") and column.name == key[0]:
            continue
        if column.name == "node":
            values = list(nodes)
        elif column.name in key:
            values = (
                [f"{column.name}{i}" for i in range(2)]
                if column.type == "VARCHAR"
                else [key_start + i for i in range(2)]
            )
        frame[column.name] = [values[i % len(values)] for i in range(len(nodes))]
    return pd.DataFrame(frame)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """Every kind of artifact: of a layer, of SAEs, of the project, batches of nodes of which one
    is partly replaced and one removed in part."""
    store = Store(tmp_path / "store")
    catalog = Catalog(store.catalog)

    def record(folder: Path, asset: str, scope: Scope, files: list[str], tables: list[str]) -> None:
        nodes = scope.nodes or (0, 1)
        frames = {table: _frame(table, nodes=nodes) for table in tables}
        with write_artifact(folder, "v", {"job": None}) as new:
            for name in files:
                frames[name].to_parquet(new / f"{name}.parquet", index=False)
        made = Made(
            asset, f"run of {asset}", "1", "v", folder, {"files": "x1", "settings": {"k": [1]}}
        )
        catalog.replace(made, scope, frames)

    layer = store.layer_artifact("conv", "normalization_constants")
    name = "channel_normalization"
    record(layer, "normalization_constants", Scope(layer="conv"), [name], [name])
    for key in (KEY, OTHER):
        of_sae = Scope(sae_key=key)
        trained = store.sae_artifact(key, "trained_sae")
        record(trained, "trained_sae", of_sae, ["training_log"], ["training_log"])
        top = store.sae_artifact(key, "top_activations")
        record(top, "top_activations", of_sae, [], ["node"])
        record(store.browser / key, "feature_browser", of_sae, [], [])
    for nodes, run in (((0, 1, 2), "a"), ((1,), "b"), ((5, 6), "c")):
        scope = Scope(sae_key=KEY, nodes=nodes)
        folder = store.batch(KEY, "meme_motifs", nodes, "v", run)
        record(folder, "meme_motifs", scope, ["motif"], ["motif"])
    catalog.remove(Scope(sae_key=KEY, nodes=(5,)))
    project = store.project_artifact("sae_comparison")
    record(project, "sae_comparison", Scope(), ["sae_stability"], ["sae_stability"])
    return catalog


def _everything(catalog: Catalog) -> dict[str, pd.DataFrame]:
    with catalog.kept_open():
        return {
            table.name: catalog.whole(table.name).sort_values(list(table.key), ignore_index=True)
            for table in TABLES
        }


def _require_equal(before: dict[str, pd.DataFrame], after: dict[str, pd.DataFrame]) -> None:
    assert sum(len(frame) > 0 for frame in before.values()) >= 6
    for name, frame in before.items():
        pd.testing.assert_frame_equal(frame, after[name], obj=name)


def test_a_rebuilt_catalogue_equals_what_it_was(catalog: Catalog) -> None:
    before = _everything(catalog)
    content = bytearray(catalog.path.read_bytes())
    content[: len(content) // 2] = bytes(len(content) // 2)
    catalog.path.write_bytes(content)
    with pytest.raises(CatalogError, match=r"is damaged.*catalogue rebuild`.*catalogue restore"):
        catalog.whole("node")
    rebuilt = rebuild(catalog)
    assert rebuilt.problems == ()
    assert rebuilt.former is not None
    assert rebuilt.former.read_bytes() == content
    _require_equal(before, _everything(catalog))


def test_records_of_an_earlier_release_are_read(catalog: Catalog) -> None:
    """They call the SAE's key and some columns by other names."""
    before = _everything(catalog)
    for record in catalog.path.parent.rglob(RECORD):
        document = read_sealed(record)
        document["scope"]["hyperparameters"] = document["scope"].pop("sae_key")
        motifs = record.with_name("motif.parquet")
        if motifs.exists():
            frame = pd.read_parquet(motifs).rename(columns={"suspect": "artefact"})
            frame.to_parquet(motifs, index=False)
            document["files"]["motif"]["xxh3"] = digest_of(motifs)
        write_sealed(record, document)
    assert rebuild(catalog).problems == ()
    _require_equal(before, _everything(catalog))


def test_a_store_without_its_catalogue_is_made_whole_wherever_it_lies(
    catalog: Catalog, tmp_path: Path
) -> None:
    before = _everything(catalog)
    catalog.path.unlink()
    (tmp_path / "store").rename(tmp_path / "moved")
    moved = Catalog(tmp_path / "moved" / "catalog.duckdb")
    assert rebuild(moved).former is None
    _require_equal(before, _everything(moved))


def test_what_cannot_be_read_is_left_out_and_named(catalog: Catalog) -> None:
    store = Store(catalog.path.parent)
    damaged = store.sae_artifact(OTHER, "trained_sae") / "training_log.parquet"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 4
    damaged.write_bytes(content)
    unrecorded = store.sae_artifact(KEY, "umap_embedding")
    with write_artifact(unrecorded, "v", {"job": None}):
        pass
    rebuilt = rebuild(catalog)
    assert len(rebuilt.problems) == 2
    assert any(str(damaged) in text and "--select trained_sae" in text for text in rebuilt.problems)
    assert any(f"{unrecorded}: has no record" in text for text in rebuilt.problems)
    assert catalog.rows("training_log", OTHER).empty
    assert len(catalog.rows("training_log", KEY)) == 2


def test_pages_of_the_first_release_are_named_as_left_out(catalog: Catalog) -> None:
    """They have neither a record nor a provenance, and were left out in silence."""
    pages = Store(catalog.path.parent).browser / "conv_x9_k0.25_lr0.003_s0"
    pages.mkdir()
    (pages / "index.html").write_text("")
    (problem,) = rebuild(catalog).problems
    assert f"{pages}: has no record" in problem
    assert "run conv_x9_k0.25_lr0.003_s0 --select feature_browser" in problem


def test_a_record_from_before_a_column_came_is_taken(catalog: Catalog) -> None:
    """One record that does not fit must not cost the whole catalogue, either."""
    motifs = catalog.whole("motif")
    folder = Store(catalog.path.parent).sae_artifact(OTHER, "trained_sae")
    _rewrite(folder, lambda frame: frame.drop(columns="fvu"))
    assert rebuild(catalog).problems == ()
    assert catalog.rows("training_log", OTHER)["fvu"].isna().all()
    _rewrite(folder, lambda frame: frame.drop(columns="step"))
    (problem,) = rebuild(catalog).problems
    assert "columns missing ['step']" in problem
    assert "--select trained_sae" in problem
    pd.testing.assert_frame_equal(catalog.whole("motif"), motifs)


def _rewrite(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Change an artifact's table on purpose, as an earlier release would have written it."""
    file = folder / "training_log.parquet"
    change(pd.read_parquet(file)).to_parquet(file, index=False)
    reseal(folder)


def test_a_copy_is_brought_back_with_its_last_write(catalog: Catalog, tmp_path: Path) -> None:
    before = _everything(catalog)
    copy = tmp_path / "copies" / "monday.duckdb"
    backup(catalog, copy)
    catalog.remove(Scope(sae_key=KEY))
    with pytest.raises(CatalogError, match="is the catalogue itself"):
        backup(catalog, catalog.path)
    former = restore(catalog, copy)
    assert former is not None
    _require_equal(before, _everything(catalog))
    assert Catalog(former).rows("node", KEY).empty


def test_a_damaged_copy_is_refused_and_changes_nothing(catalog: Catalog, tmp_path: Path) -> None:
    before = _everything(catalog)
    copy = tmp_path / "copy.duckdb"
    copy.write_bytes(b"no database" * 1000)
    with pytest.raises(CatalogError, match=r"copy\.duckdb is damaged"):
        restore(catalog, copy)
    with pytest.raises(CatalogError, match="no such file"):
        restore(catalog, tmp_path / "nowhere")
    _require_equal(before, _everything(catalog))
    assert not list(catalog.path.parent.glob(".catalog*"))


def test_one_flipped_byte_is_told_in_one_line_or_changes_nothing(catalog: Catalog) -> None:
    before = _everything(catalog)
    content = catalog.path.read_bytes()
    rng, n_told = random.Random(0), 0
    for _ in range(30):
        damaged = bytearray(content)
        damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        catalog.path.write_bytes(damaged)
        message = None
        try:
            after = _everything(catalog)
        except CatalogError as error:
            message = str(error)
        if message is None:
            _require_equal(before, after)
        else:
            n_told += 1
            assert "saeborzoi catalogue rebuild" in message
            assert "\n" not in message
    assert n_told > 0
