"""Positions a second that the loader delivers, against one read an item.

    python benchmarks/sae_loader.py --work FOLDER [--rounds 3] [--threads 2]

The reference does what sae-borzoi's data set and data loader do: for an item open the file, take a
row and a quarter of it, make it float32, divide by the channel maxima; two items a batch, one
worker process. Ours shuffles over all sequences besides. Sequences have the size of conv1d_1,
262,144 positions of 608 channels, uncompressed, in the page cache; 5 GB in FOLDER.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from saeborzoi.activations.loader import SlabPlan, TrainingStream, to_float32
from saeborzoi.activations.shards import ShardFolder

N_SEQUENCES, N_POSITIONS, N_CHANNELS = 4, 262_144, 608
MAXIMA = torch.ones(N_CHANNELS)


class Items(Dataset[torch.Tensor]):
    """A quarter of a sequence an item."""

    def __init__(self, folder: ShardFolder) -> None:
        self.paths = [shard.path for shard in folder.shards]
        self.maxima = [1.0] * N_CHANNELS

    def __len__(self) -> int:
        return 4 * N_SEQUENCES

    def __getitem__(self, item: int) -> torch.Tensor:
        row, quarter = divmod(item, 4)
        with h5py.File(self.paths[row // 2], "r") as file:
            data = file[next(iter(file))]
            length = data.shape[1]
            part = data[row % 2][quarter * length // 4 : (quarter + 1) * length // 4]
        return torch.tensor(part, dtype=torch.float32) / torch.tensor(self.maxima)


def made(folder: Path, dtype: str) -> ShardFolder:
    """Two shards of two sequences of random numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    block = np.random.default_rng(0).standard_normal((4096, N_CHANNELS), np.float32).astype(dtype)
    for shard in range(N_SEQUENCES // 2):
        path = folder / f"activations_{shard}.h5"
        if not path.exists():
            with h5py.File(path, "w") as file:
                data = file.create_dataset("a", (2, N_POSITIONS, N_CHANNELS), dtype)
                for row, start in itertools.product(range(2), range(0, N_POSITIONS, 4096)):
                    data[row, start : start + 4096] = block
        path.read_bytes()
    return ShardFolder.open(folder)


def rate(lengths: Iterator[int]) -> tuple[float, float]:
    """Positions a second of wall time and of CPU time, worker processes counted."""

    def cpu() -> float:
        return sum(os.times()[:4])

    began, used = time.perf_counter(), cpu()
    n = sum(lengths)
    return n / (time.perf_counter() - began), n / (cpu() - used)


def reference(folder: ShardFolder) -> Iterator[int]:
    """Lengths of the batches that the published data loader delivers in one pass."""
    for batch in DataLoader(Items(folder), batch_size=2, shuffle=True, num_workers=1):
        yield len(batch) * batch.shape[1]


def divided(batch: np.ndarray) -> int:
    """Length of a batch, made float32 and divided."""
    return len(to_float32(batch).div_(MAXIMA))


def main() -> None:
    """Print positions a second of wall and of CPU time, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for dtype in ("float16", "float32"):
        folder = made(options.work / f"loader_{dtype}", dtype)
        n_rows = N_SEQUENCES * N_POSITIONS
        plan = SlabPlan(
            folder,
            np.array([(i // 2, i % 2, 0, N_POSITIONS, i) for i in range(N_SEQUENCES)]),
        )
        batches = TrainingStream(plan, 0, 512, options.threads).batches(4096)
        for _ in itertools.islice(batches, n_rows // 4096):
            pass  # memory of the pools is touched for the first time
        for round_ in range(options.rounds):
            theirs = rate(reference(folder))
            print(f"{dtype}, round {round_}: reference {theirs[0]:,.0f}/s", end="")
            for name, deliver in (("as stored", len), ("float32, divided", divided)):
                wall, cpu = rate(map(deliver, itertools.islice(batches, n_rows // 4096)))
                print(
                    f"; ours {name} {wall:,.0f}/s: {wall / theirs[0]:.1f}x, "
                    f"{cpu / theirs[1]:.1f}x per CPU second",
                    end="",
                )
            print(flush=True)


if __name__ == "__main__":
    main()
