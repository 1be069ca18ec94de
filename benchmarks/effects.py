"""CPU seconds and memory of the model with an SAE in it: Borzoi's architecture, random weights.

    python benchmarks/effects.py [--borzoi <folder>] [--input-bp 524288] [--layer conv1d_1]

Without a folder one with random weights is made, which cost what trained ones do. One core; each
figure is of one window, in a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import torch

from saeborzoi.effects.fidelity import fidelity
from saeborzoi.effects.levels import level
from saeborzoi.effects.loci import find_loci
from saeborzoi.effects.statistics import loss_of
from saeborzoi.models.loaders import load_model
from saeborzoi.models.measure import layer_geometry
from saeborzoi.models.model import SequenceModel
from saeborzoi.models.splice import Splice
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sae.split import reconstruction

N_WINDOWS, SHORTER = 20, 4
BIN_BP, CROPPED = 32, 163_840
"""Bins, and base pairs on either side of a whole window that have none."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--borzoi", type=Path)
    parser.add_argument("--input-bp", type=int, default=524_288)
    parser.add_argument("--layer", default="conv1d_1")
    options = parser.parse_args()
    seconds = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.borzoi or random_weights(Path(temporary) / "whole", options.input_bp)
        for what in ("prediction", "with the SAE spliced in", "fidelity"):
            seconds[what] = show(what, folder, options.input_bp, options.layer)
    with tempfile.TemporaryDirectory() as temporary:
        # a whole window's graph wants more memory than a small machine has
        short_bp = options.input_bp // SHORTER
        short = random_weights(Path(temporary) / "short", short_bp)
        for what in ("prediction", "gradients"):
            seconds[f"short {what}"] = show(what, short, short_bp, options.layer)
    print(
        f"fidelity of {N_WINDOWS} windows: {N_WINDOWS * seconds['fidelity'] / 60:.0f} CPU min, and "
        "the peak of one: they follow each other"
    )
    ratio = seconds["short gradients"] / seconds["short prediction"]
    print(f"loci of a window: {ratio:.1f} predictions")
    print(f"one node at one locus: {9 * seconds['prediction'] / 60:.1f} CPU min (9 predictions)")


def show(what: str, folder: Path, input_bp: int, layer: str) -> float:
    """CPU seconds, after a line about them."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        seconds, peak = pool.apply(measured, (what, folder, input_bp, layer))
    print(f"{what}, {input_bp:,} bp: {seconds:.1f} CPU s, {peak:.1f} GB at the peak", flush=True)
    return seconds


def random_weights(folder: Path, input_bp: int) -> Path:
    """The published configuration, with as many bins as the input has room for."""
    from borzoi_pytorch import Borzoi
    from borzoi_pytorch.config_borzoi import BorzoiConfig

    n_bins = (input_bp - 2 * min(CROPPED, input_bp // 4)) // BIN_BP
    torch.manual_seed(0)
    model = Borzoi(BorzoiConfig(bins_to_return=n_bins, enable_mouse_head=True))
    model.save_pretrained(folder)
    return folder


def measured(what: str, folder: Path, input_bp: int, layer: str) -> tuple[float, float]:
    """CPU seconds and peak of memory in GB."""
    torch.set_num_threads(1)
    model = load_model(f"borzoi-pytorch:{folder}", arguments={"input_bp": input_bp}, device="cpu")
    geometry = layer_geometry(model, layer)
    sae = SparseAutoencoder(geometry.n_channels, 2 * geometry.n_channels, 30)
    torch.nn.init.normal_(sae.encoder_weight)
    sae.decoder_weight.data.copy_(sae.encoder_weight / geometry.n_channels**0.5)
    sae.requires_grad_(False)
    codes = torch.randint(4, (1, input_bp), generator=torch.Generator().manual_seed(0))
    one_hot = torch.nn.functional.one_hot(codes, 4).float().transpose(1, 2)
    start = time.process_time()
    run(what, model, Splice(model, geometry), sae, one_hot)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return time.process_time() - start, peak


def run(
    what: str,
    model: SequenceModel,
    splice: Splice,
    sae: SparseAutoencoder,
    one_hot: torch.Tensor,
) -> None:
    """One window; predictions are reduced to a level a track."""
    assert model.outputs is not None
    loss = loss_of(model.outputs.scale)
    if what == "gradients":
        find_loci(model, splice.geometry, sae, _One(one_hot), [0, 1], 1)  # type: ignore[arg-type]
        return
    if what == "fidelity":
        fidelity(model, splice.geometry, sae, _One(one_hot))  # type: ignore[arg-type]
        return
    with torch.no_grad():
        if what == "prediction":
            level(model.predict(one_hot), loss)
        else:
            level(splice.predict(one_hot, lambda x: reconstruction(sae, x)), loss)


class _One(list[torch.Tensor]):
    """One sequence, as `find_loci` and `fidelity` go through them."""

    def __init__(self, one_hot: torch.Tensor) -> None:
        from saeborzoi.effects.inputs import Batch

        super().__init__([Batch(one_hot)])  # type: ignore[list-item]


if __name__ == "__main__":
    main()
