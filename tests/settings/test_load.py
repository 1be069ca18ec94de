"""Settings: what a user writes wrong is named with what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from saeborzoi.errors import PartitionKeyError, SettingsError
from saeborzoi.settings.load import find_settings_file, load_settings
from saeborzoi.settings.sections import Motifs, Training

_GOOD = """
[project]
name = "test"
[data]
genome = "genome.fa"
[[data.annotation]]
name = "ccre"
path = "../ccre.bed"
[[layer]]
name = "conv1d_1"
n_channels = 608
bp_per_position = 2
train = { shards = "shards", windows = "train_seqs.bed" }
[[sae]]
layer = "conv1d_1"
expansion = [4, 8]
seed = [0, 1]
[compute.profile.default]
partition = "gpu"
cpus = 4
[compute.profile.trained_sae]
gres = "gpu:1"
"""


def _write(folder: Path, text: str) -> Path:
    path = folder / "dagster_project.toml"
    path.write_text(text)
    return path


def test_defaults_grids_and_relative_paths(tmp_path: Path) -> None:
    settings = load_settings(_write(tmp_path, _GOOD))
    assert settings.project.store == tmp_path / "store"
    assert settings.data.annotation[0].path == tmp_path.parent / "ccre.bed"
    assert settings.layer[0].seqlet_width == 14
    assert [(h.expansion, h.seed) for h in settings.wanted()] == [(4, 0), (4, 1), (8, 0), (8, 1)]
    profile = settings.compute.profile_of("trained_sae")
    assert (profile.partition, profile.cpus, profile.gres) == ("gpu", 4, "gpu:1")
    assert settings.compute.profile_of("meme_motifs").gres is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[project]", "[project]\nstor = 1", "unknown key 'project.stor'; allowed there: name, st"),
        ("n_channels", "channels", "allowed there: bp_per_position, channel_max, n_channels"),
        ("n_channels = 608", "n_channels = 0", "layer.0.n_channels = 0: Input should be greater"),
        ("[project]", "[project", "not TOML"),
        ('name = "test"', "", "'project.name' is missing"),
        ('layer = "conv1d_1"', 'layer = "conv9"', "layer 'conv9' is not in the settings; there: c"),
        ("seed = [0, 1]", "topk = 0.001", "keeps no node; needed is at least 0.00164"),
        ('name = "conv1d_1"', 'name = "other"', "no published seqlet width"),
        ("profile.trained_sae", "profile.training", "no stage 'training'; allowed: default, norm"),
        (
            "profile.trained_sae",
            "profile.meme_motifs]\nprocesses = 2\n[compute.profile.trained_sae",
            "processes = 2 in [compute.profile.meme_motifs]; only trained_sae",
        ),
        ("seed = [0, 1]", 'checkpoint = "x.pt"', "a checkpoint needs single values"),
        ("seed = [0, 1]", "topk = 7.0", "topk"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in _GOOD
    with pytest.raises(SettingsError) as caught:
        load_settings(_write(tmp_path, _GOOD.replace(old, new, 1)))
    assert message in str(caught.value)
    assert "dagster_project.toml" in str(caught.value)


def test_the_file_is_found_from_below_or_by_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path, _GOOD)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.delenv("SAEBORZOI_PROJECT", raising=False)
    monkeypatch.chdir(below)
    assert find_settings_file() == path
    monkeypatch.chdir("/")
    with pytest.raises(SettingsError, match="saeborzoi init"):
        find_settings_file()
    monkeypatch.setenv("SAEBORZOI_PROJECT", str(tmp_path))
    assert find_settings_file() == path
    monkeypatch.setenv("SAEBORZOI_PROJECT", str(tmp_path / "absent"))
    with pytest.raises(SettingsError, match="no such settings file"):
        find_settings_file()


def test_a_variable_switches_the_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path, _GOOD)
    monkeypatch.setenv("SAEBORZOI_BACKEND", "slurm")
    assert load_settings(path).compute.backend == "slurm"
    monkeypatch.setenv("SAEBORZOI_BACKEND", "kubernetes")
    with pytest.raises(SettingsError, match="'local' or 'slurm'"):
        load_settings(path)


def test_keys_are_checked_against_the_layers(tmp_path: Path) -> None:
    settings = load_settings(_write(tmp_path, _GOOD))
    assert settings.parse_key("conv1d_1_x16_k0.05_lr0.003_s0").expansion == 16
    with pytest.raises(PartitionKeyError, match="layer 'conv1d_2' is not in the settings"):
        settings.parse_key("conv1d_2_x4_k0.05_lr0.003_s0")


def test_small_data_is_passed_over_again() -> None:
    assert Training().total_positions(299_520) == 11 * 299_520
    assert Training().total_positions(10**9) == 10**9
    assert Training(n_epochs=1).total_positions(1000) == 1000
    assert Training(n_positions=5000, n_epochs=3).total_positions(1000) == 5000


def test_what_leaves_a_result_as_it_is_is_not_in_its_version() -> None:
    assert Training(saes_per_pass=6).of_result() == Training().of_result()
    assert Motifs(min_sites=5).of_result() != Motifs().of_result()
    assert Training(n_epochs=2).of_result() != Training().of_result()


def test_a_device_for_motifs_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="device: motif discovery runs on the CPU only"):
        Motifs.model_validate({"device": "auto"})
