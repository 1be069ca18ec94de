"""bigBed and bigWig read back as they were written, with a header that says what is in them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from saeborzoi.errors import StoreError
from saeborzoi.genome.indexed_tracks import write_bigbed, write_bigwig

pybigtools = pytest.importorskip("pybigtools", reason="needs the extra saeborzoi[bigwig]")

SIZES = {"chr2": 20_000, "chr10": 5_000, "chr1": 30_000}
COLUMNS = ["chrom", "start", "end", "name", "score", "strand"]


def made_bed(n: int) -> pd.DataFrame:
    """Overlapping rows in no order."""
    rng = np.random.default_rng(0)
    chrom = rng.choice(list(SIZES), n)
    start = rng.integers(0, 4_900, n)
    names = [f"n{i:04d}_FOX:_FOXA2" for i in range(n)]
    strand = rng.choice(["+", "-"], n)
    rows = zip(chrom, start, start + 26, names, rng.integers(0, 1001, n), strand, strict=True)
    return pd.DataFrame(rows, columns=COLUMNS)


def test_a_bigbed_holds_every_column_of_every_row(tmp_path: Path) -> None:
    bed = made_bed(3_000)
    write_bigbed(tmp_path / "seqlets.bb", bed, SIZES)
    with pybigtools.open(str(tmp_path / "seqlets.bb")) as track:
        assert track.chroms() == SIZES
        fields = ("chrom", "chromStart", "chromEnd", "name", "score", "strand")
        assert [line.split()[1].rstrip(";") for line in track.sql().splitlines()[3:-1]] == [*fields]
        rows = [(chrom, *row) for chrom in sorted(SIZES) for row in track.records(chrom)]
    back = pd.DataFrame(rows, columns=COLUMNS).astype({"score": int}).sort_values(COLUMNS)
    expected = bed.sort_values(COLUMNS)
    assert back.to_numpy().tolist() == expected.to_numpy().tolist()


def test_a_bigbed_s_header_counts_columns_and_depth(tmp_path: Path) -> None:
    bed = made_bed(3_000)
    write_bigbed(tmp_path / "seqlets.bb", bed, SIZES)
    header = (tmp_path / "seqlets.bb").read_bytes()
    assert struct.unpack("<HH", header[32:36]) == (6, 6), "without them, no names and no strands"
    (summary_at,) = struct.unpack("<Q", header[44:52])
    depth = np.concatenate(
        [
            np.sum([np.bincount(np.arange(s, e), minlength=5_000) for s, e in rows], axis=0)
            for _, part in bed.groupby("chrom")
            for rows in [part[["start", "end"]].to_numpy()]
        ]
    )
    depth = depth[depth > 0]
    summary = struct.unpack("<Qdddd", header[summary_at : summary_at + 40])
    expected = (len(depth), depth.min(), depth.max(), depth.sum(), (depth**2).sum())
    assert summary == expected


def test_a_bigwig_holds_its_values_whatever_the_order(tmp_path: Path) -> None:
    rows = [("chr2", 10, 12, 1.5), ("chr10", 0, 7, 0.25), ("chr2", 5, 10, 3.0)]
    columns = ["chrom", "start_bp", "end_bp", "activation"]
    write_bigwig(tmp_path / "n1.bw", pd.DataFrame(rows, columns=columns), SIZES)
    with pybigtools.open(str(tmp_path / "n1.bw")) as track:
        assert list(track.records("chr2")) == [(5, 10, 3.0), (10, 12, 1.5)]
        assert list(track.records("chr10")) == [(0, 7, 0.25)]


@pytest.mark.parametrize(
    "rows",
    [
        [("chr1", 3, 7, 1.0), ("chr1", 5, 9, 1.0)],
        [("chr1", 29_999, 30_001, 1.0)],
        [("chrZ", 1, 2, 1.0)],
    ],
)
def test_what_no_track_may_hold_is_refused(
    tmp_path: Path, rows: list[tuple[str, int, int, float]]
) -> None:
    table = pd.DataFrame(rows, columns=["chrom", "start_bp", "end_bp", "activation"])
    with pytest.raises(StoreError, match="inside the chromosomes, and those of a bigWig may not"):
        write_bigwig(tmp_path / "n1.bw", table, SIZES)
    assert not list(tmp_path.iterdir())
