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
