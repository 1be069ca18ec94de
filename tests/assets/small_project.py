"""A project small enough for a test: two planted motifs, four channels, 12 nodes."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd

BP_PER_POSITION = 4
PAD_BP = 40
MOTIFS = {"TGACTCATGTCA": 0, "CCACGTGGAACC": 1}
KEY = "conv_x3_k0.25_lr0.003_s0"
N_NODES = 12
_SETTINGS = """
[project]
name = "small"
[data]
genome = "genome.fa"
[[data.annotation]]
name = "marks"
path = "marks.bed"
[[data.motif_database]]
name = "known"
source = "known.meme"
[[layer]]
name = "conv"
n_channels = 4
bp_per_position = 4
pad_bp = 40
seqlet_width_bp = 16
train = { shards = "train", windows = "train_seqs.bed" }
validation = { shards = "train", windows = "train_seqs.bed" }
[[sae]]
layer = "conv"
expansion = 3
topk = 0.25
[training]
n_epochs = 6
batch_size = 512
[selection]
n_top = 100
min_nonzero = 60
min_strong = 20
[motifs]
n_motifs = 1
[checks]
max_dead_fraction = 0.9
"""


def make_small_project(folder: Path) -> Path:
    """Write the project; returns its settings file.

    Channels 0 and 1 see a motif each, 2 and 3 the composition; windows of 2,000 bp overlap by
    400 bp, the last shard is shorter.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    size = 60_000
    codes = rng.integers(0, 4, size)
    starts = np.sort(rng.choice(np.arange(100, size - 100, 40), 500, replace=False))
    which = rng.integers(0, len(MOTIFS), len(starts))
    for start, motif in zip(starts, which, strict=True):
        word = list(MOTIFS)[motif]
        codes[start : start + len(word)] = ["ACGT".index(base) for base in word]
    sequence = "".join("ACGT"[code] for code in codes)
    (folder / "genome.fa").write_text(f">chr1\n{sequence}\n")
    hits = np.zeros((size // BP_PER_POSITION, 4), np.float32)
    centre = (starts + 6) // BP_PER_POSITION
    hits[centre, which] = rng.uniform(2, 4, len(starts))
    gc = (np.isin(codes, [1, 2]).reshape(-1, BP_PER_POSITION)).mean(1)
    hits[:, 2], hits[:, 3] = gc, 1 - gc
    hits += rng.normal(0, 0.05, hits.shape)
    windows = [(start, start + 2000) for start in range(0, size - 2000, 1600)]
    padded = np.pad(hits, ((PAD_BP // BP_PER_POSITION,) * 2, (0, 0)))
    n_positions = (2000 + 2 * PAD_BP) // BP_PER_POSITION
    rows = [padded[s // BP_PER_POSITION :][:n_positions] for s, _ in windows]
    (folder / "train").mkdir()
    for shard in range(0, len(rows), 15):
        with h5py.File(folder / "train" / f"activations_{shard // 15}.h5", "w") as file:
            file["x"] = np.stack(rows[shard : shard + 15]).astype(np.float16)
    table = pd.DataFrame([("chr1", *window) for window in windows])
    table["chunk_ind"], table["inner_ind"] = np.divmod(np.arange(len(windows)), 15)
    table.to_csv(folder / "train_seqs.bed", sep="\t")
    marked = starts[which == 0]
    (folder / "marks.bed").write_text(
        "".join(f"chr1\t{start}\t{start + 12}\t.\t.\tmark\n" for start in marked)
    )
    (folder / "known.meme").write_text(_meme())
    settings = folder / "dagster_project.toml"
    settings.write_text(_SETTINGS)
    return settings


def _meme() -> str:
    lines = ["MEME version 4", "", "ALPHABET= ACGT", "", "strands: + -", ""]
    others = ["GATTACAGATTA", "AAACCCGGGTTT", "TTGCGCAATAGC", "CAGGTATCCATG"]
    for number, word in enumerate([*MOTIFS, *others]):
        lines += [f"MOTIF K{number} known{number}", ""]
        lines += [f"letter-probability matrix: alength= 4 w= {len(word)} nsites= 100 E= 0"]
        for letter in word:
            lines.append(" ".join("0.91" if base == letter else "0.03" for base in "ACGT"))
        lines.append("")
    return "\n".join(lines)
