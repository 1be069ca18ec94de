"""CPU time of the interval work on one core, at the size of Borzoi's first layer.

Run as `OMP_NUM_THREADS=1 python benchmarks/intervals.py`.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from saeborzoi.genome.coordinates import Genome, Windows
from saeborzoi.nodes.jaccard import node_jaccard
from saeborzoi.nodes.overlaps import annotation_overlaps

N_NODES, N_SEQLETS, WIDTH_BP = 2432, 1000, 14
N_REGIONS, N_CLASSES = 1_000_000, 60
CHROMOSOMES = [f"chr{i}" for i in range(1, 23)]


def seqlets(chromosome_bp: int, rng: np.random.Generator) -> pd.DataFrame:
    """Seqlets at random, except that every fourth lies on a locus that other nodes share."""
    n = N_NODES * N_SEQLETS
    start = rng.integers(0, chromosome_bp // 2 - WIDTH_BP, n) * 2
    chrom = rng.integers(len(CHROMOSOMES), size=n)
    shared = rng.integers(n // 20, size=n // 4)
    start[::4], chrom[::4] = start[shared], chrom[shared]
    return pd.DataFrame(
        {
            "node": np.repeat(np.arange(N_NODES), N_SEQLETS),
            "chrom": pd.array(np.array(CHROMOSOMES, object)[chrom], dtype="str"),
            "start_bp": start,
            "end_bp": start + WIDTH_BP,
        }
    )


def regions(chromosome_bp: int, rng: np.random.Generator) -> pd.DataFrame:
    start = rng.integers(0, chromosome_bp - 2000, N_REGIONS)
    chrom = np.array(CHROMOSOMES, object)[rng.integers(len(CHROMOSOMES), size=N_REGIONS)]
    classes = np.array([f"class{i:02d}" for i in range(N_CLASSES)], object)
    return pd.DataFrame(
        {
            "chrom": pd.array(chrom, dtype="str"),
            "start_bp": start,
            "end_bp": start + rng.integers(50, 2000, N_REGIONS),
            "annotation_class": classes[rng.integers(N_CLASSES, size=N_REGIONS)],
        }
    )


def windows(chromosome_bp: int) -> Windows:
    starts = np.arange(0, chromosome_bp - 196_608, 131_072)
    n = len(starts) * len(CHROMOSOMES)
    start = np.tile(starts, len(CHROMOSOMES))
    return Windows(
        path=Path("windows.bed"),
        chrom=np.repeat(np.array(CHROMOSOMES, object), len(starts)),
        start_bp=start,
        end_bp=start + 196_608,
        shard=np.zeros(n, np.int64),
        row=np.arange(n),
        line=np.arange(n),
    )


def timed(what: str, function: Callable[[], object]) -> None:
    cpu, wall = time.process_time(), time.perf_counter()
    function()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{what:<72} {cpu:6.2f} s CPU {wall:6.2f} s wall, {peak:5.2f} GiB peak so far")


def main() -> None:
    rng = np.random.default_rng(0)
    layer = {"width_bp": 14, "bp_per_position": 2, "pad_bp": 0}
    for depth, chromosome_bp in (("whole genome", 130_000_000), ("30 Mb, crowded", 1_400_000)):
        table = seqlets(chromosome_bp, rng)
        timed(
            f"Jaccard, {N_NODES} nodes x {N_SEQLETS} seqlets, {depth}",
            lambda table=table: node_jaccard(table),  # type: ignore[misc]
        )
    table, bed = seqlets(130_000_000, rng), regions(130_000_000, rng)
    for n_shuffles in (1, 10):
        timed(
            f"overlaps, the same nodes, {N_REGIONS:,} intervals of {N_CLASSES} classes, "
            f"{n_shuffles} shuffles",
            lambda n=n_shuffles: annotation_overlaps(  # type: ignore[misc]
                table, {"rmsk": bed}, windows(130_000_000), **layer, n_shuffles=n
            ),
        )
    with tempfile.TemporaryDirectory() as folder:
        fasta = Path(folder) / "genome.fa"
        letters = np.frombuffer(b"ACGTacgt", np.uint8)[rng.integers(8, size=200_000_000)]
        lines = np.full((len(letters) // 50, 51), ord("\n"), np.uint8)
        lines[:, :50] = letters.reshape(-1, 50)
        fasta.write_bytes(b">chr1\n" + lines.tobytes())
        timed("index a FASTA of 200 Mb", lambda: Genome(fasta, Path(folder)))
        genome = Genome(fasta, Path(folder))
        start = rng.integers(0, len(letters) - 34, 4_000_000)
        chrom = np.full(len(start), "chr1", object)
        for width in (14, 34):
            timed(
                f"sequences of {len(start):,} seqlets of {width} bp, as letters",
                lambda width=width: genome.fetch_bytes(chrom, start, width),  # type: ignore[misc]
            )


if __name__ == "__main__":
    main()
