"""Positions per CPU second of the scan for top activations, against the published loop.

    python benchmarks/sae_inference.py --work FOLDER [--rounds 3]

The published loop is restated from its steps: each quarter of a sequence is read, encoded
densely, cut to k nodes, decoded, and its 16 strongest positions of every node are appended to
lists with their coordinates. Ours finds the exact N = 1000 of every node, all statistics and
co-activation counts. Both read the same float16 shards, 608 channels, page cache warm, sequences
of 65,536 positions (conv1d_3).
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import h5py
import numpy as np
import torch
from sae_dense_step import PublishedSae
from sae_quality import plans_of

from saeborzoi.activations.loader import SlabPlan
from saeborzoi.activations.normalization import channel_max
from saeborzoi.demo.known_dictionary import KnownDictionary
from saeborzoi.nodes.top_activations import top_activations
from saeborzoi.sae.model import SparseAutoencoder
from saeborzoi.sae.recipe import RECIPES, initialize
from saeborzoi.settings.hyperparameters import Hyperparameters

N_SEQUENCES, N_POSITIONS, N_QUARTERS, N_TOP_OF_CHUNK = 16, 65_536, 4, 16


@torch.no_grad()
def published(sae: PublishedSae, maxima: torch.Tensor, plan: SlabPlan, n_sequences: int) -> int:
    """The published loop over some sequences."""
    nodes, values, places = [], [], []
    done = 0
    shard = plan.source.shards[0]  # type: ignore[attr-defined]
    for row in range(n_sequences):
        for quarter in range(N_QUARTERS):
            with h5py.File(shard.path, "r") as file:
                data = file[shard.dataset]
                length = data.shape[1]
                first, last = (length * q // N_QUARTERS for q in (quarter, quarter + 1))
                x = torch.tensor(data[row][first:last], dtype=torch.float32) / maxima
            z = sae.infer(x)
            top = torch.topk(z, N_TOP_OF_CHUNK, dim=0)
            starts = (row * length + first + top.indices.T).flatten().numpy()
            nodes.extend(torch.arange(z.shape[1]).repeat_interleave(N_TOP_OF_CHUNK).numpy())
            values.extend(top.values.T.flatten().numpy())
            places.extend(zip(["chr1"] * len(starts), starts, starts + 1, strict=True))
            done += last - first
    return done


def main() -> None:
    """Print positions per CPU second and their ratio, round by round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = KnownDictionary()
    folder = options.work / "inference_long"
    if not (folder / "train_seqs.bed").exists():
        known.write(folder, N_SEQUENCES, N_POSITIONS, "inference")
    shard_set = known.shard_set(folder)
    plan = plans_of(known.layer(shard_set), [shard_set])[0]
    maxima = torch.from_numpy(channel_max(plan.source).used)
    sae = SparseAutoencoder(known.n_channels, 4 * known.n_channels, 30)
    sae.channel_max.copy_(maxima)
    sample = torch.from_numpy(known.positions(4096, "sample")[0])
    initialize(sae, RECIPES["default"], Hyperparameters(layer="known"), sample)
    dense = PublishedSae(sae.n_channels, sae.n_nodes, sae.k)
    with torch.no_grad():
        dense.encoder.weight.copy_(sae.encoder_weight)
        dense.decoder.weight.copy_(sae.decoder_weight.T)
    ratios = []
    for round_ in range(options.rounds + 1):
        began = time.process_time()
        found = top_activations(sae, plan, 1000, 0.5)
        ours = plan.n_positions / (time.process_time() - began)
        began = time.process_time()
        reference = published(dense, maxima, plan, 1) / (time.process_time() - began)
        if round_:  # the first compiles
            ratios.append(ours / reference)
            print(
                f"ours {ours:,.0f} positions per CPU s ({found.n_passes} pass), published "
                f"{reference:,.0f}: {ratios[-1]:.1f}x"
            )
    print(f"median {np.median(ratios):.1f}x")


if __name__ == "__main__":
    main()
