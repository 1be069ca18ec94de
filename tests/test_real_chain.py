"""The whole chain on a real network, from its shards and from the network itself: what it was
trained on names the nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import saeborzoi
from saeborzoi_assets.cli import main

KEY = "stem_x4_k0.05_lr0.003_s0"
TRAINED_ON = {"E-box": "MAX", "FOX": "FOXA1", "AP-1": "JUND", "CRE": "JUND"}
"""Family of motifs to the factor of the network's training."""
_SETTINGS = """
[project]
name = "real"
[data]
genome = "{case}/genome/chr1_hg38_10M.fa.gz"
[[data.motif_database]]
name = "jaspar"
source = "{case}/motifs/pyjaspar_2024_vert.meme"
{model}
[[layer]]
name = "stem"
n_channels = 100
bp_per_position = 7
seqlet_width_bp = 26
train = {train}
[[sae]]
layer = "stem"
expansion = 4
topk = 0.05
"""
_MODEL = """[model]
loader = "{case}/model/explainn.py:load"
weights = "{case}/model/explainn_max_foxa1_jund.pth"
input_bp = 200
predicts = false
"""
_WINDOWS = "{case}/activations/train/sequences.bed"
_SOURCES = {
    "shards": ("", '{{ shards = "{case}/activations/train", windows = "' + _WINDOWS + '" }}'),
    "live": (_MODEL, '{{ windows = "' + _WINDOWS + '" }}'),
}


@pytest.fixture(scope="module", params=_SOURCES)
def named(
    request: pytest.FixtureRequest, hg38_case: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[pd.DataFrame]:
    """Named nodes of the SAE, made by the command: name, archetype, members."""
    folder = tmp_path_factory.mktemp(request.param)
    model, train = (text.format(case=hg38_case) for text in _SOURCES[request.param])
    text = _SETTINGS.format(case=hg38_case, model=model, train=train)
    (folder / "dagster_project.toml").write_text(text)
    with pytest.MonkeyPatch.context() as patched:
        # each project has an instance of its own
        patched.delenv("DAGSTER_HOME", raising=False)
        assert main(["--project", str(folder), "-q", "run", "--to", "motif_evidence"]) == 0
        nodes: pd.DataFrame = saeborzoi.open(folder).sae(KEY).nodes
        yield nodes[nodes["name"].notna()]


@pytest.mark.slow  # minutes each
def test_nodes_are_called_by_what_the_network_was_trained_on(named: pd.DataFrame) -> None:
    for family, factor in TRAINED_ON.items():
        of_family = named[named["archetype"] == family]
        members = [factor in members for members in of_family["members"]]
        assert any(members), f"{family}: {of_family['name'].to_dict()}"
        assert of_family["name"].str.startswith(family).all()


@pytest.mark.slow
def test_the_same_families_are_named_from_shards_and_from_the_network(
    named: pd.DataFrame,
) -> None:
    assert set(named["archetype"]) == {*TRAINED_ON, "CTCF", "KLF"}


@pytest.mark.slow
def test_a_search_for_max_finds_its_family_alone(named: pd.DataFrame) -> None:
    nodes = named[[("MAX" in members) for members in named["members"]]]
    assert len(nodes)
    assert set(nodes["archetype"]) == {"E-box"}
