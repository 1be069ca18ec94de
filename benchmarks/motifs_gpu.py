"""Motif discovery on a GPU against all cores: nodes a second on the same made seqlets, in turn, and
whether both give the same table.

    python benchmarks/motifs_gpu.py [--nodes 256] [--seqlets 1000] [--widths 14 18 26 34]
                                    [--strands given] [--repeats 3]

Needs a GPU that PyTorch can use, and says so where there is none.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import numpy as np
import pandas as pd
import torch

from saeborzoi.motifs.discovery import discover
from saeborzoi.settings.sections import Motifs

WHOLE = (2432, 4224)
"""Nodes of the narrowest and of the widest published SAE."""
SHARE = 0.6
"""Seqlets of a node that hold its motif."""
EXACT = 0.9
"""Of its letters, how many are as in the motif."""


def made_seqlets(n_nodes: int, n_seqlets: int, width: int) -> pd.DataFrame:
    """Random seqlets, each node's with a motif of its own of 8 to 12 bp."""
    rng = np.random.default_rng(width)
    letters = np.array(list("ACGT"))
    frames = []
    for node in range(n_nodes):
        codes = rng.integers(0, 4, (n_seqlets, width))
        motif = rng.integers(0, 4, rng.integers(8, 13))
        for row in np.flatnonzero(rng.random(n_seqlets) < SHARE):
            start = rng.integers(width - len(motif) + 1)
            as_motif = rng.random(len(motif)) < EXACT
            codes[row, start : start + len(motif)][as_motif] = motif[as_motif]
        frames.append(
            pd.DataFrame(
                {
                    "node": node,
                    "rank": np.arange(n_seqlets),
                    "activation": np.linspace(2, 1, n_seqlets),
                    "sequence": ["".join(row) for row in letters[codes]],
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=256)
    parser.add_argument("--seqlets", type=int, default=1000)
    parser.add_argument("--widths", type=int, nargs="+", default=[14, 18, 26, 34])
    parser.add_argument("--strands", choices=["given", "both"], default="given")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("No GPU that PyTorch can use is here; nothing was measured.")
        return
    cores = len(os.sched_getaffinity(0))
    on = {
        device: Motifs(device=device, strands=options.strands)  # type: ignore[arg-type]
        for device in ("cpu", "cuda")
    }
    few = made_seqlets(2, 100, 20)
    for settings in on.values():  # compile, start the GPU
        discover(few, settings, "benchmark", threads=cores)
    torch.cuda.reset_peak_memory_stats()
    print(
        f"{torch.cuda.get_device_name()} against {cores} cores; {options.nodes} nodes, "
        f"{options.seqlets} seqlets each, strands {options.strands}; wall seconds, median of "
        f"{options.repeats} in turn\n\n"
        "| width | nodes/s, cores | nodes/s, GPU | ratio | same table | "
        + " | ".join(f"{n:,} nodes, GPU" for n in WHOLE)
        + " |\n|---|---|---|---|---|"
        + "---|" * len(WHOLE)
    )
    for width in options.widths:
        seqlets = made_seqlets(options.nodes, options.seqlets, width)
        seconds: dict[str, list[float]] = {device: [] for device in on}
        tables = {}
        for _ in range(options.repeats):
            for device, settings in on.items():
                began = time.perf_counter()
                tables[device] = discover(seqlets, settings, "benchmark", threads=cores)
                seconds[device].append(time.perf_counter() - began)
        cpu, gpu = (options.nodes / statistics.median(seconds[device]) for device in on)
        same = "yes" if tables["cpu"].equals(tables["cuda"]) else "NO"
        whole = " | ".join(f"{n / gpu / 60:.1f} min" for n in WHOLE)
        print(f"| {width} | {cpu:.1f} | {gpu:.1f} | {gpu / cpu:.2f} | {same} | {whole} |")
    print(f"\nLargest memory of the GPU: {torch.cuda.max_memory_allocated() / 2**20:.0f} MB")


if __name__ == "__main__":
    main()
