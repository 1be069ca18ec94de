"""Coordinates: what would silently shift, double or lose loci."""

from __future__ import annotations

import gzip
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saeborzoi.errors import InputError
from saeborzoi.genome.coordinates import (
    Windows,
    kept_positions,
    position_intervals,
    read_bed,
    read_windows,
    require_annotation_fits,
    require_inside,
)

PUBLISHED = (
    "\t0\t1\t2\tchunk_ind\tinner_ind\n0\tchr1\t100\t164\t0\t0\n1\tchr2\t8\t72\t1\t0\n"
    "2\tchr1\t132\t196\t0\t1\n"
)


def windows_of(*intervals: tuple[str, int, int]) -> Windows:
    chrom, start, end = zip(*intervals, strict=True)
    n = len(intervals)
    return Windows(
        path=Path("train_seqs.bed"),
        chrom=np.array(chrom, object),
        start_bp=np.array(start, np.int64),
        end_bp=np.array(end, np.int64),
        shard=np.full(n, -1, np.int64),
        row=np.arange(n),
        line=np.arange(1, n + 1),
    )


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# windows


def test_published_windows(tmp_path: Path) -> None:
    windows = read_windows(write(tmp_path / "train_seqs.bed", PUBLISHED))
    assert list(windows.chrom) == ["chr1", "chr2", "chr1"]
    assert windows.start_bp.tolist() == [100, 8, 132]
    assert windows.end_bp.tolist() == [164, 72, 196]
    assert windows.shard.tolist() == [0, 1, 0]
    assert windows.row.tolist() == [0, 0, 1]
    assert windows.line.tolist() == [2, 3, 4]


@pytest.mark.parametrize("extra", ["", "\tname\t0\t+"])
def test_plain_bed_windows(tmp_path: Path, extra: str) -> None:
    text = f"track name=x\n# remark\nchr1\t100\t164{extra}\n\nchr2\t8\t72{extra}\n"
    windows = read_windows(write(tmp_path / "sequences.bed", text))
    assert list(windows.chrom) == ["chr1", "chr2"]
    assert windows.shard.tolist() == [-1, -1]
    assert windows.row.tolist() == [0, 1]
    assert windows.line.tolist() == [3, 5]


def test_real_windows_agree(hg38_case: Path) -> None:
    folder = hg38_case / "activations" / "train"
    published, plain = (read_windows(folder / f"{n}.bed") for n in ("train_seqs", "sequences"))
    assert published.start_bp.tolist() == plain.start_bp.tolist()
    assert len(published) == 64
    assert len(np.unique(published.shard * 100 + published.row)) == 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no interval"),
        ("\n\n", "no interval"),
        ("chr1\t5\tx\n", r"line 1: end_bp is 'x'"),
        ("chr1\t1\t2\nchr1\t9\t9\n", r"line 2: start 9 is not before end 9"),
        ("#x\n\ntrack\nchr1\t-1\t2\n", r"line 4: start_bp is '-1'"),
        ("chr1\t1\t2\nchr1\t3\n", r"line 2: column 3 \(end_bp\) is empty or missing"),
        ("chr1 1 2\n", "1 column separated by tabs, where 3 are needed"),
        ("\t0\t1\t2\tchunk_ind\n0\tchr1\t1\t2\t0\n", "lacks 'inner_ind'"),
        (PUBLISHED + "3\tchr1\t300\t364\t0\t1\n", r"line 5: row 1 of shard 0 stands in an earlier"),
        (PUBLISHED + "3\tchr1\t300\t364\t0\t1.5\n", r"line 5: row is '1.5'"),
    ],
)
def test_bad_windows_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_windows(write(tmp_path / "train_seqs.bed", text))


def test_missing_or_damaged_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.bed"):
        read_windows(tmp_path / "none.bed")
    whole = gzip.compress(b"chr1\t1\t2\n" * 10_000)
    (tmp_path / "cut.bed.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.bed\.gz"):
        read_windows(tmp_path / "cut.bed.gz")
    with pytest.raises(InputError, match=r"cut\.bed\.gz"):
        read_bed(tmp_path / "cut.bed.gz", 4)


