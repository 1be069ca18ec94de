"""Fidelity and effects of nodes through Dagster, on a small network whose tracks read its words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
import torch

import saeborzoi
from saeborzoi.errors import InputError
from saeborzoi.jobs.provenance import write_artifact
from saeborzoi.sae.checkpoint import save_checkpoint
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.settings.hyperparameters import PartitionKey
from saeborzoi_assets.costs import Costs
from saeborzoi_assets.lacking import work_of
from saeborzoi_assets.partitions import HYPERPARAMETERS
from saeborzoi_resources.upkeep.trace import trace
from tests.assets.small_project import MOTIFS, N_NODES, make_small_project
from tests.made_project import Project, failure_of, put_rows

KEY = "conv_x3_k0.5_lr0.003_s0"
"""Two active nodes a position: with one there would be no other to compare with."""

_MODEL = f"""
[model]
loader = "tests.effects.nets:small"
arguments = {{ words = {list(MOTIFS)} }}
[effects]
n_loci = 12
n_sequences = 16
n_controls = 2
[compute.profile.node_effects]
sae_nodes_per_job = 2
"""
_MODULE = 'seqlet_width_bp = 16\nmodule = "pool"'


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A live layer, and an SAE as training would leave it: a node for each channel."""
    settings_file = make_small_project(tmp_path_factory.mktemp("effects"))
    text = settings_file.read_text().replace("seqlet_width_bp = 16", _MODULE)
    text = text.replace('shards = "train", ', "").replace("topk = 0.25", "topk = 0.5")
    settings_file.write_text(text + _MODEL)
    with dg.DagsterInstance.ephemeral() as instance:
        project = Project(settings_file, instance)
        instance.add_dynamic_partitions(HYPERPARAMETERS, [KEY])
        put_sae(project)
        yield project


def put_sae(project: Project) -> None:
    """Write the SAE, and which nodes are selected: those of a channel."""
    platform = project.platform
    sae = SparseAutoencoder(4, N_NODES, 2)
    # four more fire with them and hardly add anything: controls; the last four never fire
    directions = torch.zeros(N_NODES, 4)
    directions[:4] = torch.nn.functional.normalize(torch.eye(4) - 0.25)
    directions[4:8] = 0.1 * directions[:4]
    sae.encoder_weight.data.copy_(directions)
    sae.decoder_weight.data.copy_(directions)
    trained = platform.store.sae_artifact(KEY, "trained_sae")
    with write_artifact(trained, "v", {}) as folder:
        save_checkpoint(sae, folder)
    rows = {
        "node": range(N_NODES),
        "selected": [node < 4 for node in range(N_NODES)],
        "n_seqlets": 1,
        "n_strong": 1,
        "n_dropped": 0,
    }
    selection = pd.DataFrame({**rows, "reason": None})
    one = {"layer": "conv", "n_channels": 4, "n_nodes": N_NODES, "k": 2}
    for asset, nodes, tables in (
        ("trained_sae", None, {"sae": pd.DataFrame([one]), "training_log": pd.DataFrame()}),
        ("seqlets", tuple(range(N_NODES)), {"node_selection": selection, "seqlet": pd.DataFrame()}),
    ):
        put_rows(platform, KEY, asset, trained, tables, nodes)


@pytest.fixture(scope="module")
def made(project: Project) -> dg.ExecuteInProcessResult:
    result = project.make("fidelity,node_effects", KEY)
    assert result.success, failure_of(result)
    return result


def test_the_sae_in_the_model_is_measured_and_checked(
    project: Project, made: dg.ExecuteInProcessResult
) -> None:
    catalog = project.platform.catalog
    over_all = catalog.rows("fidelity", KEY).set_index("splice")
    assert over_all.loc["model", "recovered_mean"] == 1
    assert (over_all["bypass"] == 0).all()
    assert over_all.loc["mean", "recovered_mean"] == 0
    assert over_all.loc["zero", "recovered_mean"] < over_all.loc["sae", "recovered_mean"] < 1
    assert set(catalog.rows("fidelity_track", KEY)["track"]) == {"first", "second", "both"}
    (summary,) = catalog.frame("SELECT * FROM sae_summary").to_dict("records")
    assert summary["recovered_mean"] == over_all.loc["sae", "recovered_mean"]
    checks = {e.check_name: e.passed for e in made.get_asset_check_evaluations()}
    assert checks["recovered"] == (over_all.loc["sae", "recovered_mean"] >= 0.8)
    shown = made.asset_materializations_for_node("fidelity")[0].metadata
    assert "data:image/png" in str(shown["tracks"].value)


