"""Variants: what is read is what the file says, checked against the genome, and nothing is lost."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saeborzoi.errors import InputError
from saeborzoi.genome.alleles import allele_letters, neutral_changes
from saeborzoi.genome.fasta import Genome
from saeborzoi.genome.variants import Variants, normalized, parse_variant, read_variants

pysam = pytest.importorskip("pysam", reason="needs pysam (saeborzoi[variants]) to read VCF")

CHR1 = "ACGTTTTTGACCANNACGTACGTACGCCATGCAT" + "ACGGT" * 20
HEADER = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    path.write_text(f">chr1\n{CHR1}\n>chrM\n{'GATTACA' * 30}\n")
    return Genome(path)


def vcf(path: Path, *rows: str) -> Path:
    fields = [row.split() for row in rows]
    lines = ["\t".join([c, p, i, r, a, ".", ".", "."]) for c, p, i, r, a in fields]
    path.write_text(HEADER + "".join(f"{line}\n" for line in lines))
    return path


def reasons(variants: Variants) -> dict[int, str]:
    return dict(zip(variants.skipped["line"], variants.skipped["reason"], strict=True))


def test_records_are_split_and_brought_into_one_form(tmp_path: Path, genome: Genome) -> None:
    path = vcf(
        tmp_path / "v.vcf",
        "1 1 rs1 A C,G",  # two alternative alleles
        "1 7 rs2 TT T",  # a deletion in a run of T: left-aligned
        "1 9 . GAC GTC",  # an SNP written long
        "1 26 rs4 GCC GCCA",  # an insertion written long
        "MT 1 . G T",
        "1 18 . GT CA",
        "1 10 . A AGA",
    )
    variants = read_variants(path, genome)
    assert variants.table[["variant", "name", "kind", "line"]].values.tolist() == [
        ["chr1:1:A:C", "rs1", "SNP", 3],
        ["chr1:1:A:G", "rs1", "SNP", 3],
        ["chr1:3:GT:G", "rs2", "deletion", 4],
        ["chr1:8:T:TGA", "", "insertion", 9],
        ["chr1:10:A:T", "", "SNP", 5],
        ["chr1:18:GT:CA", "", "MNV", 8],
        ["chr1:28:C:CA", "rs4", "insertion", 6],
        ["chrM:1:G:T", "", "SNP", 7],
    ]
    assert variants.table["given"].iloc[2] == "1:7:TT:T"
    assert (variants.table["end_bp"] - variants.table["start_bp"]).tolist() == [
        1,
        1,
        2,
        1,
        1,
        2,
        1,
        1,
    ]
    assert variants.skipped.empty
    assert variants.notes == (
        "'1' of the file is 'chr1' of the genome, and so on for 2 chromosomes",
    )


def test_what_cannot_be_used_is_listed_with_its_reason(tmp_path: Path, genome: Genome) -> None:
    path = vcf(
        tmp_path / "v.vcf",
        "chr1 1 . A C",
        "chr1 2 . C <DEL>",
        "chr1 2 . C C]chr1:9]",
        "chr1 2 . C *",
        "chr1 2 . C .",
        "chr1 2 . C R",
        "chr1 14 . N A",
        "chr1 13 . AN A",
        "chr9 2 . C A",
        f"chr1 2 . C C{'A' * 60}",
        "chr1 1 rs7 A C",
        "chr1 2 . C C",
    )
    variants = read_variants(path, genome, max_allele_bp=50)
    assert variants.table["variant"].tolist() == ["chr1:1:A:C"]
    assert reasons(variants) == {
        4: "a symbolic allele, which has no sequence",
        5: "a breakend; symbolic alleles have no sequence",
        6: "the allele * (deleted by another variant)",
        7: "no alternative allele",
        8: "its alternative allele has other letters than A, C, G, T",
        9: "its reference allele has other letters than A, C, G, T",
        10: "its reference allele has other letters than A, C, G, T",
        11: "its chromosome is not in the genome",
        12: "its alternative allele has 61 bp, more than the 50 of max_allele_bp",
        13: "the same variant as in line 3",
        14: "both alleles are the same",
    }
    assert "11 of 12 variants are skipped, see their reasons" in variants.notes
    too_long = variants.skipped.set_index("line").loc[12, "given"]
    assert too_long == "chr1:2:C:C" + 50 * "A" + "..."


def test_a_variant_on_n_is_skipped(tmp_path: Path, genome: Genome) -> None:
    variants = read_variants(vcf(tmp_path / "v.vcf", "chr1 1 . A C", "chr1 14 . A C"), genome)
    assert reasons(variants) == {4: "the genome holds N there"}


def test_another_reference_letter_is_refused_or_turned(tmp_path: Path, genome: Genome) -> None:
    path = vcf(tmp_path / "v.vcf", "chr1 1 . A C", "chr1 2 rs2 T C", "chr1 3 . G T")
    message = (
        r"v\.vcf, line 4: the reference allele is 'T', but at chr1:2 the genome .* has 'C'; fix or "
        "remove it, or set allow_swapped"
    )
    with pytest.raises(InputError, match=message):
        read_variants(path, genome)
    variants = read_variants(path, genome, allow_swapped=True)
    assert variants.table["variant"].tolist() == ["chr1:1:A:C", "chr1:2:C:T", "chr1:3:G:T"]
    assert variants.table["is_swapped"].tolist() == [False, True, False]
    assert variants.table["given"].iloc[1] == "chr1:2:T:C"
    assert any("1 variants are turned" in note for note in variants.notes)


def test_another_build_is_told_by_how_many_differ(tmp_path: Path, genome: Genome) -> None:
    path = vcf(tmp_path / "v.vcf", "chr1 1 . C G", "chr1 2 . G T", "chr1 3 . A C")
    for swapped in (False, True):
        with pytest.raises(InputError, match=r"line 3: .* 3 of 3 variants: .* another assembly"):
            read_variants(path, genome, allow_swapped=swapped)
    path = vcf(tmp_path / "w.vcf", f"chr1 {len(CHR1)} . T A", f"chr1 {len(CHR1)} . TA T")
    with pytest.raises(InputError, match=r"line 4: .* has nothing, it ends before"):
        read_variants(path, genome)
    at_end = read_variants(vcf(path, f"chr1 {len(CHR1)} . T A"), genome).table
    assert at_end["end_bp"].tolist() == [len(CHR1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (HEADER, "no variant in it"),
        (HEADER.split("\n")[0] + "\n", "without the line #CHROM"),
        (HEADER + "chr1\tx\t.\tA\tC\t.\t.\t.\n", "line 3: cannot be read as VCF"),
        ("a\tb\n1\t2\n", "fix chrom, pos, ref, alt"),
        ("chrom\tpos\tref\talt\nchr1\tx\tA\tC\n", "line 2: pos is 'x'"),
        ("chrom\tpos\tref\talt\n", "no variant in it"),
        (HEADER + "7\t1\t.\tA\tC\t.\t.\t.\n", r"its chromosomes are '7', the genome's chr1, chrM"),
        (
            HEADER + "chr1\t1\t.\tA\t<DEL>\t.\t.\t.\n",
            "none of its 1 variants can be used: 1 x a symbolic",
        ),
        ("\x89HDF\r\n\x1a\n", "HDF5"),
    ],
)
def test_bad_files_are_refused_in_words(
    tmp_path: Path, genome: Genome, text: str, message: str
) -> None:
    path = tmp_path / "v"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=message) as error:
        read_variants(path, genome)
    assert str(path) in str(error.value)


def test_compressed_files_and_tables_say_the_same(tmp_path: Path, genome: Genome) -> None:
    plain = vcf(tmp_path / "v.vcf", "chr1 1 rs1 A C", "chr1 7 . TT T")
    expected = read_variants(plain, genome).table
    zipped = tmp_path / "z.vcf.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    pysam.tabix_compress(str(plain), str(tmp_path / "b.vcf.gz"))
    for path in (zipped, tmp_path / "b.vcf.gz"):
        pd.testing.assert_frame_equal(read_variants(path, genome).table, expected)
    rows = [("rs1", "chr1", "1", "A", "C"), ("", "chr1", "7", "TT", "T")]
    for separator in "\t,":
        path = tmp_path / "table"
        lines = [("rsid", "chrom", "pos", "ref", "alt"), *rows]
        path.write_text("".join(separator.join(line) + "\n" for line in lines))
        table = read_variants(path, genome).table
        pd.testing.assert_frame_equal(table.drop(columns="line"), expected.drop(columns="line"))
        assert table["line"].tolist() == [2, 3]
    whole = (tmp_path / "b.vcf.gz").read_bytes()
    zipped.write_bytes(whole[:-28])  # bgzip's end mark
    with pytest.raises(InputError, match=r"z\.vcf\.gz, line 3: .*truncated"):
        read_variants(zipped, genome)


def test_ten_thousand_on_one_position(tmp_path: Path, genome: Genome) -> None:
    words = [np.base_repr(i, 4).zfill(7) for i in range(10_000)]
    rows = [f"chr1 1 . A A{word.translate(str.maketrans('0123', 'ACGT'))}" for word in words]
    variants = read_variants(vcf(tmp_path / "v.vcf", *rows), genome)
    assert len(variants.table) == 10_000
    assert variants.skipped.empty
    start = np.full(10_000, -20)
    letters = allele_letters(genome, variants.table, start, 64)
    assert (letters.ref[:, :20] == ord("N")).all()
    assert letters.alt[0, 20:36].tobytes() == b"AAAAAAAACGTTTTTG"


LETTERS = st.text("ACGT", min_size=1, max_size=4)


@given(st.text("ACGT", min_size=12, max_size=24), st.integers(0, 8), st.integers(1, 4), LETTERS)
def test_one_form_is_the_same_haplotype(text: str, start: int, n: int, alt: str) -> None:
    ref = text[start : start + n]
    if ref == alt:
        return
    first, short, other, kind = normalized(start, ref, alt, text.__getitem__)
    assert text[first : first + len(short)] == short
    assert text[:first] + other + text[first + len(short) :] == (
        text[:start] + alt + text[start + n :]
    )
    assert len(short) <= len(ref) + 1
    if kind in ("SNP", "MNV"):
        assert len(short) == len(other)
    # whatever it was before, the form is the same
    assert normalized(first, short, other, text.__getitem__) == (first, short, other, kind)


def test_letters_of_both_alleles(tmp_path: Path, genome: Genome) -> None:
    path = vcf(tmp_path / "v.vcf", "chr1 40 . A T", "chr1 50 . AC A", "chr1 60 . A AGTC")
    variants = read_variants(path, genome, allow_swapped=True).table
    start = variants["start_bp"].to_numpy() - 10
    letters = allele_letters(genome, variants, start, 30)
    for i, row in enumerate(variants.itertuples()):
        whole = CHR1[: row.start_bp] + row.alt + CHR1[row.end_bp :]
        low = int(start[i])
        grown = len(row.alt) - len(row.ref)
        assert letters.ref[i].tobytes().decode() == CHR1[low : low + 30]
        assert letters.alt[i].tobytes().decode() == whole[low : low + 30]
        # the same right end on the genome
        end = low + 30 + grown
        assert letters.alt_right[i].tobytes().decode() == whole[end - 30 : end]


def test_neutral_changes_are_of_the_same_kind_and_do_not_depend_on_others(
    tmp_path: Path, genome: Genome
) -> None:
    path = vcf(tmp_path / "v.vcf", "chr1 66 . C T", "chr1 76 . C CTT", "chr1 86 . CG C")
    variants = read_variants(path, genome, allow_swapped=True).table
    controls = neutral_changes(genome, variants, 3, 5, 40, seed=0)
    assert controls.groupby("control_of").size().tolist() == [3, 3, 3]
    for row in controls.itertuples():
        of = variants.set_index("variant").loc[row.control_of]
        assert CHR1[row.start_bp : row.end_bp] == row.ref != row.alt
        assert len(row.alt) - len(row.ref) == len(of["alt"]) - len(of["ref"])
        assert 5 <= abs(row.start_bp - of["start_bp"]) <= 40
    assert set(controls.loc[controls["kind"] == "SNP", "ref"]) == {"C"}
    assert set(controls.loc[controls["kind"] == "SNP", "alt"]) == {"T"}
    alone = neutral_changes(genome, variants.iloc[1:2], 3, 5, 40, seed=0)
    assert alone["variant"].tolist() == controls["variant"][3:6].tolist()


def test_a_key_is_found_as_people_write_it(genome: Genome) -> None:
    assert parse_variant("1:1:a:g", genome) == "chr1:1:A:G"
    assert parse_variant("chr1-7-TT-T", genome) == "chr1:3:GT:G"
    with pytest.raises(InputError, match="needed is chrom:pos:ref:alt"):
        parse_variant("rs1", genome)
