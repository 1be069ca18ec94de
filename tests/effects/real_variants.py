"""SNPs that break a word in the hg38 case's windows, as its README chooses them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saeborzoi.effects.attribution import Change, NodeShares
from saeborzoi.effects.track_scores import TrackScore
from saeborzoi.genome.coordinates import Genome, read_windows
from saeborzoi.models.layer import one_hot
from saeborzoi.models.splice import Splice
from saeborzoi.sae.model import SparseAutoencoder

INPUT_BP = 200
_TRANSITION = np.arange(256, dtype=np.uint8)
_TRANSITION[np.frombuffer(b"ACGT", np.uint8)] = np.frombuffer(b"GTAC", np.uint8)

WORDS = {"JUND": ("TGA[CG]TCA",), "FOXA1": ("TGTTTAC", "GTAAACA"), "MAX": ("CACGTG",)}
"""Track to the words of its factor, whose middle letter is changed."""


def sequences(case: Path) -> np.ndarray:
    """(n, 200) letters of every window of 200 bp without N, at steps of 100 bp."""
    cuts = []
    with Genome(case / "genome" / "chr1_hg38_10M.fa.gz") as genome:
        for name in ("train", "val"):
            windows = read_windows(case / "activations" / name / "sequences.bed")
            n_bp = int(windows.end_bp[0] - windows.start_bp[0])
            whole = genome.fetch_bytes(windows.chrom, windows.start_bp, n_bp)
            steps = np.arange(0, n_bp - INPUT_BP + 1, 100)
            cut = np.lib.stride_tricks.sliding_window_view(whole, INPUT_BP, axis=1)[:, steps]
            cuts.append(cut.reshape(-1, INPUT_BP))
    letters = np.concatenate(cuts)
    return letters[np.isin(letters, np.frombuffer(b"ACGT", np.uint8)).all(1)]


def broken(letters: np.ndarray, track: str, n: int) -> tuple[Tensor, Tensor]:
    """(n, 4, 200) of sequences that hold a word of a track, and with its middle letter changed."""
    pattern = re.compile("|".join(WORDS[track]).encode())
    rows, places = [], []
    for i, row in enumerate(letters):
        for match in pattern.finditer(row.tobytes()):
            middle = (match.start() + match.end() - 1) // 2
            # each locus once: in the window that has it nearer to its middle
            if INPUT_BP // 4 <= middle < 3 * INPUT_BP // 4:
                rows.append(i)
                places.append(middle)
                break
    chosen = np.random.default_rng(0).permutation(len(rows))[:n]
    ref = letters[np.array(rows)[chosen]]
    alt = ref.copy()
    at = np.array(places)[chosen]
    alt[np.arange(len(chosen)), at] = _TRANSITION[alt[np.arange(len(chosen)), at]]
    return one_hot(ref), one_hot(alt)


def carrying(splice_layer: Tensor, sae: torch.nn.Module, node: int) -> Tensor:
    """Activation of a node over all positions of layers."""
    active = sae.encode(splice_layer)  # type: ignore[operator]
    return torch.where(active.node == node, active.value, 0).sum(-1)


def restored(
    splice: Splice,
    score: TrackScore,
    sae: SparseAutoencoder,
    one_hot_ref: Tensor,
    layer: Tensor,
    change: Change,
    shares: NodeShares,
    chosen: list[int],
    track: NDArray[np.int64],
) -> NDArray[np.float64]:
    """How far some nodes' parts of the layer, put back to what they are for the reference, move
    each pair's track back, by a forward pass each.

    Parameters
    ----------
    one_hot_ref, layer, change
        Of the pairs, as `integrate` takes them.
    chosen
        Entries of `shares`.
    track
        Number of the track of each pair.
    """
    pair, node = torch.tensor(shares.pair[chosen]), torch.tensor(shares.node[chosen])
    index = change.positions[pair][:, :, None].expand(-1, -1, sae.n_channels)
    alt = layer[pair].scatter(1, index, change.alt[pair])

    def strength(x: Tensor) -> Tensor:
        normalized, active = sae.normalize(x), sae.encode(x)
        value = torch.where(active.node == node[:, None, None], active.value, 0).sum(-1)
        return value * normalized.std[..., 0]

    with torch.no_grad():
        back = strength(change.ref[pair]) - strength(change.alt[pair])
        direction = sae.decoder_weight[node] * sae.channel_max
        given_back = alt.scatter_add(1, index, back[:, :, None] * direction[:, None])
        before, after = (
            score(splice.predict(one_hot_ref[pair], lambda _, x=x: x))  # type: ignore[misc]
            for x in (alt, given_back)
        )
    moved = (before - after)[torch.arange(len(chosen)), torch.tensor(track)[pair]]
    return moved.numpy()


def strongest_entries(shares: NodeShares, n_each: int) -> list[int]:
    """Entries of the strongest nodes of each pair."""
    order = np.lexsort((-np.abs(shares.attribution), shares.pair))
    pair = shares.pair[order]
    rank = np.arange(len(pair)) - np.searchsorted(pair, pair)
    return order[rank < n_each].tolist()
