"""The asset `feature_browser`: pages from the catalogue as it stands, and the list of SAEs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from saeborzoi.catalog.schema import TABLE
from saeborzoi.catalog.scope import Made, Scope
from saeborzoi.jobs.provenance import write_artifact
from saeborzoi.settings.hyperparameters import PartitionKey
from saeborzoi_assets.assets import feature_browser
from saeborzoi_assets.partitions import HYPERPARAMETERS, Partitions
from saeborzoi_resources.platform import Platform
from tests.browser.made_tables import KEY, make

SETTINGS = """
[project]
name = "made"
[data]
genome = "hg38.fa"
[[data.motif_database]]
name = "JASPAR2024"
source = "known.meme"
[[layer]]
name = "conv1d_1"
n_channels = 32
bp_per_position = 2
[layer.train]
shards = "shards"
windows = "windows.bed"
[[sae]]
layer = "conv1d_1"
"""
N_NODES = 128


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    """A project whose catalogue and decoder are made, all but its pages."""
    (tmp_path / "dagster_project.toml").write_text(SETTINGS)
    platform = Platform(settings_file=str(tmp_path / "dagster_project.toml"))
    trained = platform.store.sae_artifact(KEY, "trained_sae")
    with write_artifact(trained, "v", {}) as folder:
        made = make(N_NODES, n_seqlets=12, n_channels=32, folder=folder)
    (tmp_path / "known.meme").write_text(
        "MEME version 4\n\nALPHABET= ACGT\n"
        + "".join(
            f"\nMOTIF {target}\nletter-probability matrix: alength= 4 w= {len(matrix)} nsites= 20\n"
            + "\n".join(" ".join(f"{p:.6f}" for p in row) for row in matrix)
            + "\n"
            for (_, target), matrix in made.database.items()
        )
    )
    groups = {
        "trained_sae": ("sae", "training_log"),
        "top_activations": ("node",),
        "umap_embedding": ("node_embedding", "embedding_cluster"),
        "annotation_overlaps": ("annotation_overlap",),
        "jaccard_matrix": ("node_jaccard",),
        "node_effects": ("node_effect",),
        "seqlets": ("node_selection", "seqlet"),
        "meme_motifs": ("motif",),
        "tomtom_matches": ("motif_match",),
    }
    by_node = ("seqlets", "meme_motifs", "tomtom_matches")
    for asset, names in groups.items():
        scope = Scope(sae_key=KEY, nodes=tuple(range(N_NODES)) if asset in by_node else None)
        tables = {name: made.tables[name].reindex(columns=columns_of(name)) for name in names}
        platform.catalog.replace(Made(asset, "run", "1", "v", tmp_path), scope, tables)
    return platform


def columns_of(table: str) -> list[str]:
    """Columns of a catalogue table but the SAE's; what the made tables lack is NULL."""
    return [column.name for column in TABLE[table].columns if column.name != HYPERPARAMETERS]


def materialize(platform: Platform) -> Any:
    asset = feature_browser.build(Partitions.of(platform.settings))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(HYPERPARAMETERS, [KEY])
        return dg.materialize(
            [asset],
            partition_key=KEY,
            instance=instance,
            resources={"platform": platform},
            raise_on_error=False,
        )


def test_pages_are_made_from_the_catalogue(platform):
    result = materialize(platform)
    assert result.success
    assert all(check.passed for check in result.get_asset_check_evaluations())
    folder = platform.store.browser / KEY
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["n_nodes"] == N_NODES
    assert manifest["assembly"] == "hg38"
    lacking = {name for name, is_computed in manifest["computed"].items() if not is_computed}
    not_made = {
        "concept_score", "node_profile", "seqlet_activation", "node_variant", "unmatched_node",
    }  # fmt: skip
    assert lacking == not_made, "nobody made them here"
    assert manifest["nodes_by_state"]["dead"] == 5
    assert "pending" not in manifest["nodes_by_state"]
    # every target of the database that a node matches has its matrix for the alignment
    targets = (folder / "data/targets.js").read_text()
    assert "null" not in targets
    metadata = result.asset_materializations_for_node("feature_browser")[0].metadata
    assert metadata["pages"].value == str(folder / "index.html")
    assert platform.catalog.partitions_made("feature_browser", KEY) == {PartitionKey(KEY)}
    listed = (platform.store.browser / "start-data.js").read_text()
    assert f'"href":"{KEY}/index.html"' in listed
    assert '"n_nodes_with_match":' in listed


def test_made_again_the_pages_are_the_same_but_for_their_time_and_run(platform):
    materialize(platform)
    folder = platform.store.browser / KEY
    before = {path.name: path.read_bytes() for path in (folder / "data").glob("nodes-*")}
    materialize(platform)
    assert {path.name: path.read_bytes() for path in (folder / "data").glob("nodes-*")} == before


def test_without_a_trained_sae_it_says_what_to_materialize(platform):
    shutil.rmtree(platform.store.sae_artifact(KEY, "trained_sae"))
    result = materialize(platform)
    assert not result.success
    event = next(event for event in result.all_events if event.is_step_failure)
    assert "materialize it first" in event.step_failure_data.user_failure_data.description