# annotation


def test_bed_classes(tmp_path: Path) -> None:
    text = "browser position\nchr1\t1\t5\tn\t.\tLINE/L1#x\nchr2\t7\t9\tn\t.\tNA\textra\n"
    path = tmp_path / "rmsk.bed.gz"
    path.write_bytes(gzip.compress(text.encode()))
    bed = read_bed(path, class_column=6)
    assert bed.to_dict("list") == {
        "chrom": ["chr1", "chr2"],
        "start_bp": [1, 7],
        "end_bp": [5, 9],
        "annotation_class": ["LINE/L1#x", "NA"],
    }
    assert bed.index.tolist() == [2, 3]


@pytest.mark.parametrize("name", ["all.bed", "all.bed.gz"])
def test_a_table_larger_than_the_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The kernel would end the process without a word."""
    text = "".join(f"chr1\t{start}\t{start + 9}\t.\t.\tmark\n" for start in range(20_000))
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    assert len(read_bed(path)) == 20_000
    free = SimpleNamespace(available=2**20)
    monkeypatch.setattr("saeborzoi.reading.psutil.virtual_memory", lambda: free)
    with pytest.raises(InputError, match=rf"{name}: .* the memory that is free holds"):
        read_bed(path)


def test_bed_without_the_class_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.bed", "chr1\t1\t5\tn\t.\tAlu\nchr1\t1\t5\n")
    with pytest.raises(InputError, match=r"line 2: column 6 \(annotation_class\)"):
        read_bed(path, class_column=6)
    with pytest.raises(InputError, match=r"6 columns .* where 9 are needed"):
        read_bed(path, class_column=9)


def test_intervals_outside_the_genome_are_named() -> None:
    sizes = {"chr1": 100}
    require_inside(Path("a.bed"), ["chr1"], [90], [100], [1], sizes)
    with pytest.raises(InputError, match=r"a\.bed, line 7: chr1:90-101 reaches beyond .* 100 bp"):
        require_inside(Path("a.bed"), ["chr1", "chr1"], [1, 90], [2, 101], [6, 7], sizes)
    with pytest.raises(InputError, match=r"line 3: chromosome '1' is not in the genome"):
        require_inside(Path("a.bed"), ["1"], [1], [2], [3], sizes)


ROWS = [("AluSx", "2305", "+"), ("L1PA2", "1700", "-"), ("AluY", "2100", "-"), ("AluY", "0", ".")]


def bed6(rows: list[tuple[str, ...]]) -> str:
    lines = ("\t".join(row) for row in rows)
    return "".join(f"chr1\t{100 * i}\t{100 * i + 50}\t{line}\n" for i, line in enumerate(lines))


@pytest.mark.parametrize(
    ("rows", "column", "message"),
    [
        (ROWS, 6, r"column 6, the class, holds strands .*set class_column = 4 .*6: -, \+, \."),
        ([(n, s, ".") for n, s, _ in ROWS], 6, r"strands or placeholders only \(\.\)"),
        ([(n, s, "NA") for n, s, _ in ROWS], 6, r"placeholders only \(NA\)"),
        ([(n, s, x, "255,0,0") for n, s, x in ROWS], 7, "holds colours"),
        ([(n, str(i / 7), x) for i, (n, _, x) in enumerate(ROWS)], 5, "numbers, as of scores"),
        ([("a", str(i), "+") for i in range(200)], 5, "200 of them.*set class_column = 4"),
        ([(n, "0", x) for n, _, x in ROWS], 5, "the number 0 in every row"),
        ([(f"peak{i}", "5.1", ".") for i in range(200)], 4, "another value in each of 200 rows"),
        ([(f"p{i}", "5.1", ".", "dELS" if i % 2 else "PLS") for i in range(200)], 6, "column = 7"),
        ([(f"p{i}", f"{i}", ".") for i in range(200)], 6, "bring a BED with a column of classes"),
    ],
)
def test_a_column_that_holds_no_classes_is_refused(
    tmp_path: Path, rows: list[tuple[str, ...]], column: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_bed(write(tmp_path / "a.bed", bed6(rows)), column)


@pytest.mark.parametrize(
    "classes", [["dELS", "PLS", "."], ["1", "2", "15"], ["Alu?", "-", "L1"], ["E1", "E2", "E3"]]
)
def test_unusual_classes_are_taken(tmp_path: Path, classes: list[str]) -> None:
    text = bed6([("n", "0", name) for name in classes])
    assert list(read_bed(write(tmp_path / "a.bed", text), 6)["annotation_class"]) == classes


def test_blanks_around_fields_do_not_count(tmp_path: Path) -> None:
    text = (
        "chr1\t100\t140\ta\t0\tdELS \nchr1\t160\t190\tb\t0\tdELS\n"
        "chr1 \t 200\t290 \tc\t0\t\u00a0dELS\r\n chr1\t300\t390\tc\t0\tlow level\n"
    )
    path = tmp_path / "a.bed"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    bed = read_bed(path, 6)
    assert list(bed["chrom"].unique()) == ["chr1"]
    assert list(bed["annotation_class"]) == ["dELS"] * 3 + ["low level"]
    assert bed["end_bp"].tolist() == [140, 190, 290, 390]
    with pytest.raises(InputError, match=r"line 1: column 6 .* empty"):
        read_bed(write(path, "chr1\t100\t140\ta\t0\t  \n"), 6)


def test_windows_with_blanks_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "w.bed"
    text = PUBLISHED.replace("chr1\t", "chr1 \t").replace("inner_ind", "inner_ind ")
    path.write_bytes(text.replace("\n", "\r\n").encode())
    assert list(read_windows(path).chrom) == ["chr1", "chr2", "chr1"]
    path.write_bytes(b"\xef\xbb\xbfchr1\t1\t2\n")
    assert list(read_windows(path).chrom) == ["chr1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"chr1\t1\t2\nch\x1b[1mr1\t1\t2\n", "line 2: chrom .*control characters"),
        (b"chr1\t1\t2\nchr\x001\t1\t2\n", "line 2: .*control characters"),
        (b"chr1\t1\t9999999999999999999\n", "line 1: end_bp is '9999999999999999999'"),
        (b"chr1\t1\tinf\n", "line 1: end_bp is 'inf'"),
        (b"chr1\t1\t2\nchr\xe91\t1\t2\n", "UTF-8"),
        ("chr1\t1\t2\n".encode("utf-16"), "UTF-16"),
        (b"version https://git-lfs.github.com/spec/v1\noid x\n", "Git LFS pointer"),
        (b"PK\x03\x04aaaaaaaa", "a zip archive"),
        (gzip.compress(b"chr1\t1\t2\n" + b"#\n" * (1 << 20)), "grow to more than"),
        (gzip.compress(b"#" * (1 << 21)), "grow to more than"),
    ],
)
def test_what_is_no_table_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    monkeypatch.setattr("saeborzoi.reading._ALWAYS_BYTES", 1 << 16)
    path = tmp_path / "w.bed"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_windows(path)
    assert "w.bed" in str(caught.value)


def test_a_number_beyond_int64_is_named_for_every_column(tmp_path: Path) -> None:
    text = PUBLISHED + "3\tchr1\t300\t364\t9999999999999999999\t1\n"
    with pytest.raises(InputError, match=r"line 5: shard is '9{19}'"):
        read_windows(write(tmp_path / "w.bed", text))


def test_an_annotation_of_another_assembly_is_refused_and_other_rows_counted() -> None:
    def table(*rows: tuple[str, int, int]) -> pd.DataFrame:
        return pd.DataFrame(rows, columns=["chrom", "start_bp", "end_bp"])

    path, sizes = Path("a.bed"), {"chr1": 100}
    assert require_annotation_fits(path, table(("chr1", 1, 100), ("chrUn", 1, 9)), sizes) == 1
    with pytest.raises(InputError, match=r"none of its chromosomes \(1\)"):
        require_annotation_fits(path, table(("1", 1, 100)), sizes)
    with pytest.raises(InputError, match=r"beyond .* 100 bp; .*\(2 of 3 rows do not fit\)"):
        require_annotation_fits(
            path, table(("chr1", 1, 9), ("chr1", 1, 101), ("chr1", 1, 102)), sizes
        )


# positions


def test_padding_is_cropped() -> None:
    # 64 bp of core and 16 bp of padding: positions 4 ... 19 of 24
    ranges = kept_positions(windows_of(("chr1", 100, 164)), 24, 4, 16)
    assert ranges.tolist() == [[0, 4, 20]]


def test_overlap_belongs_to_the_earlier_line() -> None:
    windows = windows_of(("chr1", 132, 196), ("chr1", 100, 164), ("chr2", 100, 164))
    ranges = kept_positions(windows, 16, 4, 0)
    assert ranges.tolist() == [[0, 0, 16], [1, 0, 8], [2, 0, 16]]


def test_a_window_around_others_keeps_what_they_leave() -> None:
    windows = windows_of(("chr1", 120, 140), ("chr1", 160, 180), ("chr1", 100, 200))
    with pytest.raises(InputError, match="line 3: the window of 100 bp"):
        kept_positions(windows, 5, 4, 0)
    windows = windows_of(("chr1", 120, 200), ("chr1", 160, 240), ("chr1", 120, 200))
    assert kept_positions(windows, 20, 4, 0).tolist() == [[0, 0, 20], [1, 10, 20]]


def test_window_length_must_fit() -> None:
    with pytest.raises(InputError, match=r"line 1: the window of 64 bp with 2 x 16 bp .* 96 bp"):
        kept_positions(windows_of(("chr1", 100, 164)), 25, 4, 16)


@given(
    starts=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 90)), min_size=1, max_size=6),
    bp=st.integers(1, 7),
    n_core=st.integers(1, 9),
    pad_positions=st.integers(0, 3),
    pad_shift=st.integers(0, 3),
)
def test_each_locus_counts_once(
    starts: list[tuple[str, int]], bp: int, n_core: int, pad_positions: int, pad_shift: int
) -> None:
    """Against the rule in words, position by position; padding need not be whole positions."""
    pad = pad_positions * bp + (pad_shift if bp > 1 else 0)
    n_positions = n_core + 2 * pad_positions + 2
    core_bp = n_positions * bp - 2 * pad
    if core_bp <= 0:
        return
    windows = windows_of(*((chrom, start, start + core_bp) for chrom, start in starts))
    expected = []
    for i, (chrom, start) in enumerate(starts):
        for p in range(n_positions):
            centre = start - pad + p * bp + bp / 2
            holders = [
                j for j, (c, s) in enumerate(starts) if c == chrom and s <= centre < s + core_bp
            ]
            if holders and holders[0] == i:
                expected.append((i, p))
    ranges = kept_positions(windows, n_positions, bp, pad)
    assert [(i, p) for i, first, last in ranges for p in range(first, last)] == expected


@pytest.mark.parametrize(("bp", "pad", "width"), [(2, 160, 14), (4, 160, 18), (16, 160, 34)])
def test_even_widths_are_the_published_intervals(bp: int, pad: int, width: int) -> None:
    windows = windows_of(("chr1", 1000, 2024))
    position = np.arange(5)
    chrom, start, end = position_intervals(windows, np.zeros(5, int), position, width, bp, pad)
    position_start = 1000 - pad + position * bp
    centre = (position_start + position_start + bp) // 2
    assert start.tolist() == (centre - width // 2).tolist()
    assert end.tolist() == (centre + width // 2).tolist()
    assert set(chrom) == {"chr1"}


def test_odd_width_on_odd_position_is_centred() -> None:
    _, start, end = position_intervals(windows_of(("chr1", 0, 70)), [0], [3], 25, 7, 0)
    assert (start[0], end[0]) == (24 - 12, 24 + 13)


def test_a_row_that_ends_after_its_number_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 5: column 2 \(0\) is empty or missing"):
        read_windows(write(tmp_path / "w.bed", PUBLISHED + "3\n"))
    remarked = PUBLISHED + "# 3\tchr1\t1\t65\t0\t2\n\n"
    assert len(read_windows(write(tmp_path / "w.bed", remarked))) == 3
