"""Do a layer's shards hold what the settings' model computes on the settings' genome?

Which weights, module and letters shards were made with stands nowhere in them.
"""

from __future__ import annotations

import numpy as np

from saeborzoi.activations.live import LiveSource, Places
from saeborzoi.activations.shards import ShardFolder, kept_pieces
from saeborzoi.errors import InputError
from saeborzoi.genome.coordinates import Genome
from saeborzoi.genome.windows import windows_of
from saeborzoi.models.layer import LayerGeometry
from saeborzoi.models.model import SequenceModel
from saeborzoi.settings.sections import Layer, ShardSet

_COMPARED, _COMPARED_POSITIONS = 3, 128
_MAX_ERROR = 0.05
"""Shards are the model's where the root mean square of the difference to what it computes is below
this share of their standard deviation; of another replicate it is about 1."""


def require_same_activations(
    model: SequenceModel, geometry: LayerGeometry, layer: Layer, genome: Genome
) -> None:
    """Compare a layer's shards at a few positions with what the model computes there.

    Raises
    ------
    InputError
        Where another model, module or genome made them; says by how much they differ.
    """
    for shard_set in layer.sets:
        if not shard_set.is_live:
            _require_same(model, geometry, layer, shard_set, genome)


def _require_same(
    model: SequenceModel, geometry: LayerGeometry, layer: Layer, shard_set: ShardSet, genome: Genome
) -> None:
    shards, bed = shard_set.folder_and_windows
    folder = ShardFolder.open(shards, layer.n_channels)
    pieces = kept_pieces(folder, bed, **layer.geometry)
    windows = windows_of(genome=genome, **shard_set.where)
    live = LiveSource(
        model, geometry, genome, Places(windows, layer.bp_per_position, layer.pad_bp), "float32"
    )
    errors = []
    with folder.reader() as reader:
        for i in np.linspace(0, len(pieces) - 1, _COMPARED).astype(int):
            place, row, first, last, window = pieces[i].tolist()
            # the middle: a window's ends may have been computed without their surroundings
            low = max(first, (first + last - _COMPARED_POSITIONS) // 2)
            positions = slice(low, min(low + _COMPARED_POSITIONS, last))
            stored = reader.read(place, slice(row, row + 1), positions)[0].astype(np.float32)
            computed = live.read(0, slice(window, window + 1), positions)[0]
            errors.append(
                float(np.sqrt(np.mean((computed - stored) ** 2)) / max(stored.std(), 1e-12))
            )
    error = float(np.median(errors))
    if error > _MAX_ERROR:
        raise InputError(
            f"layer {layer.name}: {shards} holds other activations than module {geometry.module} "
            f"of [model] computes there on {genome.path} (they differ by {error:.0%} of a standard "
            f"deviation; rounding is below {_MAX_ERROR:.0%}): other weights, another module, or a "
            "genome of another build than the windows; fix [model], `module` or `genome`, or "
            "remove `module` where this model did not make the shards"
        )
