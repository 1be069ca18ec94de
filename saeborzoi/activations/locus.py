"""Activations that a model computes on a region, aligned with the windows that it saw."""

from __future__ import annotations

import numpy as np

from saeborzoi.activations.live import LiveSource, Places
from saeborzoi.activations.region import LayerRegion
from saeborzoi.errors import InputError
from saeborzoi.genome.coordinates import Genome, Windows, position_intervals
from saeborzoi.genome.regions import Region
from saeborzoi.models.layer import LayerGeometry
from saeborzoi.models.model import SequenceModel


def grid_before(windows: Windows, pad_bp: int, region: Region) -> int:
    """Where positions of a region are counted from: the start of the last window that begins
    before it, so that inside the windows the positions are theirs; else the chromosome's start.

    Poolings give other values a base pair further, so that it matters.
    """
    forward = ~windows.reverse(np.arange(len(windows)))
    here = windows.start_bp[forward & (windows.chrom == region.chrom)] - pad_bp
    before = here[here <= region.start_bp]
    return int(before.max()) if len(before) else 0


def region_of_model(
    model: SequenceModel,
    geometry: LayerGeometry,
    genome: Genome,
    region: Region,
    first_bp: int,
    *,
    origin: str,
    stored_as: str = "float16",
    tile_positions: int = 2048,
) -> LayerRegion:
    """Activations over a region, computed.

    Positions that see N or beyond the chromosome's ends are there too: what was asked for is
    shown.

    Parameters
    ----------
    first_bp
        Where positions are counted from.
    origin
        What computes them, for people.
    stored_as
        Type of the activations, float16 or float32.
    tile_positions
        Positions that are computed at once: bounds the memory.

    Raises
    ------
    InputError
        Where the region does not lie on the genome, or the layer is right on whole windows only.
    """
    if geometry.is_whole:
        raise InputError(
            f"{region}: layer {geometry.module} is right on whole windows of "
            f"{geometry.receptive_field_bp:,} bp only, so that no locus can be asked for"
        )
    size = genome.chrom_sizes.get(region.chrom)
    if size is None or region.end_bp > size:
        known = ", ".join(list(genome.chrom_sizes)[:5])
        state = (
            f"{region.chrom} is not in the genome, which has {known}"
            if size is None
            else f"{region.chrom} has {size:,} bp"
        )
        raise InputError(f"{region}: {state}; ask for a region of this assembly")
    bp = geometry.bp_per_position
    start = first_bp + (region.start_bp - first_bp) // bp * bp
    end = first_bp - (first_bp - region.end_bp) // bp * bp
    windows = Windows(
        path=genome.path,
        chrom=np.array([region.chrom], object),
        start_bp=np.array([start]),
        end_bp=np.array([end]),
        shard=np.array([-1]),
        row=np.array([0]),
        line=np.array([1]),
    )
    source = LiveSource(model, geometry, genome, Places(windows, bp, 0), stored_as, tile_positions)
    n = source.n_positions
    block = source.read(0, slice(0, 1), slice(0, n))[0]
    start_bp = position_intervals(windows, np.zeros(n, int), np.arange(n), bp, bp, 0)[1]
    return LayerRegion(block, start_bp, np.zeros(n, np.int64), f"{origin}, {geometry.module}")
