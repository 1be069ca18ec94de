"""A small genome with windows, and a live source on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from saeborzoi.activations.live import LiveSource, Places
from saeborzoi.genome.coordinates import Genome, read_windows
from saeborzoi.models.measure import layer_geometry
from tests.models.nets import model_of

N_BP, FIRST_N, LAST_N = 6_000, 2_600, 2_637
BP, WINDOW_BP = 2, 1_000
WINDOWS = [("chr1", 0, "+"), ("chr1", 1_001, "-"), ("chr1", 2_300, "+"), ("chr1", 2_301, "-"),
           ("chr1", 5_000, "+")]  # fmt: skip
"""At both of the chromosome's ends, at odd places, on both strands, around a run of N."""


def write_bed(path: Path, windows: list[tuple[str, int, str]]) -> None:
    path.write_text(
        "".join(f"{c}\t{start}\t{start + WINDOW_BP}\tw\t0\t{s}\n" for c, start, s in windows)
    )


def source_of(
    folder: Path, net: str = "padded", module: str = "conv", pad_bp: int = 0, **options: Any
) -> LiveSource:
    model = model_of(net)
    places = Places(read_windows(folder / "windows.bed"), BP, pad_bp)
    return LiveSource(
        model, layer_geometry(model, module), Genome(folder / "genome.fa"), places, **options
    )


def make_genome(folder: Path) -> Path:
    """A genome with a run of N, and windows on it."""
    letters = np.random.default_rng(1).choice(list("ACGTacgt"), N_BP)
    letters[FIRST_N:LAST_N] = "N"
    (folder / "genome.fa").write_text(f">chr1\n{''.join(letters)}\n>chr2\nACGT\n")
    write_bed(folder / "windows.bed", WINDOWS)
    return folder
