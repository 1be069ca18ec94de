"""Several SAEs in one run and one pass over the data, each as it would be alone."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
import safetensors.numpy

from saeborzoi_assets.assets.trained_sae import passes
from saeborzoi_assets.definitions import build_definitions
from saeborzoi_assets.partitions import HYPERPARAMETERS
from saeborzoi_resources.platform import Platform
from tests.assets.small_project import make_small_project

GRID = """
[[sae]]
layer = "conv"
expansion = [3, 4]
topk = 0.25
seed = [0, 1]
"""


def project(folder: Path, saes_per_pass: int) -> tuple[dg.Definitions, Platform]:
    settings_file = make_small_project(folder)
    text = settings_file.read_text().replace(
        "[training]", f"{GRID}[training]\nsaes_per_pass = {saes_per_pass}"
    )
    settings_file.write_text(text)
    return build_definitions(settings_file), Platform(settings_file=str(settings_file))


def train(definitions: dg.Definitions, instance: dg.DagsterInstance, first: str, last: str) -> None:
    for asset, tags, partition in (
        ("normalization_constants", {}, "conv"),
        (
            "trained_sae",
            {
                "dagster/asset_partition_range_start": first,
                "dagster/asset_partition_range_end": last,
            },
            None,
        ),
    ):
        job = definitions.resolve_implicit_job_def_def_for_assets([dg.AssetKey(asset)])
        assert job is not None
        assert job.execute_in_process(
            instance=instance,
            partition_key=partition,
            tags=tags,
            asset_selection=[dg.AssetKey(asset)],
        ).success


def test_passes_hold_saes_of_one_layer_and_seed(tmp_path: Path) -> None:
    _, platform = project(tmp_path, 2)
    saes = [platform.sae(h.key) for h in platform.settings.wanted()]
    seeds = [
        [sae.hyperparameters.seed for sae in group] for group in passes(saes, platform.settings)
    ]
    assert seeds == [[0, 0], [1, 1]]
    baseline = platform.sae(saes[0].hyperparameters.untrained().key)
    groups = passes([*saes, baseline], platform.settings)
    assert [baseline.key] in [[sae.key for sae in group] for group in groups]


@pytest.mark.slow
def test_a_run_over_several_saes_trains_them_in_passes(tmp_path: Path) -> None:
    weights = {}
    for name, saes_per_pass in (("together", 2), ("alone", 1)):
        definitions, platform = project(tmp_path / name, saes_per_pass)
        keys = [h.key for h in platform.settings.wanted()]
        with dg.DagsterInstance.ephemeral() as instance:
            instance.add_dynamic_partitions(HYPERPARAMETERS, keys)
            train(definitions, instance, keys[0], keys[-1])
            made = instance.get_materialized_partitions(dg.AssetKey("trained_sae"))
            event = instance.fetch_materializations(dg.AssetKey("trained_sae"), limit=1).records[0]
        assert made == set(keys)
        assert event.asset_materialization is not None
        assert "training_curves" in event.asset_materialization.metadata
        for key in keys:
            row = platform.catalog.rows("sae", key).iloc[0]
            assert row["n_nodes"] == platform.sae(key).n_nodes
            artifact = platform.store.sae_artifact(key, "trained_sae")
            weights[name, key] = safetensors.numpy.load_file(artifact / "sae.safetensors")
        jobs = [
            path for path in platform.store.jobs.iterdir() if path.name.startswith("trained_sae")
        ]
        assert len(jobs) == len(keys) // saes_per_pass
    for key in keys:
        for tensor, values in weights["alone", key].items():
            assert (weights["together", key][tensor] == values).all(), (key, tensor)
