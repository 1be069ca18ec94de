"""Public files as they are distributed become BED with the class in column 6."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from saeborzoi.errors import InputError
from saeborzoi.genome.bed import read_bed
from saeborzoi.genome.file_kinds import Kind
from saeborzoi.genome.public_files import build_of, builds_that_hold, prepare
from saeborzoi_assets.commands.cli import main
from saeborzoi_resources.upkeep.data_files import describe

CCRE = """\
chr1\t10033\t10250\tEH38D4327497\tEH38E2776516\tpELS
chr1\t10385\t10713\tEH38D4327498\tEH38E2776517\tdELS,CTCF-bound
chr2\t200\t300\tEH38D4327499\tEH38E2776518\tCA-CTCF
"""
UCSC_CCRE = (
    "chr1\t181251\t181601\tEH38E1310153\t150\t.\t181251\t181601\t255,205,0\tdELS\tdELS\t1.5\tenhD"
    "\tEH38E1310153\tdistal enhancer\n"
)
RMSK = (
    "585\t1504\t13\t4\t13\tchr1\t10000\t10468\t-248945954\t+\t(CCCTAA)n\tSimple_repeat"
    "\tSimple_repeat\t1\t463\t0\t1\n"
    "585\t3612\t114\t270\t13\tchr1\t10468\t11447\t-248944975\t-\tTAR1\tSatellite\ttelo"
    "\t-399\t1712\t483\t2\n"
)
RMSK_OUT = """\
   SW   perc perc perc  query     position in query    matching repeat     position in repeat
score   div. del. ins.  sequence  begin end   (left)   repeat   class/family begin end (left) ID

  463   1.3  0.6  1.7  chr1      10001   10468 (248945954) +  (TAACCC)n Simple_repeat 1 471 (0) 1
 3612  11.4 21.5  1.3  chr1      10469   11447 (248944975) C  AluY SINE/Alu (399) 1712 483 2
