"""What stages about a model's predictions share: the model, the SAE and the sequences of a job."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import torch

from saeborzoi.catalog.store import Store
from saeborzoi.effects.inputs import SequencesOfWindows
from saeborzoi.effects.levels import with_tracks
from saeborzoi.effects.targets import open_targets
from saeborzoi.genome.coordinates import Genome
from saeborzoi.genome.windows import windows_of
from saeborzoi.jobs.job import Job
from saeborzoi.jobs.provenance import require_input
from saeborzoi.models.layer import LayerGeometry
from saeborzoi.models.model import SequenceModel
from saeborzoi.sae.checkpoint import load_checkpoint
from saeborzoi.sae.data_fit import model_of
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sources.regions import live_layer
from saeborzoi.sources.same_activations import require_same_activations

_BATCH_BP, _MAX_BATCH = 131_072, 16
"""Sequences at once: as many as have so many base pairs."""


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
        require_same_activations(model, geometry, layer, genome)
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
