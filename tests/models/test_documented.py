"""What the page on models and the examples say works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from saeborzoi.models.loaders import load_model
from saeborzoi.models.measure import layer_geometry
from saeborzoi.settings.load import load_settings

ROOT = Path(__file__).parents[2]


def test_the_loader_of_twenty_lines(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "models.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "own.py").write_text(code)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv1d(4, 8, 15), nn.ReLU(), nn.ReLU(), nn.Conv1d(8, 2, 1))
    save_file(module.state_dict(), tmp_path / "own.safetensors")
    model = load_model(
        f"{tmp_path}/own.py:load",
        weights=tmp_path / "own.safetensors",
        arguments={"n_filters": 8},
        device="cpu",
    )
    assert model.predict(torch.zeros(1, 4, 1000)).shape == (1, 2, 250)
    g = layer_geometry(model, "motifs")
    assert (g.n_channels, g.bp_per_position, g.receptive_field_bp) == (8, 4, 18)


def test_the_settings_for_borzoi_need_paths_only(tmp_path: Path) -> None:
    text = (ROOT / "examples" / "borzoi_hg38.toml").read_text()
    (tmp_path / "dagster_project.toml").write_text(text)
    settings = load_settings(tmp_path / "dagster_project.toml")
    assert [(x.name, x.n_channels, x.bp_per_position, x.seqlet_width) for x in settings.layer] == [
        ("conv1d_1", 608, 2, 24),
        ("conv1d_2", 736, 4, 42),
        ("conv1d_3", 896, 8, 78),
        ("conv1d_4", 1056, 16, 150),
    ]
    assert len(settings.wanted()) == 4
    assert settings.model is not None
    assert settings.model.loader == f"borzoi-pytorch:{tmp_path}/borzoi-replicate-0"


@pytest.mark.parametrize("name", ["n_channels", "bp_per_position"])
def test_a_layer_that_is_not_known_by_name_needs_its_shape(tmp_path: Path, name: str) -> None:
    from saeborzoi.errors import SettingsError

    text = (ROOT / "examples" / "borzoi_hg38.toml").read_text().replace('"conv1d_1"', '"conv9"')
    text = text.replace('name = "conv9"', f'name = "conv9"\n{name} = 8\nreceptive_field_bp = 24')
    (tmp_path / "dagster_project.toml").write_text(text)
    with pytest.raises(SettingsError, match="is missing"):
        load_settings(tmp_path / "dagster_project.toml")
