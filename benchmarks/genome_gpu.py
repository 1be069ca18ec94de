"""An SAE of Borzoi's conv1d_1 over a genome: training and scan of live activations on a GPU.

    python benchmarks/genome_gpu.py                      # a made chromosome, projected to a genome
    python benchmarks/genome_gpu.py --train 4e8 --scan 3e9   # no projection: it takes what it takes

The stem has random weights of the true shape (two convolutions to 608 channels, a position for 2
bp) and runs in float16; its activations stay on the device. Training draws positions from pools of
random windows, which the device shuffles; the scan takes every position once and keeps the exact
top 1,000 of each node. Printed are the share of each part and the projection to training on 2e8
positions and a scan of 1.5e9.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from saeborzoi.nodes.device_scan import Sums, Top
from saeborzoi.sae.gpu.selector import DeviceSelector
from saeborzoi.sae.gpu.trainer import DeviceTrainer
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sae.recipe import RECIPES, initialize
from saeborzoi.settings.hyperparameters import Hyperparameters

TRAINED, SCANNED = 2e8, 1.5e9
"""What is projected to: positions of the training, and of the human genome."""
HALO_BP = 16
"""Base pairs that a position sees on either side, and the pooling's."""


class Stem(nn.Module):
    """conv1d_1: 15 bp to 512 channels, pooled by 2, then 5 positions to `n_channels`."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(4, 512, 15)
        self.norm = nn.BatchNorm1d(512)
        self.second = nn.Conv1d(512, n_channels, 5)

    def forward(self, one_hot: Tensor) -> Tensor:
        """(4, n_bp) to (n_positions, n_channels)."""
        x = nn.functional.max_pool1d(self.first(one_hot[None]), 2)
        x = self.second(nn.functional.gelu(self.norm(x), approximate="tanh"))
        return x[0].T


class Clock:
    """Seconds of each part, measured on the device where there is one."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self._on_gpu = device.type == "cuda"
        self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        """Everything since the last lap was this part."""
        if self._on_gpu:
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._last
        self._last = now


class Chromosome:
    """Random letters on the device, and a layer's activations on pieces of it."""

    def __init__(self, n_bp: int, stem: Stem, piece: int, device: torch.device) -> None:
        generator = torch.Generator(device).manual_seed(0)
        self.letters = torch.randint(
            4, (n_bp + 4 * HALO_BP,), generator=generator, device=device, dtype=torch.uint8
        )
        self._stem, self._piece = stem, piece
        self._dtype = next(stem.parameters()).dtype

    @property
    def n_pieces(self) -> int:
        """Pieces of `piece` positions."""
        return (len(self.letters) - 4 * HALO_BP) // (2 * self._piece)

    def activations(self, i: int) -> Tensor:
        """(piece, n_channels) of a piece."""
        first = 2 * self._piece * i
        letters = self.letters[first : first + 2 * self._piece + 2 * HALO_BP]
        one_hot = nn.functional.one_hot(letters.long(), 4).T.to(self._dtype)
        return self._stem(one_hot)[: self._piece]


def shuffled_batches(
    chromosome: Chromosome, trainer: DeviceTrainer, clock: Clock
) -> Iterator[None]:
    """Batches in the trainer's buffer, from pools of eight random pieces, without end."""
    raw = trainer.batch.raw
    while True:
        pieces = torch.randint(chromosome.n_pieces, (8,)).tolist()
        pool = torch.cat([chromosome.activations(i) for i in pieces]).to(raw.dtype)
        order = torch.randperm(len(pool), device=raw.device)
        clock.lap("training: the model's stem")
        for first in range(0, len(pool) - len(raw) + 1, len(raw)):
            torch.index_select(pool, 0, order[first : first + len(raw)], out=raw)
            yield
        clock.lap("training: steps")


@torch.no_grad()
def main() -> None:
    """Print rates, shares and the projection."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=608)
    parser.add_argument("--train", type=float, default=2e7, help="positions to train on")
    parser.add_argument("--scan", type=float, default=2e7, help="positions to scan")
    parser.add_argument("--batch", type=int, default=16_384)
    parser.add_argument("--piece", type=int, default=32_768, help="positions of a stem's run")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    name = torch.cuda.get_device_name() if device.type == "cuda" else "a CPU: shapes only"
    torch.manual_seed(0)
    stem = Stem(options.channels).to(device, dtype).eval()
    n_bp = 2 * min(int(options.scan), 100_000_000)
    chromosome = Chromosome(n_bp, stem, options.piece, device)
    sample = chromosome.activations(0)[:65_536].float().cpu()

    sae = SparseAutoencoder(options.channels, 4 * options.channels, round(options.channels / 20))
    sae.channel_max.copy_(sample.abs().amax(0))
    h = Hyperparameters(layer="conv1d_1")
    initialize(sae, RECIPES["default"], h, sample)
    variance = float((sample / sae.channel_max).var(0).sum())
    n_steps = max(1, int(options.train) // options.batch)
    raw = torch.zeros(options.batch, options.channels, dtype=dtype, device=device)
    trainer = DeviceTrainer(
        sae.to(device), h, RECIPES["default"], n_steps, options.batch, variance, raw
    )  # fmt: skip
    trainer.prepare()
    print(f"{name}: {trainer.layer.name}, {chromosome.n_pieces:,} pieces", flush=True)

    clock = Clock(device)
    for _, _ready in zip(
        range(n_steps), shuffled_batches(chromosome, trainer, clock), strict=False
    ):
        trainer.train_step(raw)
    clock.lap("training: steps")
    n_trained = n_steps * options.batch
    trainer.log_train(n_trained)
    print(f"trained on {n_trained:,} positions: FVU {trainer.log[-1]['fvu']:.3f}")
    sae = trainer.release()

    selector, sums, top = DeviceSelector(sae), Sums(sae), Top(sae.n_nodes, 1000, device)
    n_scanned = 0
    clock.lap("between")
    while n_scanned < options.scan:
        piece = chromosome.activations(n_scanned // options.piece % chromosome.n_pieces)
        clock.lap("scan: the model's stem")
        for part in piece.split(16_384):
            value, node = selector(part)
            clock.lap("scan: activations")
            sums.add(value, node)
            clock.lap("scan: sums and pairs")
            top.add(value, node, n_scanned + torch.arange(len(part), device=device))
            clock.lap("scan: strongest")
            n_scanned += len(part)
    table = top.table(10**9)
    clock.lap("scan: strongest")
    print(f"scanned {n_scanned:,} positions: {len(table):,} strongest of {sae.n_nodes:,} nodes")

    if device.type == "cpu":
        print("no GPU is here: nothing is projected")
        return
    projected = {
        part: seconds
        * (TRAINED / n_trained if part.startswith("training") else SCANNED / n_scanned)
        for part, seconds in clock.seconds.items()
        if part != "between"
    }
    total = sum(projected.values())
    for part, seconds in projected.items():
        print(f"  {part}: {seconds:.0f} s ({seconds / total:.0%})")
    print(
        f"training on {TRAINED:.0e} positions and a scan of {SCANNED:.1e}: {total / 60:.1f} min, "
        "projected"
    )


if __name__ == "__main__":
    main()
