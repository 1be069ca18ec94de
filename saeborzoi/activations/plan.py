"""From settings to the positions of a layer: opens shards, or a model, and says what to read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from saeborzoi.activations.live import LiveSource, Places
from saeborzoi.activations.loader import SlabPlan
from saeborzoi.activations.shards import ShardFolder, kept_pieces
from saeborzoi.activations.values import require_plausible, unnamed_shards
from saeborzoi.errors import InputError
from saeborzoi.files import write_folder
from saeborzoi.genome.coordinates import Genome, read_windows, require_inside
from saeborzoi.genome.windows import windows_of
from saeborzoi.jobs.job import Progress, silent
from saeborzoi.models.of_settings import load_settings_model, settings_geometry
from saeborzoi.settings.load import Settings
from saeborzoi.settings.sections import Layer, ShardSet

CACHE_FILE = "cache.json"
_ROWS = 16
"""Windows of one shard of a cache."""


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
    unnamed = unnamed_shards(folder, read_windows(windows))
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
        windows = windows_of(shard_set, genome)
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


class CachedSource:
    """A live source whose values lie in shards, written at the first use; a `Source`."""

    def __init__(self, live: LiveSource, cache: Path, progress: Progress = silent) -> None:
        self._live = live
        if not self._is_there(cache):
            self._write(cache, progress)
        self._folder = ShardFolder.open(cache, live.n_channels)
        self.n_positions, self.n_channels = live.n_positions, live.n_channels
        self.dtype = self._folder.dtype
        # the live source's, so that training sees the same order
        self.slab_shape = live.slab_shape
        self.reader = self._folder.reader

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self._live.name}, cached in {self._folder.folder}"

    def everything(self) -> NDArray[np.int64]:
        """What counts, where it lies in the shards."""
        pieces = self._live.scan.pieces.copy()
        pieces[:, 0], pieces[:, 1] = np.divmod(pieces[:, 4], _ROWS)
        return pieces

    def identity(self) -> dict[str, Any]:
        """The live source's: where values wait does not matter."""
        return self._live.identity()

    def _is_there(self, cache: Path) -> bool:
        """Whether the folder holds these activations; refused where it holds something else."""
        if not cache.exists():
            return False
        try:
            then = json.loads((cache / CACHE_FILE).read_text())
        except (OSError, ValueError):
            raise InputError(
                f"{cache}: is no cache of activations (no readable {CACHE_FILE}); remove it, or "
                "name another folder as `cache`"
            ) from None
        if then != self._live.identity():
            raise InputError(
                f"{cache}: holds activations of other weights, layer, windows or genome "
                f"({then.get('data_fingerprint')} then, {self._live.identity()['data_fingerprint']}"
                " now); remove it, or name another folder as `cache`"
            )
        return True

    def _write(self, cache: Path, progress: Progress) -> None:
        live = self._live
        n = len(live.places.windows)
        wanted: dict[int, tuple[int, int]] = {}
        for _, row, first, last, _ in live.scan.pieces.tolist():
            low, high = wanted.get(row, (first, last))
            wanted[row] = (min(low, first), max(high, last))
        with write_folder(cache) as temporary:
            for shard, begin in enumerate(range(0, n, _ROWS)):
                rows = range(begin, min(begin + _ROWS, n))
                with h5py.File(temporary / f"activations_{shard}.h5", "w") as file:
                    data = file.create_dataset(
                        "activations", (len(rows), live.n_positions, live.n_channels), live.dtype
                    )
                    for row in rows:
                        # what does not count, as padding, stays 0
                        if row in wanted:
                            low, high = wanted[row]
                            data[row - begin, low:high] = live.read(
                                0, slice(row, row + 1), slice(low, high)
                            )[0]
                        progress("activations to the cache", row + 1, n)
            (temporary / CACHE_FILE).write_text(json.dumps(live.identity(), indent=1) + "\n")
