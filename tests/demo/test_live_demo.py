"""The demo's network is a model like any other: the shards are what it computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from saeborzoi.activations.live import LiveSource, Places
from saeborzoi.activations.shards import ShardFolder
from saeborzoi.demo import DATA
from saeborzoi.demo.network import one_thread
from saeborzoi.demo.recovery import read_planted
from saeborzoi.genome.coordinates import Genome, read_windows
from saeborzoi.models.layer import one_hot
from saeborzoi.models.of_settings import load_settings_model, settings_geometry
from saeborzoi.settings.load import Settings


def test_live_values_are_those_of_the_shards(settings: Settings) -> None:
    layer = settings.layer[0]
    assert settings.model is not None
    assert layer.validation is not None
    shards, bed = layer.validation.folder_and_windows
    with one_thread(), Genome(settings.data.genome) as genome:
        model = load_settings_model(settings.model)
        geometry = settings_geometry(model, layer)  # the typed width and the measured agree
        places = Places(read_windows(bed), layer.bp_per_position, layer.pad_bp)
        source = LiveSource(model, geometry, genome, places)
        row = slice(3, 4)
        live = source.read(0, row, slice(0, source.n_positions))[0]
    with ShardFolder.open(shards).reader() as reader:
        stored = reader.read(0, row, slice(0, source.n_positions))[0]
    inside = slice(8, -8)  # the shards' network saw nothing beyond the padding, this one genome
    assert float((live[inside] == stored[inside]).mean()) > 0.999
    np.testing.assert_allclose(live[inside].astype(float), stored[inside].astype(float), atol=0.02)


def test_it_has_an_output_for_each_planted_factor(demo: Path, settings: Settings) -> None:
    planted, instances = read_planted(demo / DATA)
    assert settings.model is not None
    model = load_settings_model(settings.model)
    assert model.outputs is not None
    assert list(model.outputs.tracks) == planted["name"].tolist()
    n_windows, n_bins = 20, model.outputs.n_bins
    with one_thread(), torch.no_grad(), Genome(settings.data.genome) as genome:
        letters = genome.fetch_bytes(
            ["chr3"] * n_windows, np.arange(n_windows) * model.input_bp, model.input_bp
        )
        outputs = torch.cat([model.predict(one_hot(x)[None])[0] for x in letters], 1).numpy()
    here = instances[instances["chrom"] == "chr3"]
    middle = (here["start_bp"] + here["end_bp"]) // 2 // model.outputs.bin_bp
    higher = []
    for track, motif_id in zip(outputs, planted["motif_id"], strict=True):
        holds = np.zeros(n_windows * n_bins, bool)
        own = middle[(here["motif_id"] == motif_id) & (middle < len(holds))]
        holds[own] = True
        higher.append(track[holds].mean() / track[~holds].mean())
    # in superposition each motif also shows a little of others, but most of its own
    assert min(higher) > 2
    assert np.median(higher) > 4
