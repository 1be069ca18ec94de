"""Paths of the settings: from the file's folder or a home, wherever in the file they stand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from saeborzoi.errors import SettingsError
from saeborzoi.settings.load import Settings, load_settings

_PATHS = """
[project]
name = "test"
store = "../results"
[data]
genome = "~/genome.fa"
motif_database = [
  { name = "mine", source = "motifs/mine.meme" },
  { name = "known", source = "jaspar:JASPAR2024:CORE:vertebrates" },
]
[model]
loader = "keras-h5:models/f0.h5"
weights = "weights"
arguments = { folder = "as/it/is" }
[[layer]]
name = "conv1d_1"
channel_max = "max.json"
train = { windows = "genome", mask = "gaps.bed", cache = "/scratch/cache" }
validation = { shards = "valid", windows = "./valid.bed" }
[motifs]
engine = "meme"
executable = "~/bin/meme"
[[sae]]
layer = "conv1d_1"
checkpoint = "best_model.pt"
"""


def _write(folder: Path, text: str) -> Path:
    path = folder / "dagster_project.toml"
    path.write_text(text)
    return path


def test_every_path_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, home = tmp_path / "project", tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    settings = load_settings(_write(folder, _PATHS))
    assert settings.project.store == tmp_path / "results"
    assert settings.data.genome == home / "genome.fa"
    assert settings.data.motif_sources == {
        "mine": f"{folder}/motifs/mine.meme",
        "known": "jaspar:JASPAR2024:CORE:vertebrates",
    }
    assert settings.model is not None
    assert settings.model.loader == f"keras-h5:{folder}/models/f0.h5"
    assert settings.model.weights == folder / "weights"
    assert settings.model.arguments == {"folder": "as/it/is"}
    layer = settings.layer[0]
    assert layer.channel_max == folder / "max.json"
    train, validation = layer.sets
    assert train.windows == "genome"
    assert (train.mask, train.cache) == (folder / "gaps.bed", Path("/scratch/cache"))
    assert validation.folder_and_windows == (folder / "valid", folder / "valid.bed")
    assert settings.motifs.executable == home / "bin/meme"
    assert settings.sae[0].checkpoint == folder / "best_model.pt"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("code/a.py:make", "{folder}/code/a.py:make"),
        ("package.module:make", "package.module:make"),
        ("borzoi-pytorch:borzoi", "borzoi-pytorch:{folder}/borzoi"),
    ],
)
def test_a_loader_that_is_a_file_is_found_from_the_settings(
    tmp_path: Path, written: str, read: str
) -> None:
    settings = load_settings(_write(tmp_path, _PATHS.replace("keras-h5:models/f0.h5", written)))
    assert settings.model is not None
    assert settings.model.loader == read.format(folder=tmp_path)


def test_the_store_beside_a_file_that_is_named_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path, _PATHS.replace('store = "../results"', ""))
    monkeypatch.chdir(tmp_path)
    assert load_settings("dagster_project.toml").project.store == tmp_path / "store"


def test_settings_of_a_job_stay_as_they_were_written(tmp_path: Path) -> None:
    settings = load_settings(_write(tmp_path, _PATHS))
    read = Settings.model_validate_json(settings.model_dump_json())
    assert read == settings
    assert read.layer[0].train.windows == "genome"
    by_hand = settings.data.model_validate({"genome": "~/genome.fa"})
    assert by_hand.genome == Path("~/genome.fa")


@pytest.mark.parametrize("place", ['genome = "~', 'loader = "keras-h5:~', 'source = "~'])
def test_a_home_that_nobody_has_is_named(tmp_path: Path, place: str) -> None:
    start = place.rpartition("~")[0]
    text = "\n".join(
        line.replace(start + "~/", start).replace(start, start + "~nobody-here/")
        for line in _PATHS.splitlines()
    )
    path = _write(tmp_path, text)
    with pytest.raises(SettingsError, match=r"~nobody-here/.*: whose home folder .* fix: write"):
        load_settings(path)


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('windows = "./valid.bed"', "windows = 3", "layer.0.validation.windows = 3"),
        ('genome = "~/genome.fa"', "genome = 3", "data.genome = 3"),
    ],
)
def test_what_is_no_path_is_named(tmp_path: Path, old: str, new: str, place: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(_write(tmp_path, _PATHS.replace(old, new)))
    assert f"{place}: needed is a path, as text" in str(caught.value)
    assert os.sep + "dagster_project.toml: " in str(caught.value)
    assert "function-after" not in str(caught.value)
