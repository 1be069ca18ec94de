"""CPU time of one training step: ours against the published step restated densely.

    python benchmarks/sae_step.py [--rounds 5] [--batch 4096]

Rounds alternate, so that whatever else the machine does meets both; ratios are of CPU time. The
gradients and eight steps of the loss curve are compared too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from sae_dense_step import PublishedSae, dense_step

from saeborzoi.demo.known_dictionary import KnownDictionary
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sae.recipe import RECIPES, initialize
from saeborzoi.sae.steps import SparseStep
from saeborzoi.sae.trainer import Trainer
from saeborzoi.settings.hyperparameters import Hyperparameters

N_CHANNELS, N_NODES, K = 608, 2432, 30


def ours(x: torch.Tensor, recipe: str, learning_rate: float) -> Trainer:
    """A trainer with the recipe's initialization."""
    h = Hyperparameters.model_validate(
        {"layer": "known", "recipe": recipe, "learning_rate": learning_rate}
    )
    sae = SparseAutoencoder(N_CHANNELS, N_NODES, K)
    initialize(sae, RECIPES[recipe], h, x)
    variance = float(x.var(0).sum())
    return Trainer(sae, h, RECIPES[recipe], 1000, len(x), variance, SparseStep())


def reference(trainer: Trainer, learning_rate: float) -> tuple[PublishedSae, torch.optim.Adam]:
    """The dense SAE with the same parameters."""
    sae = PublishedSae(N_CHANNELS, N_NODES, K)
    with torch.no_grad():
        sae.encoder.weight.copy_(trainer.sae.encoder_weight)
        sae.decoder.weight.copy_(trainer.sae.decoder_weight.T)
        sae.latent_bias.copy_(trainer.sae.encoder_bias)
        sae.pre_bias.copy_(trainer.sae.pre_bias)
    return sae, torch.optim.Adam(sae.parameters(), lr=learning_rate)


def parity(x: torch.Tensor, raw: np.ndarray) -> None:
    """Relative differences of gradients, and of eight steps of the loss curve."""
    trainer = ours(x, "published", 1e-3)
    dense, optimizer = reference(trainer, 1e-3)
    result = SparseStep()(trainer.sae, raw)
    result.derive()
    x_hat, _ = dense(x)
    torch.nn.functional.mse_loss(x_hat, x).backward()
    pairs = {
        "encoder": (trainer.sae.encoder_weight.grad, dense.encoder.weight.grad),
        "decoder": (trainer.sae.decoder_weight.grad, dense.decoder.weight.grad.T),
        "encoder bias": (trainer.sae.encoder_bias.grad, dense.latent_bias.grad),
        "pre-bias": (trainer.sae.pre_bias.grad, dense.pre_bias.grad),
    }
    for name, (a, b) in pairs.items():
        difference = float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))
        print(f"gradient of the {name}: relative difference {difference:.1e}")
    losses = []
    for _ in range(8):
        before = trainer.window().squared_error
        trainer.train_step(raw)
        loss = (trainer.window().squared_error - before) / raw.size
        losses.append(abs(loss / dense_step(dense, optimizer, x)["mse"] - 1))
    print(f"loss over 8 Adam steps: largest relative difference {max(losses):.1e}")
    assert result.n_active == len(raw) * K


def _peak_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def memory(kind: str, batch: int) -> None:
    """Print how much one kind of step adds to the process's peak memory."""
    raw = KnownDictionary(N_CHANNELS).positions(batch, "step")[0]
    x = torch.from_numpy(raw)
    trainer = ours(x, "published", 1e-5)
    dense, optimizer = reference(trainer, 1e-5)
    trainer.train_step(raw[:64])  # compiles
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _peak_kib()
    for _ in range(2):
        if kind == "dense":
            dense_step(dense, optimizer, x)
        else:
            trainer.train_step(raw)
    added = _peak_kib() - before
    print(f"{kind} step at {batch} positions: {added / 2**20:.3f} GiB more at the peak", flush=True)


def main() -> None:
    """Print parity, microseconds a position, ratios and memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--memory", choices=["dense", "sparse"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory:
        memory(options.memory, options.batch)
        return
    raw = KnownDictionary(N_CHANNELS).positions(options.batch, "step")[0]
    x = torch.from_numpy(raw)
    parity(x, raw)
    trainers = {name: ours(x, name, 1e-5) for name in ("published", "default")}
    dense, optimizer = reference(trainers["published"], 1e-5)
    spent: dict[str, list[float]] = {name: [] for name in ("dense", *trainers)}
    for round_ in range(options.rounds + 1):
        for name in spent:
            began = time.process_time()
            for _ in range(options.steps):
                if name == "dense":
                    dense_step(dense, optimizer, x)
                else:
                    trainers[name].train_step(raw)
            if round_:  # the first round compiles and allocates
                spent[name].append(time.process_time() - began)
    per_position = {
        name: np.array(times) / options.steps / options.batch * 1e6 for name, times in spent.items()
    }
    for name, times in per_position.items():
        ratio = per_position["dense"] / times
        print(
            f"{name:>10}: {np.median(times):6.1f} µs of CPU a position; dense / this "
            f"{np.median(ratio):.1f} ({ratio.min():.1f} to {ratio.max():.1f} over rounds)"
        )
    for kind in ("dense", "sparse"):
        # a process of its own, as a peak never falls
        subprocess.run([sys.executable, __file__, "--memory", kind, "--batch", "8192"], check=True)


if __name__ == "__main__":
    main()