def test_the_node_of_a_word_drives_the_track_that_reads_it(
    project: Project, made: dg.ExecuteInProcessResult
) -> None:
    catalog = project.platform.catalog
    drivers = catalog.frame(
        "SELECT * FROM track_driver WHERE loci = 'activation' AND node_rank = 1 ORDER BY track"
    ).set_index("track")
    for node, track in enumerate(("first", "second")):
        assert drivers.loc[track, "node"] == node
        assert drivers.loc[track, "ablated"] < 0 < drivers.loc[track, "doubled"]
        assert drivers.loc[track, "is_significant"]
    # a node within what its controls do is there, and shown as that
    effects = catalog.rows("node_effect", KEY)
    assert not effects["is_significant"].all()
    by_gradient = effects[effects["loci"] == "gradient"]
    assert len(by_gradient)
    assert by_gradient["p_value"].isna().all()
    assert not by_gradient["is_significant"].any()
    # the API says the same
    sae = saeborzoi.open(project.settings_file).sae(KEY)
    pd.testing.assert_frame_equal(sae.fidelity, catalog.rows("fidelity", KEY).set_index("splice"))
    driving = sae.drivers("first").query("loci == 'activation'")
    assert driving.iloc[0][["node", "node_rank"]].tolist() == [0, 1]
    with pytest.raises(InputError, match="'frist' is known; of 3 tracks the nearest are first"):
        sae.drivers("frist")
    summary = catalog.rows("node_effect_summary", KEY)
    assert summary.groupby("node").size().max() == 2


def test_it_is_planned_traced_and_stale_when_its_settings_change(
    project: Project, made: dg.ExecuteInProcessResult
) -> None:
    platform = project.platform
    links = {link.asset: link.state for link in trace(platform, KEY).links}
    # the SAE of this project was put there by hand
    assert links["fidelity"] == links["node_effects"] == "rests on stale"
    text = project.settings_file.read_text()
    project.settings_file.write_text(text.replace("n_loci = 12", "n_loci = 13"))
    try:
        changed = type(platform)(settings_file=str(project.settings_file))
        states = {link.asset: link.state for link in trace(changed, KEY).links}
        assert states["node_effects"] == "stale"
        assert states["fidelity"] == "rests on stale"
        (lacking,) = [
            w for w in work_of(changed, changed.settings.wanted()[0]) if w.step.name == "effects"
        ]
        # the settings do not say how long the model's input is
        predictions = 16 * (7 + 9) + 12 * 16 * 7
        estimate = Costs(changed, project.settings_file, {}).estimate(lacking)
        assert estimate.seconds == pytest.approx(8 + predictions * 10_000 * 4e-6)
    finally:
        project.settings_file.write_text(text)


def test_effects_are_the_same_in_one_job_as_in_several(
    project: Project, made: dg.ExecuteInProcessResult
) -> None:
    catalog, file = project.platform.catalog, project.settings_file
    before = catalog.rows("node_effect", KEY)
    text = file.read_text()
    file.write_text(text.replace("sae_nodes_per_job = 2", "sae_nodes_per_job = 99"))
    try:
        whole = Project(file, project.instance)
        result = whole.make("node_effects", str(PartitionKey(KEY)))
        assert result.success, failure_of(result)
    finally:
        file.write_text(text)
    assert catalog.rows("node_effect", KEY).equals(before)


def test_shards_of_another_model_are_refused(tmp_path: Path) -> None:
    settings_file = make_small_project(tmp_path)
    text = settings_file.read_text().replace("seqlet_width_bp = 16", _MODULE)
    text = text.replace("topk = 0.25", "topk = 0.5")
    settings_file.write_text(text + _MODEL)  # the shards hold what no module computes
    with dg.DagsterInstance.ephemeral() as instance:
        project = Project(settings_file, instance)
        instance.add_dynamic_partitions(HYPERPARAMETERS, [KEY])
        put_sae(project)
        message = failure_of(project.make("fidelity", KEY))
    assert "holds other activations than module pool of [model] computes there" in message
    assert "remove `module`" in message
