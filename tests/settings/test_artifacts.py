"""What needs a model exists for layers that have one, and nowhere else is anything of it seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from saeborzoi.errors import SettingsError
from saeborzoi.pipeline import ARTIFACTS, Artifact
from saeborzoi.settings import artifacts
from saeborzoi.settings.load import Settings, load_settings
from saeborzoi_assets.lacking import Range
from saeborzoi_assets.plan import project_steps, steps

_TEXT = """
[project]
name = "test"
[data]
genome = "genome.fa"
{model}
[[layer]]
name = "first"
n_channels = 20
bp_per_position = 2
seqlet_width_bp = 8
train = {{ {shards} windows = "windows.bed" }}
{module}
[[layer]]
name = "other"
n_channels = 20
bp_per_position = 2
seqlet_width_bp = 8
train = {{ shards = "shards", windows = "windows.bed" }}
[[sae]]
layer = ["first", "other"]
expansion = 1
topk = 0.5
"""
_MODEL = '[model]\nloader = "mine:load"'


def of(folder: Path, model: str = _MODEL, shards: bool = True, module: str = "") -> Settings:
    text = _TEXT.format(model=model, shards='shards = "shards",' if shards else "", module=module)
    file = folder / "dagster_project.toml"
    file.write_text(text)
    return load_settings(file)


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """An artifact that needs a model, and one that is made from it as far as it is there."""
    toy = Artifact("toy", "1", "sae", "toys", needs=("model",), inputs=("trained_sae",))
    whole = Artifact("all_toys", "1", "project", "all", inputs=("trained_sae", "toy"))
    plain = tuple(artifact for artifact in ARTIFACTS if not artifact.needs)
    monkeypatch.setattr(artifacts, "ARTIFACTS", (*plain, toy, whole))


def has_toy(settings: Settings) -> list[bool]:
    return [
        "toy" in [artifact.name for artifact in artifacts.artifacts_of(settings, layer)]
        for layer in settings.layer
    ]


def test_a_layer_has_it_where_the_model_computes_it_or_it_names_its_module(tmp_path: Path) -> None:
    assert has_toy(of(tmp_path, shards=False)) == [True, False]
    assert has_toy(of(tmp_path, module='module = "stem"')) == [True, False]
    assert has_toy(of(tmp_path)) == [False, False]
    assert has_toy(of(tmp_path, model="", module='module = "stem"')) == [False, False]


@pytest.mark.parametrize(
    "model", [_MODEL + "\npredicts = false", '[model]\nloader = "keras-h5:stem.h5"']
)
def test_a_model_without_predictions_has_nothing_of_them(tmp_path: Path, model: str) -> None:
    assert has_toy(of(tmp_path, model=model, shards=False)) == [False, False]


def test_steps_and_inputs_follow(tmp_path: Path) -> None:
    whole = artifacts.artifacts_of(of(tmp_path))[-1]
    with_model, without = of(tmp_path, shards=False), of(tmp_path)
    first, other = with_model.wanted()
    assert "toys" in [step.name for step in steps(with_model, first)]
    assert "toys" not in [step.name for step in steps(with_model, other)]
    assert "toys" not in [step.name for step in steps(without, first)]
    assert artifacts.inputs_of(whole, with_model) == ["trained_sae", "toy"]
    assert artifacts.inputs_of(whole, without) == ["trained_sae"]
    assert project_steps(without)[-1].assets == ("all_toys",)


def test_what_is_not_there_is_no_stage(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no stage 'toy'"):
        Range.of(["toy"], artifacts=artifacts.artifacts_of(of(tmp_path)))
    there = artifacts.artifacts_of(of(tmp_path, shards=False))
    assert [a.name for a in Range.of(["toy"], artifacts=there).artifacts] == ["toy"]
