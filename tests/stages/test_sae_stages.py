"""The three stages around an SAE write what the catalogue expects, from jobs alone."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

from saeborzoi.activations.shards import ShardFolder
from saeborzoi.catalog.schema import TABLE
from saeborzoi.errors import InputError
from saeborzoi.jobs.job import Job
from saeborzoi.sae.checkpoint import export_published, load_checkpoint, save_checkpoint
from saeborzoi.sae.data_fit import require_trained_on
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi.settings.load import Settings
from saeborzoi.settings.sae_sections import SaeGrid, Training
from saeborzoi.settings.sections import Data, Project
from saeborzoi.stages import normalization_constants, top_activations, trained_sae
from tests.sae.small_known import SMALL

H = Hyperparameters(layer="known", topk=0.12)


def columns_of(table: str) -> list[str]:
    return [column.name for column in TABLE[table].columns if column.name != "hyperparameters"]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("stages")
    train = SMALL.write(folder / "train", 5, 2000, "train", n_per_shard=2)
    validation = SMALL.write(folder / "validation", 1, 2000, "validation")
    return Settings(
        project=Project(name="test", store=folder / "store"),
        data=Data(genome=folder / "none.fa"),
        layer=(SMALL.layer(train, validation),),
        training=Training(n_positions=40_000, batch_size=500, validate_every_positions=10_000),
    )


def job_of(settings: Settings, stage: str, **fields: object) -> Job:
    store = settings.project.store
    inputs = {"normalization_constants": store / "normalization_constants"}
    if stage == "top_activations":
        inputs["trained_sae"] = store / "trained_sae"
    hyperparameters = None if stage == "normalization_constants" else H
    return Job.model_validate(
        {
            "job_id": stage, "stage": stage, "settings": settings, "layer": "known",
            "hyperparameters": hyperparameters, "output": store / stage, "work": store / "work",
            "inputs": inputs, **fields,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(settings: Settings) -> dict[str, dict[str, object]]:
    """Figures of the three stages, run one after the other."""
    return {
        name: stage.run(job_of(settings, name))
        for name, stage in (
            ("normalization_constants", normalization_constants),
            ("trained_sae", trained_sae),
            ("top_activations", top_activations),
        )
    }


def test_files_are_those_of_the_documentation(
    made: dict[str, dict[str, object]], settings: Settings
) -> None:
    written = {
        stage: {path.name for path in (settings.project.store / stage).iterdir()} for stage in made
    }
    assert written == {
        "normalization_constants": {
            "channel_max.json", "channel_normalization.parquet", "provenance.json",
        },
        "trained_sae": {
            "cfg.json", "sae.safetensors", "sae_weights.safetensors", "training_log.parquet",
            "metrics.json", "provenance.json",
        },
        "top_activations": {
            "top_activations.parquet", "node_statistics.parquet", "coactivation.npz",
            "provenance.json",
        },
    }  # fmt: skip


def test_tables_have_the_catalogue_s_columns(
    made: dict[str, dict[str, object]], settings: Settings
) -> None:
    store = settings.project.store
    for path, table in (
        ("normalization_constants/channel_normalization.parquet", "channel_normalization"),
        ("trained_sae/training_log.parquet", "training_log"),
        ("top_activations/node_statistics.parquet", "node"),
    ):
        expected = [name for name in columns_of(table) if name != "layer"]
        assert list(pd.read_parquet(store / path)) == expected, path
    top = pd.read_parquet(store / "top_activations/top_activations.parquet")
    assert list(top) == ["node", "rank", "window", "position", "activation"]
    assert (
        top["node"].nunique()
        == made["top_activations"]["n_nodes"] - made["top_activations"]["n_dead"]
    )


def test_figures_agree_with_what_was_written(
    made: dict[str, dict[str, object]], settings: Settings
) -> None:
    store = settings.project.store
    figures = made["trained_sae"]
    assert figures["n_positions"] == 40_000
    assert figures["n_nodes"] == 128
    assert 0 < figures["fvu"] < figures["validation_fvu"] * 1.2 < 0.9
    metrics = json.loads((store / "trained_sae/metrics.json").read_text())
    assert metrics["fvu"] == figures["fvu"]
    assert len(metrics["channel_explained_variance"]) == 32
    together = scipy.sparse.load_npz(store / "top_activations/coactivation.npz")
    statistics = pd.read_parquet(store / "top_activations/node_statistics.parquet")
    assert together.shape == (128, 128)
    assert together.max() <= statistics["n_nonzero"].max()
    provenance = json.loads((store / "trained_sae/provenance.json").read_text())
    assert provenance["data_fingerprint"] == figures["data_fingerprint"]
    assert json.loads((store / "trained_sae/cfg.json").read_text())["provenance"][
        "hyperparameters"
    ] == json.loads(H.model_dump_json())
    assert not (store / "work/training.safetensors").exists()


def importing(settings: Settings, source: Path) -> Settings:
    grid = SaeGrid.model_validate({"layer": "known", "topk": 0.12, "checkpoint": source})
    return settings.model_copy(update={"sae": (grid,)})


@pytest.mark.parametrize("form", ["best_model.pt", "folder"])
def test_a_checkpoint_is_imported_and_measured(
    made: dict[str, dict[str, object]], settings: Settings, tmp_path: Path, form: str
) -> None:
    source = settings.project.store / "trained_sae"
    if form == "best_model.pt":
        export_published(load_checkpoint(source), tmp_path / form)
        source = tmp_path / form
    output = tmp_path / "imported"
    figures = trained_sae.run(job_of(importing(settings, source), "trained_sae", output=output))
    assert figures["imported_from"] == str(source)
    assert figures["n_positions"] == 0
    for figure in ("fvu", "validation_fvu", "l0", "dead_fraction"):
        assert figures[figure] == pytest.approx(made["trained_sae"][figure], rel=1e-6)
    assert pd.read_parquet(output / "training_log.parquet").empty
    original = load_checkpoint(settings.project.store / "trained_sae")
    back = load_checkpoint(output)
    assert torch.equal(original.decoder_weight, back.decoder_weight)
    np.testing.assert_array_equal(original.channel_max.numpy(), back.channel_max.numpy())


def test_a_checkpoint_of_another_width_is_refused(
    made: dict[str, dict[str, object]], settings: Settings
) -> None:
    source = settings.project.store / "trained_sae"
    wide = importing(settings, source)
    grid = SaeGrid.model_validate(
        {"layer": "known", "expansion": 8, "topk": 0.12, "checkpoint": source}
    )
    wide = settings.model_copy(update={"sae": (grid,)})
    job = job_of(wide, "trained_sae", hyperparameters=H.model_copy(update={"expansion": 8}))
    with pytest.raises(InputError, match=r"nodes 128, but known_x8\S+ has 256"):
        trained_sae.run(job)


def on_shards(settings: Settings, folder: Path) -> Settings:
    """The same project with other training shards; the windows stay."""
    train = settings.layer[0].train.model_copy(update={"shards": folder})
    layer = settings.layer[0].model_copy(update={"train": train})
    return settings.model_copy(update={"layer": (layer,)})


def copied(settings: Settings, folder: Path) -> Path:
    shutil.copytree(settings.layer[0].train.shards, folder)  # type: ignore[arg-type]
    return folder


def test_an_sae_is_used_on_a_copy_of_its_data(
    made: dict[str, dict[str, object]], settings: Settings, tmp_path: Path
) -> None:
    """Neither where the files lie nor when they were touched is part of the data."""
    folder = copied(settings, tmp_path / "moved")
    for path in folder.iterdir():
        os.utime(path, (0, 0))
    job = job_of(on_shards(settings, folder), "top_activations", output=tmp_path / "top")
    assert top_activations.run(job) == made["top_activations"]


def test_an_sae_of_other_data_is_refused(
    made: dict[str, dict[str, object]], settings: Settings, tmp_path: Path
) -> None:
    then = made["trained_sae"]["data_fingerprint"]
    SMALL.write(tmp_path / "other", 5, 2000, "other", n_per_shard=2)
    other = on_shards(settings, tmp_path / "other")
    now = ShardFolder.open(tmp_path / "other").fingerprint()
    with pytest.raises(
        InputError,
        match=rf"other is now: fingerprint {then} then, {now} now \(the same files by name and "
        rf"size, with other contents\); materialize trained_sae of '{H.key}' again.*`checkpoint`",
    ):
        top_activations.run(job_of(other, "top_activations"))


def test_the_refusal_says_what_became_of_the_files(
    made: dict[str, dict[str, object]], settings: Settings, tmp_path: Path
) -> None:
    folder = copied(settings, tmp_path / "changed")
    (folder / "activations_0.h5").rename(folder / "activations_7.h5")
    SMALL.write(tmp_path / "larger", 3, 2000, "other", n_per_shard=3)
    shutil.copy(tmp_path / "larger" / "activations_0.h5", folder / "activations_1.h5")
    with pytest.raises(
        InputError,
        match=r"\(gone: activations_0\.h5; new: activations_7\.h5; of another size: "
        r"activations_1\.h5\)",
    ):
        require_trained_on(settings.project.store / "trained_sae", ShardFolder.open(folder), H.key)


def test_a_checkpoint_that_does_not_say_its_data_is_used(
    made: dict[str, dict[str, object]], settings: Settings, tmp_path: Path
) -> None:
    folder = ShardFolder.open(settings.layer[0].train.shards)  # type: ignore[arg-type]
    save_checkpoint(load_checkpoint(settings.project.store / "trained_sae"), tmp_path)
    require_trained_on(tmp_path, folder, H.key)
    save_checkpoint(
        load_checkpoint(settings.project.store / "trained_sae"), tmp_path, data_fingerprint="ab"
    )
    with pytest.raises(InputError, match=r"fingerprint ab then, \w+ now; materialize"):
        require_trained_on(tmp_path, folder, H.key)


def test_an_sae_of_other_data_is_imported_on_purpose(
    made: dict[str, dict[str, object]], settings: Settings, tmp_path: Path
) -> None:
    SMALL.write(tmp_path / "other", 5, 2000, "other", n_per_shard=2)
    other = on_shards(
        importing(settings, settings.project.store / "trained_sae"), tmp_path / "other"
    )
    figures = trained_sae.run(job_of(other, "trained_sae", output=tmp_path / "sae"))
    assert figures["trained_on_fingerprint"] == made["trained_sae"]["data_fingerprint"]
    assert figures["data_fingerprint"] != made["trained_sae"]["data_fingerprint"]
    job = job_of(other, "top_activations", output=tmp_path / "top")
    inputs = {**job.inputs, "trained_sae": tmp_path / "sae"}
    assert top_activations.run(job.model_copy(update={"inputs": inputs}))["n_top_rows"] > 0


def test_published_constants_are_imported(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "known_max.json"
    path.write_text(json.dumps({str(i): float(i) for i in range(32)}))
    layer = settings.layer[0].model_copy(update={"channel_max": path})
    changed = settings.model_copy(update={"layer": (layer,)})
    output = tmp_path / "constants"
    figures = normalization_constants.run(job_of(changed, "normalization_constants", output=output))
    assert figures["replaced"] == [0]
    assert json.loads((output / "channel_max.json").read_text())["31"] == 31


def test_an_sae_is_not_used_with_other_constants(
    made: dict[str, dict[str, object]], settings: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "known_max.json"
    path.write_text(json.dumps({str(i): 1.0 for i in range(32)}))
    layer = settings.layer[0].model_copy(update={"channel_max": path})
    other = settings.model_copy(update={"layer": (layer,)})
    output = tmp_path / "constants"
    normalization_constants.run(job_of(other, "normalization_constants", output=output))
    job = job_of(settings, "top_activations")
    inputs = {**job.inputs, "normalization_constants": output}
    with pytest.raises(InputError, match="made for other normalization constants"):
        top_activations.run(job.model_copy(update={"inputs": inputs}))
