"""Settings: what a user writes wrong is named with what is allowed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from saeborzoi.errors import PartitionKeyError, SettingsError
from saeborzoi.settings.load import find_settings_file, load_settings
from saeborzoi.settings.sae_sections import Training
from saeborzoi.settings.sections import Motifs

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
        (
            "n_channels",
            "channels",
            "allowed there: bp_per_position, channel_max, module",
        ),
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


@pytest.mark.parametrize(
    ("section", "text", "message"),
    [
        ("embedding", "min_dist = 5", "min_dist = 5: Input should be less than or equal to 1"),
        ("embedding", "min_dist = -0.1", "greater than or equal to 0"),
        ("embedding", "min_dist = nan", "embedding.min_dist = nan"),
        ("embedding", "random_state = -1", "random_state = -1: Input should be greater"),
        ("embedding", "random_state = 4294967296", "less than 4294967296"),
        ("embedding", "n_neighbors = 1", "n_neighbors = 1: Input should be greater"),
        ("embedding", "n_clusters = 0", "n_clusters = 0"),
        ("motifs", "min_width = 15", "min_width = 15 is more than the 14 bp of a seqlet of layer"),
        ("motifs", "min_width = 10\nmax_width = 9", "max_width = 9 is less than min_width = 10"),
        ("motifs", 'engine = "streme"\nmin_width = 2', "streme finds motifs of 3 to 30 bp"),
        ("motifs", 'engine = "streme"\nmax_width = 40', "streme finds motifs of 3 to 30 bp"),
        ("motifs", "max_width = 201", "builtin finds motifs of 2 to 200 bp"),
        ("motifs", "max_e_value = inf", "max_e_value = inf"),
        ("motifs", "n_motifs = true", "n_motifs = true; needed is a number"),
        ("matching", "max_p_value = 0", "max_p_value = 0: Input should be greater than 0"),
        ("selection", "n_top = 1", "n_top = 1"),
        ("selection", "n_top = 100", "min_strong = 200 of n_top = 100 positions can never"),
        (
            "selection",
            'strong_fraction = 1\nstrong_statistic = "max"',
            "no position is above the maximum",
        ),
        ("selection", "n_top = 99999999999999999999999", "n_top = 99999999999999999999999"),
        ("training", "buffer_mb = 10000000000", "buffer_mb = 10000000000"),
        ("training", "n_epochs = true", "n_epochs = true"),
        ("training", "checkpoint_every_s = inf", "checkpoint_every_s = inf"),
        ("automation", 'hours = "25:00-06:00"', "hours"),
        ("compute", "poll_s = inf", "poll_s = inf"),
    ],
)
def test_what_only_a_library_would_refuse_later(
    tmp_path: Path, section: str, text: str, message: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(_write(tmp_path, f"{_GOOD}\n[{section}]\n{text}\n"))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n_channels = 608", "n_channels = 1000000000000", "n_channels = 1000000000000"),
        ("n_channels = 608", "n_channels = true", "n_channels = true"),
        ("n_channels = 608", "n_channels = 90000", "720,000|nodes"),
        ("expansion = [4, 8]", "expansion = [4, true]", "expansion = true"),
        ("seed = [0, 1]", f"seed = [{', '.join(map(str, range(6000)))}]", "asks for 12,000 SAEs"),
        ("seed = [0, 1]", "topk = 7.0", "topk = 7.0: Input should be less than or equal to 1"),
        ('"conv1d_1"', '"' + "c" * 240 + '"', "at most 100 characters"),
        ('name = "test"', 'name = "' + "t" * 240 + '"', "at most 100 characters"),
        ('"genome.fa"', '"gen\\u0000ome.fa"', "data.genome = 'gen\\x00ome.fa' holds control"),
        ('"genome.fa"', '"gen\\u001b[1mome.fa"', "data.genome = 'gen\\x1b[1mome.fa' holds control"),
        ('"genome.fa"', '"gen\\nome.fa"', "data.genome = 'gen\\nome.fa' holds control"),
        ('"genome.fa"', '"' + "g" * 5000 + '"', "data.genome has 5,000 letters"),
        ('"genome.fa"', '""', "data.genome is empty"),
        ("cpus = 4", 'cpus = 4\n"a\\tb" = 1', "a key in compute.profile.default"),
        ("expansion", "expantion", "did you mean 'expansion'?"),
        ("[project]", "x = " + "[" * 5000 + "\n[project]", "nested too deeply|not TOML"),
        ("n_channels = 608", f"n_channels = {'9' * 5000}", "not TOML"),
    ],
)
def test_what_no_file_or_memory_takes(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = _GOOD.replace(old, new)
    if "90000" in new:
        text = text.replace("expansion = [4, 8]", "expansion = 20")
    with pytest.raises(SettingsError, match="|".join(map(re.escape, message.split("|")))):
        load_settings(_write(tmp_path, text))


def test_one_mistake_is_one_complaint(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(_write(tmp_path, _GOOD.replace("n_channels", "channels")))
    assert "Tuple" not in str(caught.value)
    assert str(caught.value).count("channels") <= 6
    assert "{" not in str(caught.value), "no dump of the whole section"
    with pytest.raises(SettingsError) as caught:
        load_settings(_write(tmp_path, _GOOD.replace("[4, 8]", '"four"')))
    assert "tuple" not in str(caught.value).lower()
    assert "sae.0.expansion = 'four': Input should be a valid integer" in str(caught.value)
    with pytest.raises(SettingsError) as caught:
        load_settings(_write(tmp_path, _GOOD.replace("[4, 8]", '[4, "eight"]')))
    assert str(caught.value).count("eight") == 1


@pytest.mark.parametrize(
    ("encode", "message"),
    [
        (
            lambda text: ("# d\u00e9j\u00e0 vu\n" + text).encode("latin-1"),
            "line 1: byte 0xe9 is not UTF-8",
        ),
        (
            lambda text: (text + "\n# \u201cx\u201d").encode("cp1252"),
            "line 24: byte 0x93 is not UTF-8",
        ),
        (lambda text: text.encode("utf-16"), "text in UTF-16: save it as UTF-8"),
        (lambda text: text.encode("utf-16-le"), "a zero byte, as of UTF-16"),
        (lambda text: b"\x1f\x8b\x08" + bytes(30), "gzip"),
    ],
)
def test_other_encodings_are_named(
    tmp_path: Path, encode: Callable[[str], bytes], message: str
) -> None:
    path = tmp_path / "dagster_project.toml"
    path.write_bytes(encode(_GOOD))
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    assert message in str(caught.value)
    assert "dagster_project.toml" in str(caught.value)


@pytest.mark.parametrize(
    "prefix", [b"\xef\xbb\xbf", b"\xef\xbb\xbf\n", "# d\u00e9j\u00e0\n".encode()]
)
def test_utf_8_is_read_with_and_without_a_mark(tmp_path: Path, prefix: bytes) -> None:
    path = _write(tmp_path, _GOOD)
    plain = load_settings(path)
    path.write_bytes(prefix + _GOOD.replace("\n", "\r\n").encode())
    assert load_settings(path) == plain


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
    with pytest.raises(PartitionKeyError, match=r"nearest right key is 'conv1d_1_x4_k0\.05_lr0"):
        settings.parse_key("qq")


def test_what_leaves_a_result_as_it_is_is_not_in_its_version() -> None:
    assert Training(saes_per_pass=6).of_result() == Training().of_result()
    assert Motifs(min_sites=5).of_result() != Motifs().of_result()
    assert Training(n_epochs=2).of_result() != Training().of_result()


def test_a_device_for_motifs_is_taken_with_a_warning() -> None:
    """Settings of before name one; the CPUs do it whatever it says."""
    with pytest.warns(
        FutureWarning, match=r"\[motifs\] device is not looked at .* delete the line"
    ):
        assert Motifs.model_validate({"device": "auto", "n_motifs": 3}) == Motifs(n_motifs=3)
