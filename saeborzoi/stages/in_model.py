"""What stages about a model's predictions share: the model, the SAE and the sequences of a job."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from saeborzoi.activations.live import LiveSource, Places
from saeborzoi.activations.shards import ShardFolder, kept_pieces
from saeborzoi.catalog.store import Store
from saeborzoi.effects.inputs import SequencesOfWindows
from saeborzoi.effects.levels import with_tracks
from saeborzoi.effects.targets import open_targets
from saeborzoi.errors import InputError
from saeborzoi.genome.coordinates import Genome, Windows
from saeborzoi.genome.windows import windows_of
from saeborzoi.jobs.job import Job
from saeborzoi.jobs.provenance import require_input
from saeborzoi.models.layer import LayerGeometry
from saeborzoi.models.model import SequenceModel
from saeborzoi.sae.checkpoint import load_checkpoint
from saeborzoi.sae.data_fit import model_of
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.settings.sections import Layer
from saeborzoi.sources.regions import live_layer

_BATCH_BP, _MAX_BATCH = 131_072, 16
"""Sequences at once: as many as have so many base pairs."""
_COMPARED, _COMPARED_POSITIONS = 3, 128
_MAX_ERROR = 0.05
"""Shards are the model's where the root mean square of the difference to what it computes is below
this share of their standard deviation; of another replicate it is about 1."""


class InModel(NamedTuple):
    """What a job about predictions works with."""

    model: SequenceModel
    geometry: LayerGeometry
    sae: SparseAutoencoder
    sequences: SequencesOfWindows
    batch_size: int


@contextlib.contextmanager
def in_model(job: Job, *, with_targets: bool = False) -> Iterator[InModel]:
    """Open the model, the SAE of `inputs["trained_sae"]` and the held-out sequences.

    Parameters
    ----------
    with_targets
        Whether the sequences bring what was measured there, where the settings name it.

    Raises
    ------
    InputError
        Where the SAE was trained on other weights, or on shards that are not this model's; where
        the model has no outputs, or none of the tracks that are wanted; where targets are not of
        these windows and outputs.
    """
    settings, layer = job.settings, job.layer_settings
    assert settings.model is not None, "an artifact that needs a model"
    trained = require_input(job, "trained_sae")
    torch.set_num_threads(job.threads)
    whole, geometry = live_layer(settings.model, layer, model_of(trained))
    model = with_tracks(whole, settings.effects.tracks)
    sae = load_checkpoint(trained, layer.n_channels)
    cache = Store(settings.project.store).genome_cache
    path = layer.held_out.targets if with_targets else None
    with (
        Genome(settings.data.genome, cache=cache) as genome,
        contextlib.ExitStack() as stack,
    ):
        windows = windows_of(genome=genome, **layer.held_out.where)
        targets = None
        if path is not None:
            assert whole.outputs is not None
            assert model.outputs is not None
            targets = stack.enter_context(
                open_targets(path, len(windows), whole.outputs, model.outputs.tracks)
            )
        _require_same(model, geometry, layer, windows, genome)
        batch_size = max(1, min(_MAX_BATCH, _BATCH_BP // model.input_bp))
        sequences = SequencesOfWindows(
            windows,
            genome,
            model.input_bp,
            pad_bp=layer.pad_bp,
            batch_size=batch_size,
            at_most=settings.effects.n_sequences_of(model.input_bp),
            targets=targets,
        )
        yield InModel(model, geometry, sae, sequences, batch_size)


def require_same_activations(
    job: Job, model: SequenceModel, geometry: LayerGeometry, genome: Genome
) -> None:
    """Refuse a model that does not compute what the shards of the job's layer hold.

    Raises
    ------
    InputError
        Says by how much they differ.
    """
    layer = job.layer_settings
    windows = windows_of(genome=genome, **layer.held_out.where)
    _require_same(model, geometry, layer, windows, genome)


def _require_same(
    model: SequenceModel, geometry: LayerGeometry, layer: Layer, windows: Windows, genome: Genome
) -> None:
    """Which weights shards were made with stands nowhere in them."""
    if layer.held_out.is_live:
        return
    shards, bed = layer.held_out.folder_and_windows
    folder = ShardFolder.open(shards, layer.n_channels)
    pieces = kept_pieces(folder, bed, **layer.geometry)
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
            f"of [model] computes there (they differ by {error:.0%} of a standard deviation; "
            f"rounding is below {_MAX_ERROR:.0%}): other weights, module or genome; fix [model] or "
            "`module`, or remove `module` where this model did not make the shards"
        )
