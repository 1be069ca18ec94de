"""Activations of a layer at one locus, or on sequences that are in no genome."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from saeborzoi.activations.live import LiveSource, Places
from saeborzoi.activations.region import LayerRegion, covered, region_of_shards
from saeborzoi.errors import InputError
from saeborzoi.genome.coordinates import Genome, Windows, position_intervals, read_windows
from saeborzoi.genome.regions import Region
from saeborzoi.genome.windows import windows_of
from saeborzoi.jobs.fingerprint import fingerprint_files
from saeborzoi.models.layer import LayerGeometry
from saeborzoi.models.model import SequenceModel, same_weights
from saeborzoi.models.of_settings import load_settings_model, settings_geometry
from saeborzoi.settings.load import Settings
from saeborzoi.settings.model_sections import Model
from saeborzoi.settings.sections import Layer


def layer_region(
    settings: Settings,
    layer: Layer,
    region: Region,
    genome_cache: Path | None = None,
    weights: str | None = None,
) -> LayerRegion:
    """Activations over a region: from the first shards that cover all of it, else by the model.

    Parameters
    ----------
    genome_cache
        Folder for the genome's index, see `Genome`.
    weights
        Fingerprint of the model that is needed, see `sae.data_fit.model_of`; None takes any.

    Raises
    ------
    InputError
        Where no shards cover all of it and there is no model, which says what parts they cover; or
        where the model has other weights.
    """
    sets = [shard_set.folder_and_windows for shard_set in layer.sets if not shard_set.is_live]
    for shards, windows in sets:
        found = region_of_shards(
            shards, windows, region, n_channels=layer.n_channels, **layer.geometry
        )
        if found is not None:
            return found
    if settings.model is not None:
        with Genome(settings.data.genome, cache=genome_cache) as genome:
            model, geometry = live_layer(settings.model, layer, weights)
            first_bp = grid_before(windows_of(layer.train, genome), layer.pad_bp, region)
            return region_of_model(
                model, geometry, genome, region, first_bp, **_how(settings.model)
            )
    parts = sorted({p for _, windows in sets for p in covered(read_windows(windows), region)})
    shown = ", ".join(str(Region(region.chrom, *part)) for part in parts[:5])
    raise InputError(
        f"{region}: no shards of layer {layer.name} cover all of it; "
        + (f"they cover {shown}" if parts else "they cover none of it")
        + "; ask for a region inside the windows, or add a [model] that computes any"
    )


def live_layer(
    model: Model, layer: Layer, weights: str | None = None
) -> tuple[SequenceModel, LayerGeometry]:
    """The model of the settings and its layer, kept for the next question while its files stay as
    they are; refused where it has other weights than are needed."""
    files = fingerprint_files(model.files) if model.files else ""
    loaded, geometry = _live_layer(model.model_dump_json(), layer.model_dump_json(), files)
    if weights is not None:
        same_weights(loaded, weights, f"the SAE of layer {layer.name}")
    return loaded, geometry


@functools.lru_cache(maxsize=1)
def _live_layer(model: str, layer: str, files: str) -> tuple[SequenceModel, LayerGeometry]:
    loaded = load_settings_model(Model.model_validate_json(model))
    return loaded, settings_geometry(loaded, Layer.model_validate_json(layer))


def _how(model: Model) -> dict[str, Any]:
    """How the settings want activations computed, by the names that the science takes."""
    return {
        "origin": model.loader,
        "stored_as": model.stored_as,
        "tile_positions": model.tile_positions,
    }


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
        seen = "is not in the genome" if size is None else f"has {size:,} bp"
        raise InputError(
            f"{region}: {region.chrom} {seen}, which has {', '.join(list(genome.chrom_sizes)[:5])}"
            "; ask for a region of this assembly"
        )
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


def fasta_regions(
    path: Path, settings: Model, layer: Layer, weights: str | None = None
) -> Iterator[tuple[str, LayerRegion]]:
    """Activations on every sequence of a FASTA, each with its name.

    Raises
    ------
    InputError
        Where the file is no FASTA, a sequence is shorter than a position, or the model has other
        weights than are needed (see `layer_region`).
    """
    model, geometry = live_layer(settings, layer, weights)
    with Genome(path) as sequences:
        for name, size in sequences.chrom_sizes.items():
            n_bp = size // geometry.bp_per_position * geometry.bp_per_position
            if n_bp == 0:
                raise InputError(
                    f"{path}: sequence {name!r} has {size} bp, less than the "
                    f"{geometry.bp_per_position} bp of a position; leave it out"
                )
            region = Region(name, 0, n_bp)
            yield name, region_of_model(model, geometry, sequences, region, 0, **_how(settings))
