"""Seqlets: the sequence around each node's strongest positions, and which nodes are worth a
motif. Where a position lies in the genome is decided in `saeborzoi.genome`."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from saeborzoi.genome.coordinates import Genome, Windows, position_intervals, require_inside
from saeborzoi.genome.fasta import reverse_complement
from saeborzoi.nodes import bands

_IS_BASE = np.isin(np.arange(256), np.frombuffer(b"ACGT", np.uint8))


class Seqlets(NamedTuple):
    """Result of `make_seqlets`.

    Attributes
    ----------
    seqlets
        One row a seqlet, sorted by node and rank: node (int32), rank (int32), chrom (str),
        start_bp, end_bp (int64), activation (float32), sequence (str, of the strand), strand (str,
        + or -, on which the model read the window).
    selection
        One row a node asked for: node (int32), selected (bool), reason (str, None where
        selected), n_seqlets, n_strong, n_dropped (int32).
    """

    seqlets: pd.DataFrame
    selection: pd.DataFrame


def make_seqlets(
    top_activations: pd.DataFrame,
    n_nonzero: pd.Series,
    windows: Windows,
    genome: Genome,
    *,
    width_bp: int,
    bp_per_position: int,
    pad_bp: int,
    n_top: int = 1000,
    min_nonzero: int = 1000,
    min_strong: int = 200,
    strong_fraction: float = 0.5,
    strong_statistic: Literal["mean", "max"] = "mean",
) -> Seqlets:
    """Cut the seqlets of some nodes, and judge each node.

    A node is selected where it fires at `min_nonzero` positions of the data and `min_strong` of
    its top positions are above `strong_fraction` x the mean (or maximum) of them; the seqlets of
    a node that fires but is not selected are made all the same.

    Parameters
    ----------
    top_activations
        node, rank, window, position, activation: the strongest positions of each node, each
        locus once; rows of other nodes are passed over.
    n_nonzero
        Positions of all the data where a node fires; the index says which nodes to make.
    windows
        The windows that `window` counts.
    genome
        The reference.
    width_bp
        Width of every seqlet.
    bp_per_position, pad_bp
        Geometry of the layer: base pairs that a position covers, and that the model saw on
        either side of each window.
    n_top
        Strongest positions of a node that are looked at.
    min_nonzero, min_strong, strong_fraction, strong_statistic
        When a node is selected, as above.

    Returns
    -------
    Seqlets
        A top position gives no seqlet, and is counted as dropped, where the interval reaches
        beyond the chromosome or holds a letter other than A, C, G, T.

    Raises
    ------
    InputError
        Where a window does not lie inside the genome, as in a FASTA that was cut short.
    """
    require_inside(
        windows.path,
        windows.chrom,
        windows.start_bp,
        windows.end_bp,
        windows.line,
        genome.chrom_sizes,
    )
    nodes = pd.Index(n_nonzero.index, name="node")
    top = top_activations[top_activations["node"].isin(nodes) & (top_activations["activation"] > 0)]
    top = top.sort_values(["node", "rank"], kind="stable")
    top = top[top["rank"] < n_top]
    usable, chrom, start_bp, end_bp, letters = _cut(
        top, windows, genome, width_bp, bp_per_position, pad_bp
    )
    kept = top.iloc[usable]
    is_reverse = windows.reverse(kept["window"])
    letters[is_reverse] = reverse_complement(letters[is_reverse])
    seqlets = pd.DataFrame(
        {
            "node": kept["node"].to_numpy(np.int32),
            "rank": kept["rank"].to_numpy(np.int32),
            "chrom": pd.array(chrom, dtype="str"),
            "start_bp": start_bp,
            "end_bp": end_bp,
            "activation": kept["activation"].to_numpy(np.float32),
            "sequence": pd.array(letters.view(f"S{width_bp}")[:, 0].astype(str), dtype="str"),
            "strand": pd.array(np.where(is_reverse, "-", "+"), dtype="str"),
        }
    )
    statistic = top.groupby("node")["activation"].agg(strong_statistic)
    strong = top["activation"] > strong_fraction * top["node"].map(statistic)
    rule = f"{strong_fraction:g} x {strong_statistic}"
    selection = _judge(top, kept, strong, n_nonzero, min_nonzero, min_strong, rule)
    return Seqlets(seqlets, selection)


def shown_seqlets(
    top: pd.DataFrame,
    activation_max: NDArray[np.float64],
    windows: Windows,
    genome: Genome,
    width_bp: int,
    bp_per_position: int,
    pad_bp: int,
) -> NDArray[np.bool_]:
    """Which strongest positions give a seqlet that the pages show, (n,) bool (`bands.shown`).

    Parameters
    ----------
    top
        node, rank, window, position, activation, sorted by node and rank.
    activation_max
        (n_nodes,) strongest activation of each node.
    windows, genome, width_bp, bp_per_position, pad_bp
        As in `make_seqlets`.
    """
    usable, *_ = _cut(top, windows, genome, width_bp, bp_per_position, pad_bp)
    usable = usable[top["activation"].to_numpy()[usable] > 0]
    node = top["node"].to_numpy(np.int64)[usable]
    activation = top["activation"].to_numpy(float)[usable]
    is_shown = np.zeros(len(top), bool)
    is_shown[usable[bands.shown(node, bands.bands_of(activation, activation_max[node]))]] = True
    return is_shown


class _Cut(NamedTuple):
    """Positions around which there is a sequence: rows, and their intervals and letters."""

    usable: NDArray[np.int64]
    chrom: NDArray[np.object_]
    start_bp: NDArray[np.int64]
    end_bp: NDArray[np.int64]
    letters: NDArray[np.uint8]


def _cut(
    top: pd.DataFrame,
    windows: Windows,
    genome: Genome,
    width_bp: int,
    bp_per_position: int,
    pad_bp: int,
) -> _Cut:
    chrom, start_bp, end_bp = position_intervals(
        windows,
        top["window"].to_numpy(),
        top["position"].to_numpy(),
        width_bp,
        bp_per_position,
        pad_bp,
    )
    usable = np.flatnonzero(genome.inside(chrom, start_bp, end_bp))
    letters = genome.fetch_bytes(chrom[usable], start_bp[usable], width_bp)
    is_sequence = _IS_BASE[letters].all(axis=1)
    usable, letters = usable[is_sequence], letters[is_sequence]
    return _Cut(usable, chrom[usable], start_bp[usable], end_bp[usable], letters)


def _judge(
    top: pd.DataFrame,
    kept: pd.DataFrame,
    strong: pd.Series,
    n_nonzero: pd.Series,
    min_nonzero: int,
    min_strong: int,
    rule: str,
) -> pd.DataFrame:
    """Table `selection` of `Seqlets`; `strong` says which rows of `top` are, by what `rule`."""
    nodes = n_nonzero.index
    n_top = top.groupby("node").size().reindex(nodes, fill_value=0)
    n_strong = strong.groupby(top["node"]).sum().reindex(nodes, fill_value=0)
    n_seqlets = kept.groupby("node").size().reindex(nodes, fill_value=0)
    reasons: list[str | None] = []
    for firing, strong_here, cut in zip(n_nonzero, n_strong, n_seqlets, strict=True):
        if firing == 0:
            reason = "dead: never fires"
        elif firing < min_nonzero:
            reason = f"fires at {firing:,} positions, needed {min_nonzero:,}"
        elif strong_here < min_strong:
            reason = f"{strong_here:,} top positions above {rule}, needed {min_strong:,}"
        elif cut == 0:
            reason = "no seqlet: every top position is at a chromosome end or not A, C, G, T"
        else:
            reason = None
        reasons.append(reason)
    return pd.DataFrame(
        {
            "node": nodes.to_numpy(np.int32),
            "selected": [reason is None for reason in reasons],
            "reason": pd.Series(reasons, dtype=object),
            "n_seqlets": n_seqlets.to_numpy(np.int32),
            "n_strong": n_strong.to_numpy(np.int32),
            "n_dropped": (n_top - n_seqlets).to_numpy(np.int32),
        }
    )