"""
GTF = """\
##description: evidence-based annotation
chr1\tHAVANA\tgene\t101\t400\t.\t-\t.\tgene_id "ENSG1"; gene_name "ABC";
chr1\tHAVANA\texon\t101\t150\t.\t-\t.\tgene_id "ENSG1"; transcript_id "T1"; gene_name "ABC";
chr1\tHAVANA\texon\t301\t400\t.\t-\t.\tgene_id "ENSG1"; transcript_id "T1"; gene_name "ABC";
chr1\tHAVANA\texon\t131\t200\t.\t-\t.\tgene_id "ENSG1"; transcript_id "T2"; gene_name "ABC";
"""
BROAD_PEAK = "chr1\t957833\t959355\tPeak_112\t815\t.\t88.4\t469.2\t463.7\n"
PEAK = "chr1\t957833\t959355\tPeak_112\t815\t.\t88.4\t469.2\t463.7\t1035\n"


def _rows(kind: Kind, text: str, folder: Path, label: str | None = None) -> list[str]:
    source = folder / "source.txt.gz"
    source.write_bytes(gzip.compress(text.encode()))
    output = prepare(kind, source, folder / "out.bed", label).path
    read_bed(output, 6)
    return output.read_text().splitlines()


def test_ccres_keep_their_group_and_name(tmp_path: Path) -> None:
    assert _rows(Kind.CCRE, CCRE, tmp_path)[1] == "chr1\t10385\t10713\tEH38D4327498\t.\tdELS"
    assert _rows(Kind.CCRE, UCSC_CCRE, tmp_path) == ["chr1\t181251\t181601\tEH38E1310153\t.\tdELS"]


def test_repeats_have_their_family_strand_and_place(tmp_path: Path) -> None:
    """UCSC's table counts from 0, RepeatMasker's own from 1: the same interval comes out."""
    table, own = (_rows(Kind.RMSK, text, tmp_path) for text in (RMSK, RMSK_OUT))
    assert table[0] == "chr1\t10000\t10468\t(CCCTAA)n\t+\tSimple_repeat"
    assert table[1] == "chr1\t10468\t11447\tTAR1\t-\ttelo"
    assert own[1] == "chr1\t10468\t11447\tAluY\t-\tAlu"


def test_genes_become_merged_exons_and_what_lies_between(tmp_path: Path) -> None:
    """Exons of two transcripts overlap at 131-150; GTF counts from 1 and includes the end."""
    assert _rows(Kind.GENCODE, GTF, tmp_path) == [
        "chr1\t100\t200\tABC\t-\texon",
        "chr1\t200\t300\tABC\t-\tintron",
        "chr1\t300\t400\tABC\t-\texon",
    ]


def test_peaks_get_the_label(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data prepare narrowpeak"):
        read_bed(_write(tmp_path, PEAK * 200), 6)
    assert _rows(Kind.NARROWPEAK, PEAK, tmp_path, "H3K4me3")[0].endswith("\t.\tH3K4me3")


def _write(folder: Path, text: str) -> Path:
    path = folder / "file.bed"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (Kind.CCRE, RMSK, "line 1: no column holds a class of cCREs"),
        (Kind.CCRE, CCRE + "chr1\t1\t9\ta\tb\tdEL\n", "line 4: 'dEL' is no class"),
        (Kind.CCRE, CCRE + "chr1\t9\t9\ta\tb\tdELS\n", "line 4: start 9 is not before end 9"),
        (Kind.RMSK, CCRE, "line 1: neither a row of UCSC's rmsk.txt"),
        (Kind.GENCODE, CCRE, "line 1: 6 columns; a GTF has 9"),
        (Kind.GENCODE, GTF.replace('gene_id "ENSG1"; transcript', "gene ENSG1; transcript"),
         "line 3: an exon without gene_id"),
        (Kind.NARROWPEAK, CCRE, "narrowPeak has 10"),
        (Kind.RMSK, "# only remarks\n", "no interval"),
    ],
)  # fmt: skip
def test_another_kind_of_file_is_refused_and_nothing_written(
    tmp_path: Path, kind: Kind, text: str, message: str
) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(InputError, match=message):
        prepare(kind, path, tmp_path / "out.bed")
    assert not (tmp_path / "out.bed").exists()


def test_builds_are_told_by_their_chromosomes() -> None:
    assert build_of({"1": 249_250_621, "2": 243_199_373}) == "hg19"
    assert build_of({"chr1": 1000}) is None
    assert builds_that_hold({"chr1": 249_000_000}) == ["hg19"]


@pytest.mark.parametrize(
    ("text", "description"),
    [
        (CCRE * 3, "annotation of 9 intervals, 3 classes in column 6"),
        (RMSK, "data prepare rmsk"),
        (GTF.split("\n", 1)[1], "data prepare gencode"),
        (RMSK_OUT, "data prepare rmsk"),
        (PEAK, "data prepare narrowpeak"),
        ("track type=narrowPeak\n" + PEAK, "data prepare narrowpeak"),
        (BROAD_PEAK, "data prepare narrowpeak"),
        ("chr1\t1\t5\ta\t0\t+\t1\t5\t0\n", "intervals without a class, 1 or more"),
        (">chr1\nACGT\n", "genome of 1 sequences, 4 bp"),
        ("chr1\t1\t5\nchr1\t7\t9\n", "intervals without a class"),
    ],
)
def test_a_file_is_told_from_its_content(tmp_path: Path, text: str, description: str) -> None:
    assert description in describe(_write(tmp_path, text))


def test_bigbed_is_read_as_it_is(tmp_path: Path) -> None:
    """UCSC has its track of cCREs, ENCODE many peaks, as bigBed alone."""
    pybigtools = pytest.importorskip("pybigtools", reason="needs the extra bigwig")
    path = tmp_path / "encodeCcreCombined.bb"
    chrom, start, end, rest = UCSC_CCRE.rstrip().split("\t", 3)
    rows = [(chrom, int(start), int(end), rest), ("chr2", 5, 9, rest)]
    pybigtools.open(str(path), "w").write({chrom: 10**6, "chr2": 10}, iter(rows))
    assert describe(path).startswith("ccre as it is distributed")
    assert prepare(Kind.CCRE, path, tmp_path / "out.bed").n_rows == 2
    assert (tmp_path / "out.bed").read_text().splitlines() == [
        "chr1\t181251\t181601\tEH38E1310153\t.\tdELS",
        "chr2\t5\t9\tEH38E1310153\t.\tdELS",
    ]
    pybigtools.open(str(path), "w").write({"chr1": 10}, iter([("chr1", 5, 9, "a")]))
    with pytest.raises(InputError, match="a bigBed of another kind"):
        describe(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="a bigBed that cannot be read"):
        describe(path)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("<!DOCTYPE html><html>", "a web page: the download brought an error page"),
        ("version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
    ],
)
def test_what_a_download_brought_instead_is_named(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(InputError, match=what):
        describe(_write(tmp_path, text))


def test_the_commands_write_what_the_settings_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "rmsk.txt"
    source.write_text(RMSK)
    assert main(["data", "prepare", "rmsk", str(source)]) == 0
    assert "[[data.annotation]]" in capsys.readouterr().out
    assert main(["data", "check", str(tmp_path / "rmsk.rmsk.bed"), str(tmp_path / "none")]) == 1
    out = capsys.readouterr().out
    assert "rmsk.rmsk.bed: annotation" in out or "rmsk.rmsk.bed: intervals" in out
    assert "no such file" in out
    assert main(["data", "prepare", "rmsk", str(source)]) == 2
    assert "exists" in capsys.readouterr().err
    assert main(["data", "prepare", "rmsk", str(tmp_path)]) == 2
    assert "is a folder; name the file" in capsys.readouterr().err
    # what the system refuses is one line, too
    assert main(["data", "prepare", "rmsk", str(source), "--output", "x" * 300]) == 2
    assert capsys.readouterr().err.count("\n") == 1
