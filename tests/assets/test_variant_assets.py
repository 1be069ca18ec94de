"""From a VCF to the catalogue, the page, the API and a VCF again, through the assets."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import numpy as np
import pytest

import saeborzoi
from saeborzoi.errors import InputError
from saeborzoi.settings.load import load_settings
from saeborzoi_assets.definitions import build_definitions
from saeborzoi_assets.partitions import HYPERPARAMETERS
from saeborzoi_assets.plan import project_steps, steps
from tests.assets.test_pipeline import Project, failure_of
from tests.made_project import PlatformHere
from tests.stages.test_variant_stages import SETTINGS, write_inputs

KEY = "conv_x2_k0.5_lr0.003_s0"
MORE = """
[[data.motif_database]]
name = "known"
source = "known.meme"
[[sae]]
layer = "conv"
expansion = 2
topk = 0.5
[training]
n_epochs = 2
batch_size = 64
[selection]
n_top = 40
min_nonzero = 10
min_strong = 5
[motifs]
n_motifs = 1
[effects]
n_loci = 2
n_controls = 1
"""
MEME = """MEME version 4

ALPHABET= ACGT

MOTIF K1 known

letter-probability matrix: alength= 4 w= 4 nsites= 100 E= 0
0.91 0.03 0.03 0.03
0.03 0.91 0.03 0.03
0.03 0.03 0.91 0.03
0.03 0.03 0.03 0.91
"""


@pytest.mark.slow
def test_a_vcf_goes_in_and_nodes_come_out(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    (tmp_path / "known.meme").write_text(MEME)
    path = tmp_path / "dagster_project.toml"
    path.write_text(SETTINGS + MORE)
    settings = load_settings(path)
    here = PlatformHere(settings_file=str(path))
    with dg.DagsterInstance.ephemeral() as instance:
        project = Project(path, instance)
        project.definitions = build_definitions(path, {"platform": here})
        instance.add_dynamic_partitions(HYPERPARAMETERS, [KEY])
        for step in [*steps(settings, settings.wanted()[0]), *project_steps(settings)]:
            if "sae_comparison" not in step.assets:
                result = project.materialize(step)
                assert result.success, failure_of(result)
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
    page = (settings.project.store / "browser" / KEY / "variants.html").read_text()
    assert first in page
