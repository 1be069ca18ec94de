"""Quality on a known dictionary: what a recipe finds in 3M positions, at what cost.

    python benchmarks/sae_quality.py --work FOLDER [--positions 3000000] [--recipe default ...]

Needs 3.7 GB in FOLDER for 3M positions; data that is there already is used again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from saeborzoi.activations.loader import SlabPlan
from saeborzoi.activations.normalization import channel_max
from saeborzoi.activations.shards import ShardFolder, kept_pieces
from saeborzoi.demo.known_dictionary import KnownDictionary
from saeborzoi.sae.evaluation import evaluate
from saeborzoi.sae.schedule import Schedule
from saeborzoi.sae.training import TrainingData, TrainingLoop, in_batches
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi.settings.sections import Layer, ShardSet

N_POSITIONS = 16_384


def data_of(work: Path, known: KnownDictionary, n_train: int) -> TrainingData:
    """Shards of a known dictionary, made where they are not there yet."""
    sets = []
    for name, n in (("train", n_train), ("validation", 65_536)):
        folder = work / f"known_{known.n_channels}_{name}_{n}"
        n_sequences = -(-n // N_POSITIONS)
        if not (folder / "train_seqs.bed").exists():
            known.write(folder, n_sequences, N_POSITIONS, name)
        sets.append(known.shard_set(folder))
    train, validation = plans_of(known.layer(*sets), sets)
    maxima = channel_max(train.source).used
    return TrainingData(train, validation, maxima, train.source.identity()["data_fingerprint"])


def plans_of(layer: Layer, sets: list[ShardSet]) -> list[SlabPlan]:
    """What to read of each shard set."""
    plans = []
    for shard_set in sets:
        path, windows = shard_set.folder_and_windows
        shards = ShardFolder.open(path)
        plans.append(SlabPlan(shards, kept_pieces(shards, windows, **layer.geometry)))
    return plans


def main() -> None:
    """Train and print one line a recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--positions", type=int, default=3_000_000)
    parser.add_argument("--recipe", nargs="+", default=["default", "published"])
    parser.add_argument("--variant", nargs="+", default=["topk"])
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    known = KnownDictionary()
    print(f"oracle FVU {known.oracle_fvu(1024):.4f}")
    data = data_of(options.work, known, options.positions)
    for recipe in options.recipe:
        for variant in options.variant:
            fields = {"layer": "known", "recipe": recipe, "variant": variant, "seed": options.seed}
            if options.learning_rate:
                fields["learning_rate"] = options.learning_rate
            h = Hyperparameters.model_validate(fields)
            settings = Schedule(
                n_positions=options.positions, batch_size=4096, validate_every_positions=10**9
            )
            loop = TrainingLoop(data, settings, threads=options.threads)
            cpu, wall = time.process_time(), time.monotonic()
            trained = loop.run([h])[0]
            cpu, wall = time.process_time() - cpu, time.monotonic() - wall
            train = evaluate(trained.sae, in_batches(data.train, 4096, 500_000))
            validation = evaluate(trained.sae, loop.validation_batches())
            found = known.recovery(trained.sae)
            print(
                f"{h.key}: FVU {train.fvu:.4f} train, {validation.fvu:.4f} validation; "
                f"MMCS {found.mmcs:.4f}, {found.recovered_fraction:.1%} recovered; "
                f"{train.dead_fraction:.2%} dead on {train.n_positions:,} positions; "
                f"L0 {validation.l0:.1f}; {cpu:.0f} CPU s ({cpu / trained.n_positions * 1e6:.1f} "
                f"µs a position), {wall:.0f} s; median channel explained "
                f"{np.median(train.explained_variance):.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
