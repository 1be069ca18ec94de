"""Activations of a layer over one region of the genome, read from shards where windows cover it.

What an SAE makes of them belongs to `saeborzoi.project`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from saeborzoi.activations.reader import Raw
from saeborzoi.activations.shards import ShardFolder
from saeborzoi.genome.coordinates import (
    Windows,
    kept_positions,
    position_intervals,
    read_windows,
)
from saeborzoi.genome.regions import Region


class LayerRegion(NamedTuple):
    """Activations of a layer over a region.

    Attributes
    ----------
    activation
        (n_positions, n_channels) as stored, in ascending order of `start_bp`.
    start_bp
        (n_positions,) int64, first base pair of each position, 0-based.
    window
        (n_positions,) int64, the row of the windows that each position was read from.
    origin
        Where they come from, in words.
    """

    activation: Raw
    start_bp: NDArray[np.int64]
    window: NDArray[np.int64]
    origin: str


def region_of_shards(
    shards: Path | str,
    windows: Path | str,
    region: Region,
    *,
    n_channels: int,
    bp_per_position: int,
    pad_bp: int,
) -> LayerRegion | None:
    """Read a region from a folder of shards; None where its windows do not cover all of it.

    A position belongs to the region where it shares a base pair with it. As everywhere, padding
    is cropped and each locus is read once, from the first window of the file that has it, on the
    forward strand where those windows cover the region.

    Parameters
    ----------
    shards, windows
        Folder of the shards, and the file that says where their rows lie.
    n_channels, bp_per_position, pad_bp
        Geometry of the layer.

    Raises
    ------
    InputError
        Where shards or windows cannot be read, or do not fit each other.
    """
    every = read_windows(windows)
    strand = _strand_that_covers(every, region)
    if strand is None:
        return None
    folder = ShardFolder.open(shards, n_channels)
    place, row = folder.locate(every)
    near = np.flatnonzero(
        strand
        & (every.chrom == region.chrom)
        & (every.start_bp < region.end_bp + bp_per_position)
        & (every.end_bp > region.start_bp - bp_per_position)
    )
    some = every.only(near)
    parts = []
    with folder.reader() as reader:
        for i, first, last in kept_positions(some, folder.n_positions, bp_per_position, pad_bp):
            position = np.arange(first, last)
            _, start_bp, end_bp = position_intervals(
                some, np.full(len(position), i), position, bp_per_position, bp_per_position, pad_bp
            )
            inside = np.flatnonzero((start_bp < region.end_bp) & (end_bp > region.start_bp))
            if not len(inside):
                continue
            row_in_shard, chosen = int(row[near[i]]), slice(int(inside[0]), int(inside[-1]) + 1)
            block = reader.read(
                int(place[near[i]]),
                slice(row_in_shard, row_in_shard + 1),
                slice(first + chosen.start, first + chosen.stop),
            )[0]
            parts.append((block, start_bp[chosen], np.full(len(block), near[i])))
    if not parts:
        return None
    activation, start, window = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(start, kind="stable")
    return LayerRegion(activation[order], start[order], window[order], f"shards of {shards}")


def _strand_that_covers(windows: Windows, region: Region) -> NDArray[np.bool_] | None:
    """Which windows to read: the forward ones where they cover all of the region, else those of
    the reverse strand, else all, so that a locus that was read on both strands is there once."""
    is_reverse = windows.reverse(np.arange(len(windows)))
    for strand in (~is_reverse, is_reverse, np.ones(len(windows), bool)):
        parts = covered(windows.only(np.flatnonzero(strand)), region)
        if parts == [(region.start_bp, region.end_bp)]:
            return strand
    return None


def covered(windows: Windows, region: Region) -> list[tuple[int, int]]:
    """The parts of a region that windows cover, padding cropped: (start_bp, end_bp), ascending."""
    parts: list[tuple[int, int]] = []
    here = np.flatnonzero(windows.chrom == region.chrom)
    for i in here[np.argsort(windows.start_bp[here])]:
        start = max(int(windows.start_bp[i]), region.start_bp)
        end = min(int(windows.end_bp[i]), region.end_bp)
        if start >= end:
            continue
        if parts and start <= parts[-1][1]:
            parts[-1] = parts[-1][0], max(parts[-1][1], end)
        else:
            parts.append((start, end))
    return parts
