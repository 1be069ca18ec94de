"""Windows of a layer: those of a BED file, or the whole genome cut into some."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from saeborzoi.errors import InputError
from saeborzoi.genome.bed import interval_columns, read_table, skip_remarks
from saeborzoi.genome.coordinates import Genome, Windows, read_windows, require_inside
from saeborzoi.genome.file_kinds import require_ready


def windows_of(
    windows: Path | Literal["genome"],
    genome: Genome | Path,
    window_bp: int = 131_072,
    mask: Path | None = None,
) -> Windows:
    """The windows of a BED file, or of the whole genome.

    Parameters
    ----------
    windows
        BED, or "genome": every chromosome, cut into windows.
    genome
        The reference, or its path; looked at only for "genome".
    window_bp, mask
        Of "genome", see `genome_windows`.

    Raises
    ------
    InputError
        As `read_windows` and `genome_windows`.
    """
    if windows != "genome":
        return read_windows(windows)
    if isinstance(genome, Path):
        with Genome(genome) as opened:
            return genome_windows(opened, window_bp, mask)
    return genome_windows(genome, window_bp, mask)


def genome_windows(genome: Genome, window_bp: int, mask: Path | None = None) -> Windows:
    """Windows of one length along every chromosome, and none on what a BED file masks.

    The last window of a stretch is moved back to its end; stretches shorter than a window are left
    out.

    Raises
    ------
    InputError
        Where the mask cannot be read or does not fit the genome, or nothing is left.
    """
    masked: dict[str, list[tuple[int, int]]] = {}
    if mask is not None:
        require_ready(mask)
        table = read_table(mask, {"chrom": 0, "start_bp": 1, "end_bp": 2}, skip_remarks(mask)[0])
        start, end = interval_columns(mask, table)
        chroms = table["chrom"].to_numpy(object)
        require_inside(mask, chroms, start, end, table.index, genome.chrom_sizes)
        for chrom, low, high in zip(chroms, start.tolist(), end.tolist(), strict=True):
            masked.setdefault(chrom, []).append((low, high))
    rows = [
        (chrom, start)
        for chrom, size in genome.chrom_sizes.items()
        for low, high in _stretches(size, masked.get(chrom, []))
        for start in _starts(low, high, window_bp)
    ]
    if not rows:
        raise InputError(
            f"genome {genome.path}: no stretch of {window_bp:,} bp is left"
            f"{f' outside of {mask}' if mask else ''}; set a smaller window_bp, or name windows"
        )
    starts = np.array([start for _, start in rows], np.int64)
    n = len(rows)
    return Windows(
        path=genome.path,
        chrom=np.array([chrom for chrom, _ in rows], object),
        start_bp=starts,
        end_bp=starts + window_bp,
        shard=np.full(n, -1, np.int64),
        row=np.arange(n, dtype=np.int64),
        line=np.arange(1, n + 1, dtype=np.int64),
    )


def _stretches(size: int, masked: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What of [0, size) is not masked.

    >>> _stretches(100, [(40, 50), (0, 10), (45, 60)])
    [(10, 40), (60, 100)]
    """
    stretches, at = [], 0
    for low, high in sorted(masked):
        if at < low:
            stretches.append((at, low))
        at = max(at, high)
    return [*stretches, (at, size)] if at < size else stretches


def _starts(low: int, high: int, window_bp: int) -> list[int]:
    """
    >>> _starts(10, 100, 40), _starts(0, 80, 40), _starts(0, 39, 40)
    ([10, 50, 60], [0, 40], [])
    """
    if high - low < window_bp:
        return []
    starts = list(range(low, high - window_bp + 1, window_bp))
    if starts[-1] + window_bp < high:
        starts.append(high - window_bp)
    return starts
