"""From a VCF to the catalogue, the page, the API and a VCF again, through the assets."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest

import saeborzoi
from saeborzoi.errors import InputError
from saeborzoi.jobs.provenance import write_artifact
from saeborzoi.sae.checkpoint import save_checkpoint
from saeborzoi.settings.load import load_settings
from saeborzoi_assets.assets import variant_effects
from saeborzoi_assets.assets.feature_browser import page_of_variants
from saeborzoi_assets.partitions import HYPERPARAMETERS, Partitions
from saeborzoi_assets.plan import steps
from tests.effects.nets import shrinking_sae
from tests.made_project import Project, failure_of, put_rows
from tests.stages.test_variant_stages import SETTINGS, write_inputs

KEY = "conv_x2_k0.5_lr0.003_s0"
N_NODES = 12
MORE = """
[[sae]]
layer = "conv"
expansion = 2
topk = 0.5
"""


def put_sae(project: Project) -> None:
    """An SAE as training would leave it, whose nodes have no motifs."""
    platform = project.platform
    trained = platform.store.sae_artifact(KEY, "trained_sae")
    with write_artifact(trained, "v", {}) as folder:
        save_checkpoint(shrinking_sae(0.5), folder, hyperparameters=KEY)
    one = {"layer": "conv", "n_channels": 6, "n_nodes": N_NODES, "k": 3}
    everything = tuple(range(N_NODES))
    for asset, nodes, tables in (
        ("trained_sae", None, {"sae": pd.DataFrame([one]), "training_log": pd.DataFrame()}),
        ("meme_motifs", everything, {"motif": pd.DataFrame()}),
        ("tomtom_matches", everything, {"motif_match": pd.DataFrame()}),
    ):
        put_rows(platform, KEY, asset, trained, tables, nodes)


def test_a_vcf_goes_in_and_nodes_come_out(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    path = tmp_path / "dagster_project.toml"
    path.write_text(SETTINGS + MORE)
    settings = load_settings(path)
    with dg.DagsterInstance.ephemeral() as instance:
        project = Project(path, instance)
        instance.add_dynamic_partitions(HYPERPARAMETERS, [KEY])
        put_sae(project)
        (step,) = (s for s in steps(settings, settings.wanted()[0]) if "variant_nodes" in s.assets)
        result = project.materialize(step)
        assert result.success, failure_of(result)
        effects = variant_effects.build(Partitions.of(settings))
        here = {"platform": project.platform}
        assert dg.materialize([effects], resources=here, instance=instance).success
    opened = saeborzoi.open(tmp_path)
    variants = opened.table("variant")
    assert len(variants) == 6
    first = variants.iloc[0]["variant"]
    report = opened.variant(first.removeprefix("chr"), KEY)
    assert report.variant == first
    assert first in repr(report)
    assert report.parts["attribution"].notna().all()
    assert len(report.tracks) == 3
    assert set(report.nodes["part"]) == {"node"}
    chrom, pos, ref, _ = first.split(":")
    other = next(base for base in "ACGT" if base not in first.split(":")[2:])
    with pytest.raises(InputError, match=f"the nearest are .*{first}"):
        opened.variant(f"{chrom}:{pos}:{ref}:{other}", KEY)
    sae = opened.sae(KEY)
    found = sae.variant_enrichment("traits")
    assert found["q_value"].between(0, 1).all()
    with pytest.raises(InputError, match="'matched' have no controls"):
        sae.variant_enrichment("matched")
    out = tmp_path / "out.vcf"
    assert sae.variants_vcf("traits", out) == 4
    import pysam

    with pysam.VariantFile(str(out)) as file:
        records = list(file)
    assert [f"{r.chrom}:{r.pos}:{r.ref}:{r.alts[0]}" for r in records] == variants.loc[
        variants["variant_set"] == "traits", "variant"
    ].tolist()
    assert all(np.isfinite(r.info["SAEB_EFFECT"]) for r in records)
    assert {r.info["SAEB_TRACK"] for r in records} <= {"a", "b", "idle"}
    page = page_of_variants(project.platform, KEY)
    assert page is not None
    assert first in page
