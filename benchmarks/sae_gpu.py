"""Training on a GPU: positions a second, share of the chip's matrix rate, time for 1e9 positions.

    python benchmarks/sae_gpu.py [--batch 16384] [--steps 100]

Needs a GPU that PyTorch can use, and says so where there is none.
"""

from __future__ import annotations

import argparse
import time

import torch

from saeborzoi.demo.known_dictionary import KnownDictionary
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sae.recipe import RECIPES, initialize
from saeborzoi.sae.steps import make_step
from saeborzoi.sae.trainer import Trainer
from saeborzoi.settings.hyperparameters import Hyperparameters

PRODUCTS = 5
"""Dense matrix products of a step: encode, decode, and three of the backward pass."""


def matrix_rate(device: torch.device, size: int = 8192) -> float:
    """Operations a second of a large bfloat16 product."""
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    for _ in range(5):
        a @ a
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(20):
        a @ a
    torch.cuda.synchronize()
    return 20 * 2 * size**3 / (time.perf_counter() - began)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16_384)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("No GPU that PyTorch can use is here; nothing was measured.")
        return
    device = torch.device("cuda")
    torch.backends.cuda.matmul.allow_tf32 = True
    known = KnownDictionary()
    raw = known.positions(options.batch, "gpu")[0].astype("float16")
    x = torch.from_numpy(raw).float()
    h = Hyperparameters(layer="known")
    sae = SparseAutoencoder(known.n_channels, 4 * known.n_channels, 30)
    initialize(sae, RECIPES["default"], h, x)
    trainer = Trainer(
        sae.to(device), h, RECIPES["default"], options.steps + 10, options.batch,
        float(x.var(0).sum()), make_step(device),
    )  # fmt: skip
    for _ in range(10):
        trainer.train_step(raw)
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(options.steps):
        trainer.train_step(raw)
    torch.cuda.synchronize()
    rate = options.steps * options.batch / (time.perf_counter() - began)
    operations = PRODUCTS * 2 * sae.n_channels * sae.n_nodes
    print(
        f"{torch.cuda.get_device_name()}: {rate:,.0f} positions/s, transfer included; "
        f"{rate * operations / matrix_rate(device):.1%} of the rate of an 8192 x 8192 bfloat16 "
        f"product; 1e9 positions in {1e9 / rate / 60:.0f} min"
    )


if __name__ == "__main__":
    main()
