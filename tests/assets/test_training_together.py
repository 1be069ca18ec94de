"""Several SAEs in one run and one pass over the data, each as it would be alone."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from saeborzoi.jobs.job import Figures, Job, Progress, silent
from saeborzoi.sae.checkpoint import load_sae
from saeborzoi.stages import trained_sae
from saeborzoi_assets.assets.trained_sae import passes
from saeborzoi_assets.partitions import HYPERPARAMETERS
from saeborzoi_resources.platform import Platform
from tests.assets.small_project import make_small_project
from tests.made_project import Project

GRID = """
[[sae]]
layer = "conv"
expansion = [3, 4]
topk = 0.25
seed = [0, 1]
"""


def grid(folder: Path, saes_per_pass: int) -> Path:
    """Settings of four SAEs, of two seeds and two sizes."""
    settings_file = make_small_project(folder)
    text = settings_file.read_text().replace(
        "[training]", f"{GRID}[training]\nsaes_per_pass = {saes_per_pass}"
    )
    settings_file.write_text(text.replace("n_epochs = 6", "n_epochs = 1"))
    return settings_file


def test_passes_hold_saes_of_one_layer_and_seed(tmp_path: Path) -> None:
    platform = Platform(settings_file=str(grid(tmp_path, 2)))
    saes = [platform.sae(h.key) for h in platform.settings.wanted()]
    seeds = [
        [sae.hyperparameters.seed for sae in group] for group in passes(saes, platform.settings)
    ]
    assert seeds == [[0, 0], [1, 1]]
    baseline = platform.sae(saes[0].hyperparameters.untrained().key)
    groups = passes([*saes, baseline], platform.settings)
    assert [baseline.key] in [[sae.key for sae in group] for group in groups]


def test_a_run_over_several_saes_trains_them_in_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That each is what it is alone is tested where they are trained."""
    jobs: list[Job] = []
    train = trained_sae.run

    def run(job: Job, progress: Progress = silent) -> Figures:
        jobs.append(job)
        return train(job, progress)

    monkeypatch.setattr(trained_sae, "run", run)
    with dg.DagsterInstance.ephemeral() as instance:
        project = Project(grid(tmp_path, 2), instance)
        platform = project.platform
        keys = [h.key for h in platform.settings.wanted()]
        instance.add_dynamic_partitions(HYPERPARAMETERS, keys)
        assert project.make("normalization_constants", "conv").success
        assert project.make("trained_sae", keys[0], keys[-1]).success
        made = instance.get_materialized_partitions(dg.AssetKey("trained_sae"))
        event = instance.fetch_materializations(dg.AssetKey("trained_sae"), limit=1).records[0]
    assert made == set(keys)
    assert event.asset_materialization is not None
    assert "training_curves" in event.asset_materialization.metadata
    assert len(jobs) == 2
    for key in keys:
        n_nodes = platform.sae(key).n_nodes
        assert platform.catalog.rows("sae", key).iloc[0]["n_nodes"] == n_nodes
        assert load_sae(platform.store.sae_artifact(key, "trained_sae")).n_nodes == n_nodes
