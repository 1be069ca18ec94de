"""The demo's names hold: by where its nodes fire, and by what the model does without them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import saeborzoi
from benchmarks.demo_effects import factors_of
from saeborzoi.demo import DATA, judge, read_planted
from saeborzoi.demo.precision import VERDICTS
from saeborzoi.project.project import Project
from saeborzoi_assets.commands.cli import main

pytestmark = pytest.mark.slow

_MORE = """
[[sae]]
layer = "demo_conv"
expansion = 8
topk = 0.2
learning_rate = 0.003
recipe = "untrained"
[effects]
n_sequences = 24
n_loci = 2
n_controls = 1
"""


@pytest.fixture(scope="module")
def project(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The demo with an untrained dictionary beside its SAE, run to the effects of nodes."""
    text = (demo / "dagster_project.toml").read_text().replace('"demo/', f'"{demo}/demo/')
    text = text.replace(f'store = "{demo}/demo/store"', 'store = "store"')
    text = text.replace('name = "demo_conv"\n', 'name = "demo_conv"\nmodule = "layer"\n')
    settings_file = tmp_path_factory.mktemp("names") / "dagster_project.toml"
    settings_file.write_text(text + _MORE)
    # exit code 1: with one control a locus no effect is significant, which a check says
    assert main(["--project", str(settings_file), "run", "--to", "effects"]) <= 1
    return saeborzoi.open(settings_file)


def shares(project: Project, demo: Path, key: str) -> tuple[float, float, int]:
    """Of the nodes with a name: the share that fires on one planted motif, the share whose factor's
    output moves most when they are ablated, and the planted motifs that have such a node."""
    planted, instances = read_planted(demo / DATA)
    sae = project.sae(key)
    names = sae.table("node_name")
    seqlets = sae.table("seqlet")
    judged = judge(planted, instances, seqlets[seqlets["node"].isin(names["node"])])
    is_one = judged["verdict"] == VERDICTS[0]
    effects = sae.table("node_effect_summary").query("loci == 'activation'")
    factor = factors_of(names, planted)
    moves = pd.Series(effects["top_track"].to_numpy(), effects["node"]).reindex(factor.index)
    return (
        float(is_one.mean()),
        float((moves == factor).mean()),
        int(judged.loc[is_one, "motif_id"].nunique()),
    )


def test_nine_in_ten_names_hold_and_an_untrained_dictionary_s_do_not(
    project: Project, demo: Path
) -> None:
    trained, untrained = sorted(project.saes, key=len)
    assert untrained.endswith("untrained")
    fire, move, n_planted = shares(project, demo, trained)
    assert fire >= 0.9
    assert move >= 0.9
    assert n_planted == 32
    fire, move, n_planted = shares(project, demo, untrained)
    assert fire < 0.8
    assert move < 0.8
    assert n_planted < 24
