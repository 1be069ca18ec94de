"""From a VCF to the catalogue, the page, the API and a VCF again, through the assets."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest

import saeborzoi
from saeborzoi.errors import InputError
from saeborzoi.jobs.provenance import write_artifact
from saeborzoi.project.project import Project as ProjectApi
from saeborzoi.sae.checkpoint import save_checkpoint
from saeborzoi.settings.load import load_settings
from saeborzoi.settings.sections import ShardSet
from saeborzoi.sources import ask
from saeborzoi_assets.assets.feature_browser import page_of_variants
from saeborzoi_assets.commands.cli import main
from saeborzoi_assets.partitions import HYPERPARAMETERS
from saeborzoi_assets.plan import steps
from saeborzoi_resources.finding import Finding
from saeborzoi_resources.upkeep.project_check import check_project
from tests.effects.nets import INPUT_BP, shrinking_sae
from tests.made_project import Project, failure_of, put_rows
from tests.stages.test_variant_stages import SETTINGS, VCF, write_inputs

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


def test_check_says_what_the_run_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that the run refuses is refused, and what it skips is told; none is dropped."""
    write_inputs(tmp_path)
    (tmp_path / "dagster_project.toml").write_text(SETTINGS)
    answer = {"n_parameters": 1, "fingerprint": "f", "input_bp": INPUT_BP}
    monkeypatch.setattr(ask, "ask_model", lambda *_, **__: answer)
    letters = (tmp_path / "g.fa").read_text().split("\n")[1]

    def looked(*rows: str, **changes: object) -> Finding:
        if rows:
            lines = "".join(f"{row}\t.\t.\t.\n" for row in rows)
            (tmp_path / "traits.vcf").write_text(VCF + lines)
        settings = load_settings(tmp_path)
        first = settings.variants[0].model_copy(update=changes)
        settings = settings.model_copy(update={"variants": (first,)})
        return next(f for f in check_project(settings) if f.what == "variants traits")

    finding = looked()
    assert finding.ok
    for text in (
        "4 variants (3 SNP, 1 deletion)", "'1' of the file is 'chr1' of the genome",
        "1 skipped, as in line 7: a symbolic allele",
    ):  # fmt: skip
        assert text in finding.detail
    one = f"1\t1\t.\t{letters[0]}\t{'A' if letters[0] != 'A' else 'C'}"
    long = f"1\t300\t.\t{letters[299]}{'A' * 50_000}\t{letters[299]}"
    finding = looked(one, long)
    assert finding.ok
    assert "as in line 4: its reference allele has 50,001 bp, more than" in finding.detail
    long = f"1\t300\t.\t{letters[299:340]}\t{letters[299]}"
    finding = looked(one, long)
    assert not finding.ok
    assert "more than half of the model's input of 64 bp" in finding.detail
    finding = looked(one, "1\t1001\t.\tA\tC")
    assert not finding.ok
    assert "line 4" in finding.detail
    assert "it ends before" in finding.detail
    shards = ShardSet(shards=tmp_path, windows=tmp_path / "w.bed")
    settings = load_settings(tmp_path)
    layer = settings.layer[0].model_copy(update={"train": shards})
    settings = settings.model_copy(update={"layer": (layer,)})
    finding = next(f for f in check_project(settings) if f.what == "variants traits")
    assert not finding.ok
    assert "traits.vcf: needed are [[variants]], and a [model] with a [[layer]]" in finding.detail


@pytest.mark.slow
def test_a_vcf_goes_in_and_nodes_come_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_inputs(tmp_path)
    path = tmp_path / "dagster_project.toml"
    path.write_text(SETTINGS + MORE)
    settings = load_settings(path)
    with dg.DagsterInstance.ephemeral() as instance:
        project = Project(path, instance)
        instance.add_dynamic_partitions(HYPERPARAMETERS, [KEY])
        put_sae(project)
        of_sets = [s for s in steps(settings, settings.wanted()[0]) if s.first.of_set is not None]
        assert [step.partition for step in of_sets] == [
            "variants=traits", "variants=matched", f"{KEY}|variants=traits",
            f"{KEY}|variants=matched",
        ]  # fmt: skip
        for step in of_sets:
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
    enrichment = sae.variant_enrichment("traits")
    assert enrichment["q_value"].between(0, 1).all()
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
    capsys.readouterr()
    the_command_says_the_same(opened, first, tmp_path, capsys)
    page = page_of_variants(project.platform, KEY)
    assert page is not None
    assert first in page


def the_command_says_the_same(
    project: ProjectApi, variant: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`saeborzoi variants`: sets, a set, a variant, and what is refused."""

    def says(*arguments: str, code: int = 0) -> str:
        assert main(["--project", str(folder), "variants", KEY, *arguments]) == code
        output = capsys.readouterr()
        return output.err if code else output.out

    sets = json.loads(says("--json"))
    assert [(s["variant_set"], s["n_variants"], s["n_skipped"]) for s in sets] == [
        ("traits", 4, 1), ("matched", 2, 0),
    ]  # fmt: skip
    assert "traits.vcf" in says()
    rows = json.loads(says("--set", "traits", "--json"))
    sizes = [row["effect_norm"] for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    acting = project.sae(KEY).table("node_variant")
    assert {row["variant"] for row in rows if row["node"] is not None} == set(
        acting.loc[acting["variant_set"] == "traits", "variant"]
    )
    assert "1 of 4 variants; --top 4 prints all" in says("--set", "traits", "--top", "1")
    assert "4 variants are in" in says("--set", "traits", "--vcf", str(folder / "again.vcf"))
    assert (folder / "again.vcf").read_text() == (folder / "out.vcf").read_text()
    enriched = json.loads(says("--set", "traits", "--enrichment", "--json"))
    assert len(enriched) == len(project.sae(KEY).variant_enrichment("traits"))
    text = says(variant.removeprefix("chr"))
    assert repr(project.variant(variant, KEY)) in text
    assert "background" in text
    document = json.loads(says(variant, "--json"))
    assert document["variant"] == variant
    assert len(document["parts"]) == len(project.variant(variant, KEY).parts)
    assert "--vcf is of a set: name it with --set, one of traits, matched" in says(
        "--vcf", "x.vcf", code=2
    )
    assert "no variant of 'trait' is in the catalogue" in says("--set", "trait", code=2)
    assert "leave out the variant" in says(variant, "--set", "traits", "--enrichment", code=2)
