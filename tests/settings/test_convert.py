"""sae-borzoi's config becomes settings that load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from saeborzoi.errors import InputError
from saeborzoi.settings.convert import convert_config
from saeborzoi.settings.load import load_settings


def _config(folder: Path, **changes: Any) -> Path:
    config = {
        "activations_path": str(folder / "activations"),
        "activations_path_val": str(folder / "validation"),
        "global_max_save_path": str(folder / "conv1d_4_max.json"),
        "model_save_path": str(folder / "models") + "/",
        "prespecified_model": "conv1d_4_topk0.05_lr1e-05",
        "layer_name": "conv1d_4",
        "seq_len": 32768,
        "input_channels": 1056,
        "expansion_factor": 4,
        "topk_pct": 0.05,
        "learning_rate": 1e-5,
        "ccre_bed": str(folder / "ccre.bed"),
    }
    path = folder / "config.json"
    path.write_text(json.dumps({**config, **changes}))
    return path


def test_the_published_config_becomes_settings(tmp_path: Path) -> None:
    (tmp_path / "activations").mkdir()
    (tmp_path / "activations" / "train_seqs.bed").touch()
    model = tmp_path / "models" / "conv1d_4_topk0.05_lr1e-05" / "best_model.pt"
    model.parent.mkdir(parents=True)
    model.touch()
    text = convert_config(_config(tmp_path), tmp_path / "hg38.fa")
    path = tmp_path / "dagster_project.toml"
    path.write_text(text)
    settings = load_settings(path)
    layer = settings.layer[0]
    assert (layer.bp_per_position, layer.pad_bp, layer.seqlet_width) == (16, 163840, 34)
    assert layer.train.windows == tmp_path / "activations" / "train_seqs.bed"
    assert layer.channel_max == tmp_path / "conv1d_4_max.json"
    wanted = settings.wanted()
    assert [h.key for h in wanted] == ["conv1d_4_x4_k0.05_lr1e-05_s0_published"]
    assert settings.checkpoint_of(wanted[0]) == model
    assert [a.name for a in settings.data.annotation] == ["ccre"]
    assert "check: no train_seqs.bed" in text  # for the validation shards


def test_the_checkpoint_is_looked_for_where_the_scripts_put_it(tmp_path: Path) -> None:
    """Without it the SAE is trained for days, which must not happen unsaid."""
    config = _config(tmp_path, prespecified_model=None)
    text = convert_config(config, tmp_path / "hg38.fa")
    model = tmp_path / "models" / "conv1d_4_exp4_topk0.05_lr1e-05" / "best_model.pt"
    assert f"# check: no {model}; it is trained anew" in text
    model.parent.mkdir(parents=True)
    model.touch()
    text = convert_config(config, tmp_path / "hg38.fa")
    assert f'checkpoint = "{model}"' in text
    assert "trained anew" not in text


def test_what_the_settings_need_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"activations_path": "x"}))
    with pytest.raises(InputError, match="lacks layer_name, input_channels, seq_len"):
        convert_config(path, tmp_path / "hg38.fa")
    with pytest.raises(InputError, match="seq_len 1000 does not divide"):
        convert_config(_config(tmp_path, seq_len=1000), tmp_path / "hg38.fa")
    path.write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        convert_config(path, tmp_path / "hg38.fa")
    with pytest.raises(InputError, match="cannot be read"):
        convert_config(tmp_path / "absent.json", tmp_path / "hg38.fa")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("topk_pct", "5%", 'topk_pct is "5%"; needed is a number above 0'),
        ("topk_pct", None, "topk_pct is null"),
        ("topk_pct", 5, "topk_pct is 5: Input should be less than or equal to 1"),
        ("topk_pct", 0.05000001, "more than 6 significant digits"),
        ("topk_pct", True, "topk_pct is true"),
        ("learning_rate", [1e-5], "learning_rate is"),
        ("learning_rate", -1, "learning_rate is -1"),
        ("input_channels", [1056], r"input_channels is \[1056\]; needed is a whole number"),
        ("input_channels", "1056", 'input_channels is "1056"'),
        ("input_channels", 1056.5, "input_channels is 1056.5"),
        ("input_channels", 0, "input_channels is 0"),
        ("expansion_factor", 4.5, r"expansion_factor is 4\.5; needed is a whole number"),
        ("expansion_factor", 1000, "expansion_factor is 1000: Input should be less"),
        ("seq_len", None, "seq_len is null"),
        ("seq_len", "many", "seq_len is"),
        ("activations_path", None, "activations_path is null; needed is text"),
        ("activations_path", "", 'activations_path is ""; needed is text'),
        ("activations_path", ["a", "b"], "activations_path is"),
        ("activations_path", "a\u0000b", "with control characters"),
        ("ccre_bed", {"a": 1}, "ccre_bed is"),
        ("layer_name", 4, "layer_name is 4"),
        ("layer_name", "conv 1", 'layer_name is "conv 1": String should match'),
        ("layer_name", "c" * 300, "layer_name is"),
    ],
)
def test_a_value_of_another_kind_is_named(
    tmp_path: Path, key: str, value: object, words: str
) -> None:
    path = _config(tmp_path, **{key: value})
    with pytest.raises(InputError, match=words) as error:
        convert_config(path, tmp_path / "hg38.fa")
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"seq_len": Infinity}', "Infinity is not a number of JSON"),
        ('{"seq_len": 1, "seq_len": 2}', "'seq_len' stands twice"),
        ("[1]", "lacks activations_path"),
        ("[" * 10**5, "nested too deeply"),
        ("\u00e9", "not JSON"),
    ],
)
def test_a_config_that_is_none(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        convert_config(path, tmp_path / "hg38.fa")


def test_relative_paths_start_at_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there" / "acts").mkdir(parents=True)
    (tmp_path / "there" / "acts" / "train_seqs.bed").touch()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    path = _config(
        tmp_path / "there",
        activations_path="acts",
        activations_path_val=None,
        ccre_bed="",
        global_max_save_path="../max.json",
        expansion_factor=4.0,
    )
    settings_file = tmp_path / "elsewhere" / "dagster_project.toml"
    settings_file.write_text(convert_config(path, Path("hg38.fa")))
    settings = load_settings(settings_file)
    layer = settings.layer[0]
    assert layer.train.windows == tmp_path / "there" / "acts" / "train_seqs.bed"
    assert layer.channel_max == tmp_path / "max.json"
    assert layer.validation is None
    assert settings.data.genome == tmp_path / "elsewhere" / "hg38.fa"
    assert settings.data.annotation == ()
    assert settings.wanted()[0].expansion == 4
