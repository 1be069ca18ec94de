"""The positions of a layer that the settings name: opens shards, or a model, says what to read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from saeborzoi.activations.cached import CachedSource
from saeborzoi.activations.live import LiveSource, Places
from saeborzoi.activations.loader import SlabPlan
from saeborzoi.activations.shards import ShardFolder, kept_pieces
from saeborzoi.activations.values import require_plausible, unnamed_rows
from saeborzoi.genome.coordinates import Genome, read_windows, require_inside
from saeborzoi.genome.windows import windows_of
from saeborzoi.jobs.job import Progress, silent
from saeborzoi.models.of_settings import load_settings_model, settings_geometry
from saeborzoi.settings.load import Settings
from saeborzoi.settings.sections import Layer, ShardSet


@contextlib.contextmanager
def plans_of(
    settings: Settings,
    layer: Layer,
    genome_cache: Path | None = None,
    progress: Progress = silent,
    validation: bool = True,
) -> Iterator[tuple[SlabPlan, SlabPlan | None]]:
    """Positions of a layer's training and validation data.

    Parameters
    ----------
    genome_cache
        Folder for the genome's index, see `Genome`.
    validation
        Whether validation data is opened.

    Yields
    ------
    (train, validation)
        The second is None where there is none, or it is not wanted. A model is loaded once.

    Raises
    ------
    InputError
        Where shards, windows, genome or model are not usable, or do not fit each other.
    """
    sets = layer.sets if validation else [layer.train]
    with contextlib.ExitStack() as stack:
        opened: _Live | None = None
        plans: list[SlabPlan] = []
        for shard_set in sets:
            if shard_set.shards is not None:
                plans.append(_of_shards(layer, shard_set, progress))
                continue
            if opened is None:
                opened = _Live(settings, layer)
                genome = stack.enter_context(Genome(settings.data.genome, cache=genome_cache))
            plans.append(opened.plan(shard_set, genome, progress))
        yield plans[0], plans[1] if len(plans) > 1 else None


def _of_shards(layer: Layer, shard_set: ShardSet, progress: Progress) -> SlabPlan:
    shards, windows = shard_set.folder_and_windows
    folder = ShardFolder.open(shards, layer.n_channels)
    require_plausible(folder)
    unnamed = unnamed_rows(folder, read_windows(windows))
    if unnamed:
        progress("reading shards", 0, 0, unnamed)
    return SlabPlan(folder, kept_pieces(folder, windows, **layer.geometry))


class _Live:
    """The model of a layer, loaded once for all of its windows."""

    def __init__(self, settings: Settings, layer: Layer) -> None:
        assert settings.model is not None, "validated"
        self._settings, self._layer = settings.model, layer
        self._model = load_settings_model(settings.model)
        self._geometry = settings_geometry(self._model, layer)

    def plan(self, shard_set: ShardSet, genome: Genome, progress: Progress) -> SlabPlan:
        layer = self._layer
        windows = windows_of(genome=genome, **shard_set.where)
        require_inside(
            windows.path, windows.chrom, windows.start_bp, windows.end_bp, windows.line,
            genome.chrom_sizes,
        )  # fmt: skip
        source = LiveSource(
            self._model,
            self._geometry,
            genome,
            Places(windows, layer.bp_per_position, layer.pad_bp),
            self._settings.stored_as,
            self._settings.tile_positions,
        )
        if shard_set.cache is None:
            return SlabPlan(source, source.scan.pieces)
        cached = CachedSource(source, shard_set.cache, progress)
        return SlabPlan(cached, cached.everything())
