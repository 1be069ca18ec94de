"""Small data from a known dictionary, and what trains on it."""

from __future__ import annotations

from pathlib import Path

import torch

from saeborzoi.activations.loader import SlabPlan
from saeborzoi.activations.normalization import channel_max
from saeborzoi.activations.shards import ShardFolder, kept_pieces
from saeborzoi.demo.known_dictionary import KnownDictionary
from saeborzoi.sae.training import TrainingData

SMALL = KnownDictionary(n_channels=32, n_features=48, n_active=3, noise=0.05)


def data_in(folder: Path) -> TrainingData:
    """40,000 training and 8,000 validation positions of `SMALL`."""
    for name, n in (("train", 10), ("validation", 2)):
        SMALL.write(folder / name, n, 4000, name, n_per_shard=4)
    return data_at(folder)


def data_at(folder: Path) -> TrainingData:
    """What `data_in` wrote there."""
    torch.set_num_threads(1)
    plans = []
    for name in ("train", "validation"):
        path, windows = SMALL.shard_set(folder / name).folder_and_windows
        shards = ShardFolder.open(path)
        plans.append(SlabPlan(shards, kept_pieces(shards, windows, bp_per_position=1)))
    maxima = channel_max(plans[0].source).used
    return TrainingData(plans[0], plans[1], maxima, plans[0].source.identity()["data_fingerprint"])
