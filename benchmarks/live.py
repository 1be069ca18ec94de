"""Live activations against shards: positions per CPU second, measured alternately in one run.

    python benchmarks/live.py --case <hg38_chr1> [--borzoi <folder>]

With `--borzoi` also the four layers of a Borzoi folder, on random sequence.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

from saeborzoi.activations.live import LiveSource, Places
from saeborzoi.activations.loader import SlabPlan
from saeborzoi.activations.shards import ShardFolder, kept_pieces
from saeborzoi.genome.coordinates import Genome, read_windows
from saeborzoi.models.layer import LayerRunner
from saeborzoi.models.loaders import load_model
from saeborzoi.models.measure import layer_geometry
from saeborzoi.settings.sections import Layer, ShardSet

ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", type=Path, required=True)
    parser.add_argument("--borzoi", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    explainn(options.case)
    if options.borzoi:
        borzoi(options.borzoi)


def explainn(case: Path) -> None:
    """One pass in order over the validation windows, 37,440 positions, from either source."""
    model = load_model(
        f"{case}/model/explainn.py:load",
        weights=case / "model" / "explainn_max_foxa1_jund.pth",
        input_bp=200,
        device="cpu",
    )
    folder = case / "activations" / "val"
    shard_set = ShardSet(shards=folder, windows=folder / "sequences.bed")
    layer = Layer(
        name="explainn", n_channels=100, bp_per_position=7, seqlet_width_bp=26, train=shard_set
    )
    shards = ShardFolder.open(folder)
    with Genome(case / "genome" / "chr1_hg38_10M.fa.gz") as genome:
        places = Places(read_windows(folder / "sequences.bed"), 7, 0)
        live = LiveSource(model, layer_geometry(model, "stem"), genome, places)
        plans = {
            "shards": SlabPlan(shards, kept_pieces(shards, layer, shard_set)),
            "live": SlabPlan(live, live.scan.pieces),
        }
        rates: dict[str, list[float]] = {name: [] for name in plans}
        for _ in range(ROUNDS):
            for name, plan in plans.items():
                rates[name].append(plan.n_positions / cpu_s(lambda plan=plan: read(plan)))
    for name, rate in rates.items():
        print(f"hg38_chr1, {name}: {max(rate):,.0f} positions per CPU second")
    print(f"live / shards: {max(rates['live']) / max(rates['shards']):.2f}")


def borzoi(folder: Path) -> None:
    """One tile of 2,048 positions of each layer."""
    model = load_model(f"borzoi-pytorch:{folder}", device="cpu")
    for name in model.layers:
        runner = LayerRunner(model, layer_geometry(model, name))
        codes = torch.randint(4, (runner.tiling.input_bp,))
        x = torch.nn.functional.one_hot(codes, 4).T.float()
        runner.tile(x)
        best = min(cpu_s(lambda: runner.tile(x)) for _ in range(ROUNDS))  # noqa: B023
        n = runner.tiling.n_positions
        print(f"Borzoi {name}: {n / best:,.0f} positions per CPU second")


def read(plan: SlabPlan) -> None:
    for _ in plan.in_order():
        pass


def cpu_s(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
