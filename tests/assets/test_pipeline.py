"""The whole graph through Dagster on a small project, and what a user does wrong."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import h5py
import numpy as np
import pandas as pd
import pytest

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.rebuild import rebuild
from saeborzoi.catalog.schema import TABLES
from saeborzoi.settings.load import FILE_NAME
from saeborzoi_assets.plan import next_step
from tests.assets.small_project import KEY, MOTIFS, N_NODES
from tests.made_project import Project, failure_of


@pytest.fixture
def made(made_project: Path) -> Iterator[Project]:
    """The made project, to read."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield Project(made_project / FILE_NAME, instance)


@pytest.fixture
def untouched(made_project: Path, tmp_path: Path) -> Iterator[Project]:
    """A copy of the made project that a test may break."""
    folder = tmp_path / "project"
    shutil.copytree(made_project, folder)
    with dg.DagsterInstance.ephemeral() as instance:
        yield Project(folder / FILE_NAME, instance)


def test_planted_motifs_are_found_and_named(made: Project) -> None:
    catalog = made.platform.catalog
    matches = catalog.rows("motif_match", KEY)
    named = set(matches.loc[matches["is_significant"], "target_name"])
    assert {"known0", "known1"} <= named
    motifs = catalog.rows("motif", KEY)
    consensus = " ".join(motifs.loc[motifs["is_significant"], "consensus"])
    for word in MOTIFS:
        assert word[2:-2] in consensus
    summary = catalog.rows("node_summary", KEY)
    assert len(summary) == N_NODES
    best = summary[summary["target_name"] == "known0"].iloc[0]
    assert best["annotation_class"] == "mark"
    assert best["odds_ratio"] > 5


def test_every_result_is_accounted_for(made: Project) -> None:
    settings, catalog = made.platform.settings, made.platform.catalog
    lacking = next_step(settings, catalog, settings.wanted()[0])
    assert lacking is not None
    assert lacking.name == "pages"
    made_rows = catalog.frame("SELECT * FROM materialization")
    assert made_rows["run_id"].str.len().gt(0).all()
    for artifact in set(made_rows["artifact"]):
        documents = [
            made.platform.store.root / artifact / name
            for name in ("provenance.json", "manifest.json")
        ]
        assert any(document.is_file() for document in documents), artifact
    nodes = made_rows[made_rows["asset"] == "seqlets"]["node"]
    assert sorted(nodes) == list(range(N_NODES))
    selection = catalog.rows("node_selection", KEY)
    assert selection["reason"].isna().equals(selection["selected"])
    assert 0 < selection["selected"].sum() < N_NODES


def test_one_node_again_leaves_the_catalogue_the_same(untouched: Project) -> None:
    catalog = untouched.platform.catalog
    tables = ("seqlet", "motif", "motif_match", "node_selection")
    before = {table: catalog.rows(table, KEY) for table in tables}
    node = int(before["motif"]["node"].iloc[0])
    result = untouched.make("seqlets,meme_motifs,tomtom_matches", f"{KEY}|n{node:04d}")
    assert result.success
    for table in tables:
        after = catalog.rows(table, KEY)
        assert after.astype(str).equals(before[table].astype(str)), table
    runs = catalog.frame(
        "SELECT run_id, count(*) AS n FROM materialization WHERE asset = 'seqlets' GROUP BY ALL"
    )
    assert min(runs["n"]) == 1
    assert sum(runs["n"]) == N_NODES


def test_not_selected_is_said(untouched: Project) -> None:
    selection = untouched.platform.catalog.rows("node_selection", KEY)
    node = int(selection.loc[~selection["selected"], "node"].iloc[0])
    result = untouched.make("meme_motifs", f"{KEY}|n{node:04d}")
    assert result.success
    event = result.asset_materializations_for_node("meme_motifs")[0]
    assert "not selected" in str(event.metadata["state"].value)


def test_a_node_that_the_sae_does_not_have_is_refused(untouched: Project) -> None:
    settings_file = untouched.settings_file
    text = settings_file.read_text()
    settings_file.write_text(text + '\n[[sae]]\nlayer = "conv"\nexpansion = 5\ntopk = 0.25\n')
    wider = Project(settings_file, untouched.instance)
    message = failure_of(wider.make("seqlets", f"{KEY}|n0012"))
    assert "has 12 nodes, n0000 ... n0011; there is no n0012" in message


def test_bad_activations_cost_no_earlier_result(untouched: Project) -> None:
    folder = untouched.settings_file.parent
    before = untouched.platform.catalog.rows("sae", KEY)
    with h5py.File(folder / "train" / "activations_1.h5", "a") as file:
        file["x"][3, 300, 2] = np.nan
    message = failure_of(untouched.make("trained_sae", KEY))
    assert "activations_1.h5" in message
    assert "row 3" in message
    assert untouched.platform.catalog.rows("sae", KEY).equals(before)
    assert (untouched.platform.store.sae_artifact(KEY, "trained_sae") / "sae.safetensors").exists()


def test_what_is_missing_upstream_is_named(untouched: Project) -> None:
    shutil.rmtree(untouched.platform.store.root)
    assert "normalization_constants of conv is not made yet" in failure_of(
        untouched.make("trained_sae", KEY)
    )
    assert f"saeborzoi run {KEY} --select top_activations" in failure_of(
        untouched.make("seqlets", f"{KEY}|n0000")
    )


def test_a_store_that_cannot_be_written_is_refused(untouched: Project) -> None:
    root = untouched.platform.store.root
    shutil.rmtree(root)
    root.write_text("a file where the folder should be")
    message = failure_of(untouched.make("normalization_constants", "conv"))
    assert "cannot be written" in message
    assert "[project] store" in message


def test_the_catalogue_of_a_whole_project_is_made_again_equal(
    made: Project, tmp_path: Path
) -> None:
    store = tmp_path / "elsewhere"
    shutil.copytree(made.platform.store.root, store)
    (store / "catalog.duckdb").unlink()
    copy = Catalog(store / "catalog.duckdb")
    assert rebuild(copy).problems == ()
    for table in TABLES:
        order = list(table.key)
        before = made.platform.catalog.whole(table.name).sort_values(order, ignore_index=True)
        after = copy.whole(table.name).sort_values(order, ignore_index=True)
        pd.testing.assert_frame_equal(before, after, obj=table.name)
