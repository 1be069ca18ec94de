"""CPU time of a whole training call: from shards to a trained SAE, against the published one.

    python benchmarks/sae_training.py --work FOLDER [--positions 400000] [--rounds 3]

The published call is restated from its steps: a data loader with one worker process (each item
opens the file, reads a sequence and takes a quarter), batches of two items, the dense step with the
metrics of every step, one validation pass; over fewer positions, as each costs the same, and of the
validation positions the same share. Ours reads the same float16 shards, shuffles over all of
them, estimates centring and variance from a sample, logs, and validates once. One thread; the CPU
time of worker processes counts. Rounds alternate.
"""

from __future__ import annotations

import argparse
import itertools
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import h5py
import torch
from sae_dense_step import PublishedSae, dense_step
from sae_quality import data_of
from torch.utils.data import DataLoader, Dataset

from saeborzoi.activations.loader import SlabPlan
from saeborzoi.demo.known_dictionary import KnownDictionary
from saeborzoi.sae.schedule import Schedule
from saeborzoi.sae.training import TrainingData, TrainingLoop
from saeborzoi.settings.hyperparameters import Hyperparameters

N_QUARTERS, K = 4, 30


class Quarters(Dataset[torch.Tensor]):
    """A quarter of a sequence an item, divided by the channel maxima."""

    def __init__(self, plan: SlabPlan, maxima: torch.Tensor) -> None:
        self._shard = plan.source.shards[0]  # type: ignore[attr-defined]
        self._maxima = maxima

    def __len__(self) -> int:
        return N_QUARTERS * self._shard.n_sequences

    def __getitem__(self, item: int) -> torch.Tensor:
        row, quarter = divmod(item, N_QUARTERS)
        with h5py.File(self._shard.path, "r") as file:
            data = file[self._shard.dataset]
            length = data.shape[1]
            first, last = (length * q // N_QUARTERS for q in (quarter, quarter + 1))
            part = data[row][first:last]
        return torch.tensor(part, dtype=torch.float32) / self._maxima


def published(data: TrainingData, n_positions: int, n_of_all: int) -> int:
    """The published call over some of all positions; how many they were."""
    assert data.validation is not None
    maxima = torch.from_numpy(data.channel_max)
    train, validation = Quarters(data.train, maxima), Quarters(data.validation, maxima)
    sae = PublishedSae(len(maxima), 4 * len(maxima), K)
    optimizer = torch.optim.Adam(sae.parameters(), lr=1e-5)
    done = 0
    for batch in DataLoader(train, batch_size=2, shuffle=True, num_workers=1):
        x = batch.flatten(0, 1)
        dense_step(sae, optimizer, x)
        done += len(x)
        if done >= n_positions:
            break
    with torch.no_grad():
        loader = DataLoader(validation, batch_size=1, num_workers=1)
        for batch in itertools.islice(loader, round(len(validation) * done / n_of_all)):
            x = batch.flatten(0, 1)
            x_hat, z = sae(x)
            float(torch.nn.functional.mse_loss(x_hat, x)), float(z.abs().mean())
    return done


def ours(data: TrainingData, n_positions: int, recipe: str) -> int:
    """Our call over as many; how many they were."""
    h = Hyperparameters.model_validate({"layer": "known", "recipe": recipe})
    schedule = Schedule(n_positions=n_positions, batch_size=4096, validate_every_positions=10**9)
    return TrainingLoop(data, schedule).run([h])[0].n_positions


def main() -> None:
    """Print microseconds of CPU a position and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--positions", type=int, default=400_000)
    parser.add_argument("--published-positions", type=int, default=65_536)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = data_of(options.work, KnownDictionary(), options.positions)

    def spent(call: object, *arguments: object) -> float:
        began = sum(os.times()[:4])
        n = call(data, *arguments)  # type: ignore[operator]
        return (sum(os.times()[:4]) - began) / n * 1e6

    for recipe in ("published", "default"):
        ours(data, 8192, recipe)  # compiles
    for round_ in range(options.rounds):
        theirs = spent(published, options.published_positions, options.positions)
        print(f"round {round_}: published {theirs:.1f} µs of CPU a position", end="")
        for recipe in ("published", "default"):
            us = spent(ours, options.positions, recipe)
            print(f"; ours, {recipe} recipe {us:.1f}: {theirs / us:.1f}x", end="")
        print(flush=True)


if __name__ == "__main__":
    main()
