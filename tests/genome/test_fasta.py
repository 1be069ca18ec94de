"""The reference: every form of FASTA gives the same letters, and a bad one is named."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyfaidx
import pytest
from hypothesis import given, settings
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
        found = genome.fetch(*zip(*intervals, strict=True))
        truth = {"chr1": CHR1.upper(), "chr2": CHR2.upper()}
        assert found == [truth[c][a:b] for c, a, b in intervals]
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "nothing beside the FASTA"


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Genome]:
    with Genome(write(tmp_path_factory.mktemp("fasta") / "g.fa", fasta(4))) as genome:
        yield genome


@settings(max_examples=50, deadline=None)
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


def test_own_index_beside_the_fasta_is_enough(tmp_path: Path) -> None:
    path = write(tmp_path / "g.fa", fasta())
    code = "import sys, pyfaidx; pyfaidx.Faidx(sys.argv[1]).close()"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    cache = tmp_path / "cache"
    with Genome(path, cache) as genome:
        assert genome.chrom_sizes["chr2"] == 10
    assert not cache.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "does not contain a valid sequence"),
        (b">chr1\n>chr2\n", "no sequence"),
        (b"hello\nworld\n", "not a usable FASTA"),
        (b"\x89PNG\r\n\x1a\n\x00\xff\xfe", "not a usable FASTA"),
        (b">a\nACGT\n>a\nACGT\n", "Duplicate key"),
        (b">a\nACGT\nAC\nACGT\n", "lines of one length"),
        (gzip.compress(b">a\n" + b"ACGTTGCAAT\n" * 5000)[:-20], "truncated"),
        (
            gzip.compress(b">a\nACGT\n", mtime=0)[:12] + b"garbage garbage garbage",
            "truncated or damaged",
        ),
    ],
)
def test_unusable_fasta_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "genome.fa"
    path.write_bytes(content)
    cache = tmp_path / "cache"
    with pytest.raises(InputError, match=said) as caught:
        Genome(path, cache)
    assert "genome.fa" in str(caught.value)
    assert not list(cache.glob(".*")), "nothing half-made stays"


def test_missing_fasta_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.fa: cannot be read"):
        Genome(tmp_path / "none.fa")


def test_index_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: pyfaidx.Faidx) -> None:
        raise OSError("g.fa.fai may not be writable")  # as pyfaidx does, without the cause

    monkeypatch.setattr(pyfaidx.Faidx, "build_index", full)
    with pytest.raises(StoreError, match=r"its index cannot be written to .*cache"):
        Genome(write(tmp_path / "g.fa", fasta()), tmp_path / "cache")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_cache_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "g.fa", fasta())
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(StoreError, match=r"cache.*cannot be written"):
        Genome(path, tmp_path / "cache")


def test_index_of_another_fasta_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "g.fa", ">chr1\nACGT\n")
    write(tmp_path / "g.fa.fai", "chr1\t5000\t6\t60\t61\n")
    with pytest.raises(InputError, match="'chr1' ends beyond the file"):
        Genome(path)


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        (("chr3", 0, 5), "chr3 is not in the FASTA"),
        (("chr2", 6, 11), "chr2 has 10 bp"),
        (("chr2", -1, 4), "chr2 has 10 bp"),
        (("chr2", 4, 4), "is not an interval"),
    ],
)
def test_fetch_outside_is_refused(
    tmp_path: Path, interval: tuple[str, int, int], said: str
) -> None:
    with Genome(write(tmp_path / "g.fa", fasta())) as genome:
        chrom, start, end = interval
        assert genome.inside(["chr2", chrom], [0, start], [10, end])[0]
        with pytest.raises(InputError, match=said):
            genome.fetch(["chr2", chrom], [0, start], [10, end])
