"""The reference: every form of FASTA gives the same letters, and a bad one is named."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saeborzoi.errors import InputError, StoreError
from saeborzoi.genome.fasta import Genome


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


CHR1 = "ACGTNacgtn" * 7 + "GATTACA"
CHR2 = "ttttGGGGcc"


def fasta(line: int = 10, end: str = "\n") -> str:
    return "".join(
        f">{name} some words{end}"
        + "".join(seq[i : i + line] + end for i in range(0, len(seq), line))
        for name, seq in (("chr1", CHR1), ("chr2", CHR2))
    )


@pytest.mark.parametrize("form", ["plain", "crlf", "one_line", "gzip", "bgzip"])
def test_every_form_of_fasta_gives_the_same(tmp_path: Path, form: str) -> None:
    path = tmp_path / ("genome.fa.gz" if "zip" in form else "genome.fa")
    if form == "bgzip":
        bgzf = pytest.importorskip("Bio.bgzf")
        with bgzf.BgzfWriter(str(path)) as out:
            out.write(fasta().encode())
    elif form == "gzip":
        path.write_bytes(gzip.compress(fasta().encode()))
    else:
        text = fasta(1000) if form == "one_line" else fasta(end="\r\n" if form == "crlf" else "\n")
        path.write_bytes(text.encode())
    with Genome(path) as genome:
        assert genome.chrom_sizes == {"chr1": 77, "chr2": 10}
        intervals = [("chr1", 8, 33), ("chr2", 0, 10), ("chr1", 70, 77), ("chr2", 3, 4)]
        sequences = genome.fetch(*zip(*intervals, strict=True))
        truth = {"chr1": CHR1.upper(), "chr2": CHR2.upper()}
        assert sequences == [truth[c][a:b] for c, a, b in intervals]
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "nothing beside the FASTA"


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Genome]:
    with Genome(write(tmp_path_factory.mktemp("fasta") / "g.fa", fasta(4))) as genome:
        yield genome


@given(
    st.lists(
        st.tuples(st.sampled_from(["chr1", "chr2"]), st.integers(0, 6), st.integers(1, 4)),
        max_size=20,
    )
)
def test_fetch_is_slicing(genome: Genome, intervals: list[tuple[str, int, int]]) -> None:
    chrom = np.array([c for c, _, _ in intervals], object)
    start = np.array([s for _, s, _ in intervals], np.int64)
    end = start + np.array([w for _, _, w in intervals], np.int64)
    truth = {"chr1": CHR1.upper(), "chr2": CHR2.upper()}
    assert genome.fetch(chrom, start, end) == [truth[c][s : s + w] for c, s, w in intervals]


def test_cache_is_used_again_and_follows_the_file(tmp_path: Path) -> None:
    path, cache = tmp_path / "g.fa.gz", tmp_path / "cache"
    path.write_bytes(gzip.compress(fasta().encode()))
    Genome(path, cache).close()
    before = {p: p.stat().st_mtime_ns for p in cache.iterdir()}
    assert len(before) == 2
    Genome(path, cache).close()
    assert {p: p.stat().st_mtime_ns for p in cache.iterdir()} == before
    path.write_bytes(gzip.compress(b">chr9\nACGT\n", mtime=0))
    with Genome(path, cache) as genome:
        assert genome.fetch(["chr9"], [1], [3]) == ["CG"]


FAI = "chr1\t77\t17\t10\t11\nchr2\t10\t119\t10\t11\n"


@pytest.mark.parametrize(
    "index",
    [
        FAI,
        FAI.replace("\t17\t", "\t5\t"),  # made before the heading got a description
        FAI.replace("\t77\t", "\t70\t"),  # ... before the sequence got longer
        FAI.splitlines(keepends=True)[0],  # an interrupted samtools faidx
        FAI.replace("chr2", "chrX"),  # of the same assembly with other names
        FAI.replace("10\t11", "11\t12"),  # of other lines
        "chr1\t5000\t6\t60\t61\n",
        "nonsense",
    ],
)
def test_an_index_beside_the_fasta_changes_nothing(tmp_path: Path, index: str) -> None:
    path = write(tmp_path / "g.fa", fasta())
    beside = write(tmp_path / "g.fa.fai", index)
    os.utime(beside, (2e9, 2e9))
    with Genome(path, tmp_path / "cache") as genome:
        assert genome.chrom_sizes == {"chr1": 77, "chr2": 10}
        assert genome.fetch(["chr1", "chr2"], [0, 0], [77, 10]) == [CHR1.upper(), CHR2.upper()]


@pytest.mark.parametrize("harm", ["flipped", "cut", "empty"])
def test_a_damaged_index_in_the_cache_is_made_again(tmp_path: Path, harm: str) -> None:
    path, cache = write(tmp_path / "g.fa", fasta()), tmp_path / "cache"
    Genome(path, cache).close()
    (index,) = cache.iterdir()
    data = bytearray(index.read_bytes())
    data[-4] ^= 1
    index.write_bytes({"flipped": bytes(data), "cut": bytes(data[:40]), "empty": b""}[harm])
    with Genome(path, cache) as genome:
        assert genome.fetch(["chr2"], [0], [10]) == [CHR2.upper()]


def test_a_file_that_changes_under_the_same_size_and_time_is_read_anew(tmp_path: Path) -> None:
    path, cache = write(tmp_path / "g.fa", ">a x\nACGT\n"), tmp_path / "cache"
    before = path.stat()
    Genome(path, cache).close()
    write(path, ">a\nACGTAC\n"[:10])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with Genome(path, cache) as genome:
        assert genome.chrom_sizes == {"a": 6}


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        (">c\nACGT\nACGT", {"c": "ACGTACGT"}),  # no line end at its end
        (">c\nACGT\nAC", {"c": "ACGTAC"}),
        (">c\r\nACGT\r\nAC", {"c": "ACGTAC"}),
        (">c\nACGT\nAC\n\n\n", {"c": "ACGTAC"}),
        ("\n\n>c\n\nACGT\nAC\n\n>d\nA", {"c": "ACGTAC", "d": "A"}),
        (">u\n\n\n>c\nAC\n>v\n", {"u": "", "c": "AC", "v": ""}),  # records without sequence
        (">u\n>c\nAC\n", {"u": "", "c": "AC"}),
        ("\ufeff>c\nACGT\nAC\n", {"c": "ACGTAC"}),  # a byte order mark
        (">c\tof the\tassembly\nRYKM\n", {"c": "RYKM"}),
        (">c J\u00fcrgen's\nAC\n", {"c": "AC"}),
        (">c 'U-*'\nacgtn\nacg\n", {"c": "ACGTNACG"}),
        (">c\n" + "ACGT" * 40 + "\n>d\nGG\n", {"c": "ACGT" * 40, "d": "GG"}),
    ],
)
@pytest.mark.parametrize("block", [1 << 24, 1, 2, 3, 5])
def test_unusual_fasta_is_read_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, truth: dict[str, str], block: int
) -> None:
    monkeypatch.setattr("saeborzoi.genome.fasta_index.BLOCK_BYTES", block)
    path = tmp_path / "g.fa"
    path.write_bytes(text.encode())
    with Genome(path) as genome:
        assert genome.chrom_sizes == {name: len(letters) for name, letters in truth.items()}
        for name, letters in truth.items():
            if letters:
                assert genome.fetch([name], [0], [len(letters)]) == [letters]


def test_a_record_without_sequence_is_refused_where_it_is_asked_for(tmp_path: Path) -> None:
    with (
        Genome(write(tmp_path / "g.fa", ">u\n>c\nAC\n")) as genome,
        pytest.raises(InputError, match="u has 0 bp"),
    ):
        genome.fetch(["u"], [0], [1])


def test_a_bgzip_that_ends_between_two_blocks_is_refused(tmp_path: Path) -> None:
    bgzf = pytest.importorskip("Bio.bgzf")
    path = tmp_path / "g.fa.gz"
    with bgzf.BgzfWriter(str(path)) as out:
        out.write(fasta().encode())
    path.write_bytes(path.read_bytes()[:-28])
    with pytest.raises(InputError, match="bgzip is truncated"):
        Genome(path)


def test_a_gzip_that_grows_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saeborzoi.reading._ALWAYS_BYTES", 1 << 16)
    path, cache = tmp_path / "g.fa.gz", tmp_path / "cache"
    path.write_bytes(gzip.compress(b">c\n" + b"A" * (1 << 21)))
    with pytest.raises(InputError, match="as no file of this kind does"):
        Genome(path, cache)
    assert not list(cache.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b">chr1\n>chr2\n", "no sequence"),
        (b"hello\nworld\n", "line 1: a line before the first '>name'"),
        (b"ACGT\n>a\nACGT\n", "line 1: a line before the first '>name'"),
        (b"\x89PNG\r\n\x1a\n\x00\xff\xfe", "not a FASTA, but a PNG"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>404</html>", "a web page"),
        (">a\nACGT\n".encode("utf-16"), "UTF-16"),
        (b">a\nACGT\n>b\nA\n>a\nACGT\n", "line 5: the name 'a' stands in line 1 too"),
        (b">a\nACGT\nAC\nACGT\n", "line 3: sequence 'a' has lines of 4 letters"),
        (b">a\nACGT\nACGTAC\n>d\nGGGG\n", "line 3: sequence 'a' has lines of 4 letters"),
        (b">a\nACGT\n\nACGT\n", "line (2|3): sequence 'a' has lines of 4 letters"),
        (b">a\nACGT\r\nACGT\nACGT\n", "line 3: sequence 'a' has lines of 4"),
        (b">a\nACGT \nACGT \n", "line 2: ' ' .*blank"),
        (b">a\nACGT\t\n", "line 2: .*a tab"),
        (b">a\nACGT\nACG\xc2\xa0\n", "line 3: .*no base"),
        (b">a\rACGT\rACGT\r", "no sequence|carriage return"),
        (b">a\nACGT\rACGT\n", "line 2: .*carriage return"),
        (b">a\nMKLVPQ\n", "line 2: 'L'"),
        (b">a\nACGU\n", "line 2: 'U' .*RNA"),
        (b">a\nAC--GT\n", "line 2: '-' .*first of 2 .*gap"),
        (b">a\nXXXX\n", "line 2: 'X' .*write N"),
        (b">a\nACGT\n;remark\n", "line 3: ';'"),
        (b">a\nAC\0\0\n", "line 2: .*zero byte"),
        (b">a\nAC\xc3\xa9T\n", "line 2: .*no base"),
        (b">\nACGT\n", "line 1: '>' without a name"),
        (b">a\x1b[31m\nACGT\n", "line 1: .*control characters"),
        (b">\xff\nACGT\n", "line 1: .*not in UTF-8"),
        (gzip.compress(b">a\n" + b"ACGTTGCAAT\n" * 5000, mtime=0)[:-20], "truncated"),
        (gzip.compress(b"", mtime=0), "empty"),
        (
            gzip.compress(b">a\nACGT\n", mtime=0)[:12] + b"garbage garbage garbage",
            "truncated or damaged",
        ),
    ],
)
def test_unusable_fasta_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "genome.fa"
    path.write_bytes(content)
    cache = tmp_path / "cache"
    with pytest.raises(InputError, match=message) as caught:
        Genome(path, cache)
    assert "genome.fa" in str(caught.value)
    assert not list(cache.glob(".*")), "nothing half-made stays"


def test_missing_fasta_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.fa: cannot be read"):
        Genome(tmp_path / "none.fa")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_cache_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "g.fa", fasta())
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(StoreError, match=r"cache.*cannot be written"):
        Genome(path, tmp_path / "cache")


@pytest.mark.parametrize(
    ("interval", "message"),
    [
        (("chr3", 0, 5), "chr3 is not in the FASTA"),
        (("chr2", 6, 11), "chr2 has 10 bp"),
        (("chr2", -1, 4), "chr2 has 10 bp"),
        (("chr2", 4, 4), "is not an interval"),
    ],
)
def test_fetch_outside_is_refused(
    tmp_path: Path, interval: tuple[str, int, int], message: str
) -> None:
    with Genome(write(tmp_path / "g.fa", fasta())) as genome:
        chrom, start, end = interval
        assert genome.inside(["chr2", chrom], [0, start], [10, end])[0]
        with pytest.raises(InputError, match=message):
            genome.fetch(["chr2", chrom], [0, start], [10, end])
