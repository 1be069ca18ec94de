"""Positions a second that the loader delivers, against one read an item.

    python benchmarks/sae_loader.py --work FOLDER [--rounds 3]

The reference does what sae-borzoi's data set does for an item: open the file, take a row and a
quarter of it, make it float32, divide by the channel maxima. Ours shuffles over all sequences
besides. Shards are float16, 65,536 positions of 608 channels, uncompressed, in the page cache.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

import h5py
import numpy as np
import torch

from saeborzoi.activations.loader import SlabPlan, TrainingStream, to_float32
from saeborzoi.activations.shards import ShardFolder, kept_pieces
from saeborzoi.sae.known_dictionary import KnownDictionary

N_SEQUENCES, N_POSITIONS = 8, 65_536


def reference(folder: ShardFolder, n_items: int, maxima: torch.Tensor) -> int:
    """Read items one by one, a quarter of a sequence each, in random order."""
    rng = np.random.default_rng(0)
    done = 0
    for _ in range(n_items):
        shard = folder.shards[rng.integers(len(folder.shards))]
        row, quarter = rng.integers(shard.n_sequences), rng.integers(4)
        with h5py.File(shard.path, "r") as file:
            data = file[next(iter(file))]
            length = data.shape[1]
            item = data[row][quarter * length // 4 : (quarter + 1) * length // 4]
        done += len(torch.tensor(item, dtype=torch.float32) / maxima)
    return done


def ours(stream: TrainingStream, n_batches: int, maxima: torch.Tensor) -> int:
    """Shuffled batches as float32, as a training step gets them."""
    done = 0
    for batch in itertools.islice(stream.batches(4096), n_batches):
        done += len(to_float32(batch) / maxima)
    return done


def main() -> None:
    """Print positions a second of wall and of CPU time, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    known = KnownDictionary()
    target = options.work / "inference_long"
    maxima = torch.ones(known.n_channels)
    torch.set_num_threads(1)
    if not (target / "train_seqs.bed").exists():
        known.write(target, N_SEQUENCES, N_POSITIONS, "inference")
    folder = ShardFolder.open(target)
    shard_set = known.shard_set(target)
    plan = SlabPlan(folder, kept_pieces(folder, known.layer(shard_set), shard_set))
    for path in target.glob("*.h5"):
        path.read_bytes()
    rates: dict[str, list[tuple[float, float]]] = {"reference": [], "ours": []}
    for buffer_mb in (64, 512):
        stream = TrainingStream(plan, 0, buffer_mb)
        for round_ in range(options.rounds):
            for name in rates:
                wall, cpu = time.perf_counter(), time.process_time()
                if name == "ours":
                    n = ours(stream, plan.n_positions // 4096, maxima)
                else:
                    n = reference(folder, 16, maxima)
                rates[name].append(
                    (n / (time.perf_counter() - wall), n / (time.process_time() - cpu))
                )
            a, b = rates["ours"][-1], rates["reference"][-1]
            print(
                f"buffer {buffer_mb} MiB, round {round_}: ours {a[0]:,.0f} positions/s, reference "
                f"{b[0]:,.0f}: {a[0] / b[0]:.1f}x; per CPU second {a[1]:,.0f} and {b[1]:,.0f}: "
                f"{a[1] / b[1]:.1f}x"
            )


if __name__ == "__main__":
    main()
