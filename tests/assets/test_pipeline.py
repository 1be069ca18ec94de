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
from saeborzoi.settings.hyperparameters import PartitionKey
from saeborzoi_assets.definitions import build_definitions
from saeborzoi_assets.partitions import HYPERPARAMETERS
from saeborzoi_assets.plan import PipelineStep, next_step, steps
from saeborzoi_resources.platform import Platform
from tests.assets.small_project import KEY, MOTIFS, N_NODES, make_small_project


class Project:
    """A project with an instance of its own, materialized in this process."""

    def __init__(self, settings_file: Path, instance: dg.DagsterInstance) -> None:
        self.settings_file = settings_file
        self.instance = instance
        self.definitions = build_definitions(settings_file)
        self.platform = Platform(settings_file=str(settings_file))
        instance.add_dynamic_partitions(HYPERPARAMETERS, [KEY])

    def materialize(self, step: PipelineStep) -> dg.ExecuteInProcessResult:
        graph = self.definitions.resolve_asset_graph()
        tags = (
            {}
            if step.first == step.last
            else {
                "dagster/asset_partition_range_start": str(step.first),
                "dagster/asset_partition_range_end": str(step.last),
            }
        )
        job = self.definitions.resolve_implicit_job_def_def_for_assets(
            [dg.AssetKey(asset) for asset in step.assets]
        )
        assert job is not None
        assert graph is not None
        return job.execute_in_process(
            instance=self.instance,
            partition_key=str(step.first) if step.first == step.last else None,
            tags=tags,
            asset_selection=[dg.AssetKey(asset) for asset in step.assets],
            raise_on_error=False,
        )

    def make(self, assets: str, first: str, last: str | None = None) -> dg.ExecuteInProcessResult:
        keys = [PartitionKey.parse(key) for key in (first, last or first)]
        return self.materialize(PipelineStep("", tuple(assets.split(",")), *keys))


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    """What the failed step says."""
    assert not result.success
    event = next(e for e in result.all_events if e.is_step_failure)
    data = event.step_failure_data
    assert data.user_failure_data is not None, data.error
    return str(data.user_failure_data.description)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project with everything materialized."""
    folder = tmp_path_factory.mktemp("project")
    settings_file = make_small_project(folder)
    with dg.DagsterInstance.ephemeral() as instance:
        project = Project(settings_file, instance)
        settings = project.platform.settings
        for step in steps(settings, settings.wanted()[0]):
            result = project.materialize(step)
            assert result.success, failure_of(result)
            for event in result.get_asset_check_evaluations():
                assert event.passed, event
        yield project


@pytest.fixture
def untouched(made: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of the made project that a test may break."""
    folder = tmp_path / "project"
    shutil.copytree(made.settings_file.parent, folder)
    with dg.DagsterInstance.ephemeral() as instance:
        yield Project(folder / made.settings_file.name, instance)


@pytest.mark.slow
def test_planted_motifs_are_found_and_named(made: Project) -> None:
    catalog = made.platform.catalog
    matches = catalog.rows("motif_match", KEY)
    named = set(matches.loc[matches["is_significant"], "target_name"])
    assert {"known0", "known1"} <= named
    motifs = catalog.rows("motif", KEY)
    consensus = " ".join(motifs.loc[motifs["is_significant"], "consensus"])
    for word in MOTIFS:
        assert word[2:-2] in consensus
    summary = catalog.frame("SELECT * FROM node_summary ORDER BY node")
    assert len(summary) == N_NODES
    best = summary[summary["target_name"] == "known0"].iloc[0]
    assert best["annotation_class"] == "mark"
    assert best["odds_ratio"] > 5


@pytest.mark.slow
def test_every_result_is_accounted_for(made: Project) -> None:
    settings, catalog = made.platform.settings, made.platform.catalog
    assert next_step(settings, catalog, settings.wanted()[0]) is None
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


@pytest.mark.slow
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
    assert sorted(runs["n"]) == [1, N_NODES - 1]


@pytest.mark.slow
def test_not_selected_is_said(made: Project) -> None:
    selection = made.platform.catalog.rows("node_selection", KEY)
    node = int(selection.loc[~selection["selected"], "node"].iloc[0])
    result = made.make("meme_motifs", f"{KEY}|n{node:04d}")
    assert result.success
    event = result.asset_materializations_for_node("meme_motifs")[0]
    assert "not selected" in str(event.metadata["state"].value)


@pytest.mark.slow
def test_a_node_that_the_sae_does_not_have_is_refused(untouched: Project) -> None:
    settings_file = untouched.settings_file
    text = settings_file.read_text()
    settings_file.write_text(text + '\n[[sae]]\nlayer = "conv"\nexpansion = 5\ntopk = 0.25\n')
    wider = Project(settings_file, untouched.instance)
    message = failure_of(wider.make("seqlets", f"{KEY}|n0012"))
    assert "has 12 nodes, n0000 ... n0011; there is no n0012" in message


@pytest.mark.slow
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


@pytest.mark.slow
def test_what_is_missing_upstream_is_named(untouched: Project) -> None:
    shutil.rmtree(untouched.platform.store.root)
    assert "normalization_constants of conv is not made yet" in failure_of(
        untouched.make("trained_sae", KEY)
    )
    assert f"dagster asset materialize --select top_activations --partition '{KEY}'" in failure_of(
        untouched.make("seqlets", f"{KEY}|n0000")
    )


@pytest.mark.slow
def test_a_store_that_cannot_be_written_is_refused(untouched: Project) -> None:
    root = untouched.platform.store.root
    shutil.rmtree(root)
    root.write_text("a file where the folder should be")
    message = failure_of(untouched.make("normalization_constants", "conv"))
    assert "cannot be written" in message
    assert "[project] store" in message


@pytest.mark.slow
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
