"""Public files that are named where BED is needed: the same answer wherever they are met."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from saeborzoi.errors import InputError
from saeborzoi.genome.bed import read_bed
from saeborzoi.genome.coordinates import read_windows
from saeborzoi.settings.load import load_settings
from saeborzoi_assets.commands import runner
from saeborzoi_assets.commands.cli import main
from saeborzoi_resources.upkeep.project_check import check_project
from tests.assets.small_project import make_small_project
from tests.genome.test_public_files import GTF, PEAK, RMSK, RMSK_OUT, UCSC_CCRE

GFF = "".join(
    f"chr1\tHAVANA\t{feature}\t{start}\t{end}\t.\t+\t.\tID={feature}1;{{gene}}gene_name=A%2CB\n"
    for feature, start, end in (("gene", 101, 400), ("exon", 101, 150))
)
WITH_GENE_ID = GFF.format(gene="gene_id=G1;")


def _text(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


def _gzipped(path: Path) -> None:
    path.write_bytes(gzip.compress(RMSK.encode()))


def _bigbed(path: Path) -> None:
    pybigtools = pytest.importorskip("pybigtools", reason="needs the extra bigwig")
    chrom, start, end, rest = UCSC_CCRE.rstrip().split("\t", 3)
    rows = iter([(chrom, int(start), int(end), rest)])
    bigbed = path.with_suffix(".bb")  # pybigtools tells by the name what to write
    pybigtools.open(str(bigbed), "w").write({chrom: 10**6}, rows)
    bigbed.rename(path)


PUBLIC = [
    (_text(GTF), "gencode"),
    (_text(WITH_GENE_ID), "gencode"),
    (_text(RMSK), "rmsk"),
    (_gzipped, "rmsk"),
    (_text(RMSK_OUT), "rmsk"),
    (_text(PEAK), "narrowpeak"),
    (_text(UCSC_CCRE), "ccre"),
    (_bigbed, "ccre"),
]


@pytest.mark.parametrize(("write", "kind"), PUBLIC)
def test_the_command_that_makes_it_ready_makes_it_ready(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    write: Callable[[Path], object],
    kind: str,
) -> None:
    path = tmp_path / "annotation.bed"
    write(path)
    answer = f"{path}: {kind} as it is distributed; make it ready: "
    with pytest.raises(InputError) as refused:
        read_bed(path)
    message = str(refused.value)
    assert message.startswith(answer)
    assert main(["data", "check", str(path)]) == 0
    assert capsys.readouterr().out.strip() == message
    program, *arguments = message.removeprefix(answer).split()
    assert program == "saeborzoi"
    assert main(arguments) == 0
    assert len(read_bed(tmp_path / f"annotation.{kind}.bed"))


def test_check_and_run_say_the_same_before_anything_is_made(tmp_path: Path) -> None:
    settings_file = make_small_project(tmp_path)
    (tmp_path / "marks.bed").write_text(GTF)
    findings = {f.what: f for f in check_project(load_settings(settings_file))}
    refused = findings["annotation marks"]
    assert not refused.ok
    assert "make it ready: saeborzoi data prepare gencode " in refused.detail
    settings = load_settings(settings_file)
    with pytest.raises(InputError, match=re.escape(refused.detail)):
        runner.run(settings_file, settings, settings.wanted())
    assert not [*(tmp_path / "store").rglob("sae.safetensors")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GTF, "make it ready: saeborzoi data prepare gencode"),
        (GFF.format(gene=""), "a GFF whose features have no gene_id; bring the GTF"),
        ("##fileformat=VCFv4.2\nchr1\t1\ta\tA\tC\n", r"a VCF, whose place is .*\[\[variants\]\]"),
        ("\x26\ufffd", "3 are needed"),
        ("chr1 1 5 a . x\n", "1 column separated by tabs, where 3 are needed"),
    ],
)
def test_windows_say_what_they_are_instead(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "windows.bed"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_windows(path)


def test_what_is_bed_already_is_taken_as_it_is(tmp_path: Path) -> None:
    """Peaks are windows, and another column than the sixth may hold their classes."""
    path = tmp_path / "peaks.narrowPeak"
    path.write_text(PEAK.replace("Peak_112", "strong"))
    assert len(read_windows(path)) == len(PEAK.splitlines())
    assert set(read_bed(path, class_column=4)["annotation_class"]) == {"strong"}


def test_genes_of_another_naming_are_refused(tmp_path: Path) -> None:
    """Else no seqlet has a gene, and nothing says why."""
    settings_file = make_small_project(tmp_path)
    text = settings_file.read_text()
    settings_file.write_text(text.replace("[data]\n", '[data]\ngenes = "genes.gtf"\n'))
    for gtf, words in (
        (GTF, None),
        (GTF.replace("chr1\t", "1\t"), "none of its chromosomes (1) is in the genome"),
        (GTF.replace("\t400\t", "\t4000000\t"), "line 2: chr1:3999999-4000000 reaches beyond"),
        (RMSK, "17 columns; a GTF has 9"),
    ):
        (tmp_path / "genes.gtf").write_text(gtf)
        findings = {f.what: f for f in check_project(load_settings(settings_file))}
        assert findings["genes"].ok == (words is None), findings["genes"]
        assert (words or "1 genes") in findings["genes"].detail
