"""What is wrong with a file of variants is said in the same words by `check` and by the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from saeborzoi.errors import InputError
from saeborzoi.settings.load import Settings, load_settings
from saeborzoi.sources import ask
from saeborzoi.stages import variant_effects, variant_nodes
from saeborzoi_resources.finding import Finding
from saeborzoi_resources.upkeep.project_check import check_project
from tests.effects.nets import INPUT_BP
from tests.stages.test_variant_stages import SETTINGS, VCF, job_of, job_of_nodes, rows_of_nodes

SIZE, IN_N = 52_000, 50_500
"""Base pairs of the chromosome, and where it holds N, counted from 1."""
OTHER = {"A": "G", "G": "A", "C": "T", "T": "C"}


@pytest.fixture(scope="module")
def letters() -> str:
    drawn = np.random.default_rng(0).choice(list("ACGT"), SIZE)
    drawn[IN_N - 1 : IN_N + 9] = "N"
    return "".join(drawn)


@pytest.fixture
def folder(tmp_path: Path, letters: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("pysam", reason="needs pysam (saeborzoi[variants]) to read VCF")
    (tmp_path / "g.fa").write_text(f">chr1\n{letters}\n")
    (tmp_path / "w.bed").write_text("chr1\t0\t50000\n")
    answer = {"n_parameters": 1, "fingerprint": "f", "input_bp": INPUT_BP}
    monkeypatch.setattr(ask, "ask_model", lambda *_, **__: answer)
    return tmp_path


def settings_with(
    folder: Path, rows: list[str], *, predicts: bool = True, **changes: object
) -> Settings:
    """One set of these rows."""
    (folder / "traits.vcf").write_text(VCF + "".join(f"{row}\t.\t.\t.\n" for row in rows))
    (folder / "dagster_project.toml").write_text(SETTINGS)
    settings = load_settings(folder).of_set("traits")
    assert settings.model is not None
    changed: dict[str, Any] = {
        "variants": (settings.variants[0].model_copy(update=changes),),
        "model": settings.model.model_copy(update={"predicts": predicts}),
    }
    return settings.model_copy(update=changed)


def checked(settings: Settings) -> Finding:
    return next(each for each in check_project(settings) if each.what == "variants traits")


def snp(letters: str, pos: int, chrom: str = "chr1", ref: str | None = None) -> str:
    return f"{chrom}\t{pos}\t.\t{ref or letters[pos - 1]}\t{OTHER[ref or letters[pos - 1]]}"


REFUSED: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "empty": ([], {}, "no variant in it; bring a file with at least one"),
    "another build": (
        ["300 other", "400 other", "500"], {},
        "so it is for 2 of 3 variants: they are of another assembly; lift them over",
    ),
    "beyond the end": (["300", f"{SIZE + 1} A"], {}, "the genome .* has nothing, it ends before"),
    "all in N": ([f"{IN_N} A"], {}, "none of its 1 variants can be used: 1 x the genome holds N"),
    "symbolic alone": (["<DEL>"], {}, "none of its 1 variants can be used: 1 x a symbolic allele"),
    "other names": (["NC_000001.11"], {}, "its chromosomes are 'NC_000001.11', the genome's chr1;"),
    "50 kb deletion": (
        ["300", "50 kb"], {"max_allele_bp": 60_000},
        "50,001 bp and steps of 1 bp are more than half of the model's input of 64 bp",
    ),
}  # fmt: skip


def rows_of(letters: str, given: list[str]) -> list[str]:
    """Rows of a VCF from words for them."""
    rows = []
    for each in given:
        place, _, letter = each.partition(" ")
        if each == "50 kb":
            rows.append(f"chr1\t200\t.\t{letters[199:50_200]}\t{letters[199]}")
        elif each == "<DEL>":
            rows.append(f"chr1\t700\t.\t{letters[699]}\t<DEL>")
        elif not place.isdigit():
            rows.append(snp(letters, 300, place))
        elif letter == "other":
            rows.append(snp(letters, int(place), ref=OTHER[letters[int(place) - 1]]))
        else:
            rows.append(snp(letters, int(place), ref=letter or None))
    return rows


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_is_refused_in_the_same_words(
    folder: Path, letters: str, what: str
) -> None:
    given, changes, message = REFUSED[what]
    settings = settings_with(folder, rows_of(letters, given), **changes)
    with pytest.raises(InputError, match=message) as refused:
        variant_effects.run(job_of(settings, "variant_effects"))
    assert not (settings.project.store / "variant_effects").exists()
    finding = checked(settings)
    assert not finding.ok
    assert str(refused.value) in finding.detail
    # where there is no output model, too, and by the nodes' stage
    silent = settings_with(folder, rows_of(letters, given), predicts=False, **changes)
    with pytest.raises(InputError) as again:
        variant_nodes.run(job_of_nodes(silent))
    assert str(again.value) == str(refused.value)


def test_what_is_skipped_is_counted_alike(folder: Path, letters: str) -> None:
    """At both ends, in N, ten thousand on one position, 50 kb, symbolic, other names."""
    ends = [snp(letters, 1, "1"), snp(letters, SIZE, "1")]
    many = [f"1\t900\t.\t{letters[899]}\t{base}" for base in "ACGT" if base != letters[899]]
    rows = [
        *ends, snp(letters, IN_N + 3, "1", ref="A"), *(many[i % 3] for i in range(10_000)),
        *(row.replace("chr1", "1") for row in rows_of(letters, ["50 kb", "<DEL>"])),
    ]  # fmt: skip
    settings = settings_with(folder, rows)
    settings = settings.model_copy(
        update={"attribution": settings.attribution.model_copy(update={"n_controls": 2})}
    )
    figures = variant_effects.run(job_of(settings, "variant_effects"))
    assert (figures["n_variants"], figures["n_skipped"]) == (5, 10_000)
    assert "'1' of the file is 'chr1' of the genome" in figures["notes"]
    output = settings.project.store / "variant_effects"
    skipped = pd.read_parquet(output / "variant_skipped.parquet")
    counted = skipped.groupby("reason")["line"].agg(["size", "min"])
    assert counted["size"].nlargest(3).tolist() == [3333, 3332, 3332]
    assert counted.loc["the genome holds N there", "size"] == 1
    assert counted.loc["a symbolic allele, which has no sequence", "size"] == 1
    too_long = "its reference allele has 50,001 bp, more than the 1,000 of max_allele_bp"
    assert counted.loc[too_long, "size"] == 1
    assert skipped["given"].str.len().max() < 100
    variants = pd.read_parquet(output / "variant.parquet").set_index("variant")
    assert np.isfinite(variants["effect_norm"]).all()
    # beyond the ends the model sees N, which is said
    at_ends = variants["start_bp"].isin([0, SIZE - 1])
    assert (variants.loc[at_ends, "n_unknown"] >= INPUT_BP // 2 - 1).all()
    assert (variants.loc[~at_ends, "n_unknown"] == 0).all()
    finding = checked(settings)
    assert finding.ok
    assert finding.detail.startswith("5 variants (5 SNP); '1' of the file is 'chr1'")
    assert "10,000 of 10,005 variants are skipped, see their reasons" in finding.detail
    reasons = counted["size"].nlargest(3).index
    assert all("3,33" in finding.detail and reason in finding.detail for reason in reasons)
    variant_nodes.run(job_of_nodes(settings))
    assert set(rows_of_nodes(settings)["variant"]) == set(variants.index)
