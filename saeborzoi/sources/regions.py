"""Activations of a layer that the settings name at one locus, or on sequences of no genome."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saeborzoi.activations.locus import grid_before, region_of_model
from saeborzoi.activations.region import LayerRegion, covered, region_of_shards
from saeborzoi.errors import InputError
from saeborzoi.genome.coordinates import Genome, read_windows
from saeborzoi.genome.regions import Region
from saeborzoi.genome.windows import windows_of
from saeborzoi.jobs.fingerprint import fingerprint_files
from saeborzoi.models.layer import LayerGeometry
from saeborzoi.models.model import SequenceModel, same_weights
from saeborzoi.models.of_settings import load_settings_model, settings_geometry
from saeborzoi.settings.load import Settings
from saeborzoi.settings.model_sections import Model
from saeborzoi.settings.sections import Layer
from saeborzoi.sources.same_activations import require_same_activations


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
        where the model has other weights, or does not compute what the layer's shards hold.
    """
    sets = [shard_set.folder_and_windows for shard_set in layer.sets if not shard_set.is_live]
    for shards, windows in sets:
        stored = region_of_shards(
            shards, windows, region, n_channels=layer.n_channels, **layer.geometry
        )
        if stored is not None:
            return stored
    if settings.model is not None:
        with Genome(settings.data.genome, cache=genome_cache) as genome:
            model, geometry = live_layer(settings.model, layer, weights)
            require_same_activations(model, geometry, layer, genome)
            first_bp = grid_before(
                windows_of(genome=genome, **layer.train.where), layer.pad_bp, region
            )
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


def fasta_regions(
    path: Path,
    settings: Settings,
    layer: Layer,
    genome_cache: Path | None = None,
    weights: str | None = None,
) -> Iterator[tuple[str, LayerRegion]]:
    """Activations on every sequence of a FASTA, each with its name.

    Raises
    ------
    InputError
        Where there is no model, the file is no FASTA, a sequence is shorter than a position, or the
        model is another than is needed (see `layer_region`).
    """
    if settings.model is None:
        raise InputError(
            "sequences of a FASTA need the model, and the settings have no [model]; add one"
        )
    model, geometry = live_layer(settings.model, layer, weights)
    with Genome(settings.data.genome, cache=genome_cache) as genome:
        require_same_activations(model, geometry, layer, genome)
    with Genome(path) as sequences:
        for name, size in sequences.chrom_sizes.items():
            n_bp = size // geometry.bp_per_position * geometry.bp_per_position
            if n_bp == 0:
                raise InputError(
                    f"{path}: sequence {name!r} has {size} bp, less than the "
                    f"{geometry.bp_per_position} bp of a position; leave it out"
                )
            region = Region(name, 0, n_bp)
            yield (
                name,
                region_of_model(model, geometry, sequences, region, 0, **_how(settings.model)),
            )
