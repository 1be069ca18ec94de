"""What each part of the default recipe adds: one change at a time, three seeds.

    python benchmarks/sae_ablation.py --work FOLDER [--case FOLDER] [--full] [--only-case]

On a known dictionary, and where --case names the hg38 case, on its real activations: 400,000
positions and 128 channels (256 features, 8 active of k = 12), or with --full 3M positions and the
608 channels of `sae_quality.py`. Prints the Markdown tables of `sae.md`.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from sae_jumprelu import JumpReluLoop
from sae_quality import data_of, plans_of

from saeborzoi.activations.normalization import channel_max
from saeborzoi.activations.shards import ShardFolder
from saeborzoi.demo.known_dictionary import KnownDictionary
from saeborzoi.sae.evaluation import evaluate
from saeborzoi.sae.recipe import RECIPES, TrainingRecipe
from saeborzoi.sae.schedule import Schedule
from saeborzoi.sae.training import TrainingData, TrainingLoop, in_batches
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi.settings.sections import Layer, ShardSet

SMALL = KnownDictionary(n_channels=128, n_features=256, n_active=8)
DEFAULT, PUBLISHED = RECIPES["default"], RECIPES["published"]


def changed(**changes: object) -> TrainingRecipe:
    """The default recipe but for these."""
    return dataclasses.replace(DEFAULT, **changes)


ROWS: dict[str, tuple[TrainingRecipe, dict[str, object]]] = {
    "default": (DEFAULT, {}),
    "encoder not tied at the start": (changed(tied_init=False), {}),
    "decoder norm free": (changed(unit_norm=False), {}),
    "no centring": (changed(centre="none"), {}),
    "geometric median": (changed(centre="median"), {}),
    "no AuxK": (changed(aux_weight=0.0), {}),
    "Adam eps 1e-8": (changed(eps=1e-8), {}),
    "no warm-up, no decay": (changed(warmup=0.0, decay=0.0), {}),
    "learning rate 1e-2": (DEFAULT, {"learning_rate": 1e-2}),
    "learning rate 1e-3": (DEFAULT, {"learning_rate": 1e-3}),
    "learning rate 3e-4": (DEFAULT, {"learning_rate": 3e-4}),
    "learning rate 1e-5": (DEFAULT, {"learning_rate": 1e-5}),
    "BatchTopK": (DEFAULT, {"variant": "batch_topk"}),
    "BatchTopK, learning rate 1e-2": (
        DEFAULT,
        {"variant": "batch_topk", "learning_rate": 1e-2},
    ),
    "JumpReLU": (DEFAULT, {}),
    "JumpReLU, learning rate 1e-2": (DEFAULT, {"learning_rate": 1e-2}),
    "Matryoshka": (DEFAULT, {"variant": "matryoshka"}),
    "published": (PUBLISHED, {"learning_rate": 1e-5}),
    "published, learning rate 3e-3": (PUBLISHED, {}),
}


def hg38(case: Path) -> TrainingData:
    """The hg38 case's training and validation data."""
    folder = case / "activations"
    sets = [
        ShardSet(shards=folder / name, windows=folder / name / "train_seqs.bed")
        for name in ("train", "val")
    ]
    layer = Layer(name="case", n_channels=100, bp_per_position=7, seqlet_width_bp=26, train=sets[0])
    train, validation = plans_of(layer, sets)
    maxima = channel_max(train.source).used
    return TrainingData(train, validation, maxima, ShardFolder.open(sets[0].shards).fingerprint())


def table(
    data: TrainingData,
    topk: float,
    settings: Schedule,
    seeds: int,
    rows: list[str],
    known: KnownDictionary | None = None,
) -> None:
    """Train every row with every seed and print one Markdown row each, mean ± deviation."""
    columns = [
        "validation FVU",
        "L0",
        "dead nodes",
        *(["MMCS", "recovered"] if known else []),
        "CPU s",
    ]
    print(f"| recipe | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name in rows:
        recipe, changes = ROWS[name]
        figures = []
        for seed in range(seeds):
            h = Hyperparameters.model_validate(
                {"layer": "known", "topk": topk, "learning_rate": 3e-3, "seed": seed, **changes}
            )
            kind = JumpReluLoop if name.startswith("JumpReLU") else TrainingLoop
            loop = kind(data, settings, recipes={"default": recipe})
            began = time.process_time()
            sae = loop.run([h])[0].sae
            cpu = time.process_time() - began
            found = evaluate(sae, loop.validation_batches())
            dead = evaluate(sae, in_batches(data.train, 4096, 300_000)).dead_fraction
            recovery = tuple(known.recovery(sae)) if known else ()
            figures.append((found.fvu, found.l0, dead, *recovery, cpu))
        mean, spread = np.mean(figures, 0), np.std(figures, 0)
        cells = [f"{mean[0]:.4f} ± {spread[0]:.4f}", f"{mean[1]:.2f}"]
        cells.append(f"{mean[2]:.1%} ± {spread[2]:.1%}")
        if known:
            cells += [f"{mean[3]:.3f} ± {spread[3]:.3f}", f"{mean[4]:.1%} ± {spread[4]:.1%}"]
        print(f"| {name} | {' | '.join(cells)} | {mean[-1]:.0f} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--case", type=Path)
    parser.add_argument("--full", action="store_true", help="3M positions, 608 channels")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--only-case", action="store_true", help="no known dictionary")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known, topk = (KnownDictionary(), 0.05) if options.full else (SMALL, 0.094)
    n_positions, batch_size = (3_000_000, 4096) if options.full else (400_000, 1024)
    settings = Schedule(
        n_positions=n_positions, batch_size=batch_size, buffer_mb=256,
        validate_every_positions=10**9,
    )  # fmt: skip
    if not options.only_case:
        print(f"known dictionary, oracle FVU {known.oracle_fvu(2048):.4f}\n")
        data = data_of(options.work, known, n_positions)
        table(data, topk, settings, options.seeds, options.rows, known)
    if options.case:
        print("\nhg38 case\n")
        # of so few positions the product makes smaller batches
        own = dataclasses.replace(settings, batch_size=None) if options.full else settings
        table(hg38(options.case), 0.05, own, options.seeds, options.rows)


if __name__ == "__main__":
    main()
