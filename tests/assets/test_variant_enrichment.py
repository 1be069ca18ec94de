"""Variants planted in a factor's motif, against matched controls: that factor's node, no other."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest
import torch

import saeborzoi
from saeborzoi.jobs.provenance import write_artifact
from saeborzoi.sae.checkpoint import save_checkpoint
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi_assets.commands.cli import main
from saeborzoi_assets.partitions import HYPERPARAMETERS
from saeborzoi_assets.plan import steps
from tests.made_project import Project, failure_of, put_rows

WORDS = ("TGACTCATGTCA", "CCACGTGGAACC")
KEY = "conv_x1_k0.5_lr0.003_s0"
N_SITES, APART_BP = 12, 2_400
SETTINGS = f"""
[project]
name = "trait"
[data]
genome = "g.fa"
[model]
loader = "tests.effects.nets:small"
device = "cpu"
arguments = {{ words = {json.dumps(WORDS)} }}
[[layer]]
name = "conv"
module = "pool"
n_channels = 4
bp_per_position = 4
seqlet_width_bp = 20
train = {{ windows = "w.bed" }}
[[sae]]
layer = "conv"
expansion = 1
topk = 0.5
[[variants]]
name = "trait"
path = "trait.vcf"
controls = "matched"
[[variants]]
name = "matched"
path = "matched.vcf"
[attribution]
n_exact = 0
n_controls = 2
"""
OTHER = {"A": "G", "G": "A", "C": "T", "T": "C"}


def write_inputs(folder: Path) -> None:
    """Sites of both words in turn; the trait breaks the first word, controls lie between sites."""
    letters = np.random.default_rng(0).choice(list("ACGT"), 2 * N_SITES * APART_BP)
    for site in range(2 * N_SITES):
        start = site * APART_BP + APART_BP // 2
        letters[start : start + 12] = list(WORDS[site % 2])
    (folder / "g.fa").write_text(f">chr1\n{''.join(letters)}\n")
    (folder / "w.bed").write_text(f"chr1\t0\t{len(letters)}\n")
    sites = APART_BP // 2 + 2 * APART_BP * np.arange(N_SITES)
    for name, places in (("trait", sites + 4), ("matched", sites + 640)):
        rows = [f"chr1\t{at + 1}\t.\t{letters[at]}\t{OTHER[letters[at]]}\t.\t.\t." for at in places]
        head = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
        (folder / f"{name}.vcf").write_text("\n".join([head, *rows, ""]))
    (folder / "dagster_project.toml").write_text(SETTINGS)


def put_sae(project: Project) -> None:
    """An SAE with a node a channel, as training would leave it."""
    platform = project.platform
    directions = torch.nn.functional.normalize(torch.eye(4) - 0.25)
    sae = SparseAutoencoder(4, 4, 2)
    sae.encoder_weight.data.copy_(directions)
    sae.decoder_weight.data.copy_(directions)
    trained = platform.store.sae_artifact(KEY, "trained_sae")
    with write_artifact(trained, "v", {}) as folder:
        save_checkpoint(sae, folder, hyperparameters=KEY)
    one = {"layer": "conv", "n_channels": 4, "n_nodes": 4, "k": 2}
    for asset, nodes, tables in (
        ("trained_sae", None, {"sae": pd.DataFrame([one]), "training_log": pd.DataFrame()}),
        ("meme_motifs", (0, 1, 2, 3), {"motif": pd.DataFrame()}),
        ("tomtom_matches", (0, 1, 2, 3), {"motif_match": pd.DataFrame()}),
    ):
        put_rows(platform, KEY, asset, trained, tables, nodes)


def test_the_node_of_the_factor_is_enriched_and_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pysam", reason="needs pysam (saeborzoi[variants]) to read VCF")
    write_inputs(tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        project = Project(tmp_path / "dagster_project.toml", instance)
        instance.add_dynamic_partitions(HYPERPARAMETERS, [KEY])
        put_sae(project)
        settings = project.platform.settings
        for step in steps(settings, settings.wanted()[0]):
            if step.first.of_set is not None:
                result = project.materialize(step)
                assert result.success, failure_of(result)
    table = saeborzoi.open(tmp_path).sae(KEY).variant_enrichment("trait").set_index("node")
    # node 0 reads the word that the trait breaks
    factor = table.loc[0]
    assert factor["n_variants"] == N_SITES
    assert factor["n_controls"] <= 2
    assert factor["odds_ratio"] > factor["odds_ratio_low"] > 1
    assert factor["q_value"] < 0.05
    others = table.drop(index=0)
    assert (others["q_value"] > 0.05).all()
    assert (others["odds_ratio_low"] < 1).all()
    capsys.readouterr()
    command = ["--project", str(tmp_path), "variants", KEY, "--set", "trait", "--enrichment"]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["node"] == 0
