"""Seqlets: the sequence around each node's strongest positions, and which nodes are worth a
motif. Where a position lies in the genome is `genome.py`'s business."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from saeborzoi.genome.coordinates import Genome, Windows, position_intervals, require_inside
from saeborzoi.settings.sections import Layer, Selection

_IS_BASE = np.isin(np.arange(256), np.frombuffer(b"ACGT", np.uint8))


class Seqlets(NamedTuple):
    """Result of `make_seqlets`.

    Attributes
    ----------
    seqlets
        One row a seqlet, sorted by node and rank: node (int32), rank (int32), chrom (str),
        start_bp, end_bp (int64), activation (float32), sequence (str).
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
    layer: Layer,
    selection: Selection,
) -> Seqlets:
    """Cut the seqlets of some nodes, and judge each node.

    A node is selected where it fires at `min_nonzero` positions of the data and `min_strong` of
    its top positions are above `strong_fraction` x the mean (or maximum) of them; the seqlets of
    a node that fires but is not selected are made all the same.

    Parameters
    ----------
    top_activations
        node, rank, sequence, position, activation: the strongest positions of each node, each
        locus once; rows of other nodes are passed over.
    n_nonzero
        Positions of all the data where a node fires; the index says which nodes to make.
    windows
        The sequences that `sequence` counts.
    genome
        The reference.
    layer
        Geometry and seqlet width.
    selection
        Thresholds.

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
    top = top[top["rank"] < selection.n_top]
    chrom, start_bp, end_bp = position_intervals(
        windows,
        top["sequence"].to_numpy(),
        top["position"].to_numpy(),
        layer.seqlet_width,
        layer.bp_per_position,
        layer.pad_bp,
    )
    usable = np.flatnonzero(genome.inside(chrom, start_bp, end_bp))
    letters = genome.fetch_bytes(chrom[usable], start_bp[usable], layer.seqlet_width)
    is_sequence = _IS_BASE[letters].all(axis=1)
    usable, letters = usable[is_sequence], letters[is_sequence]
    kept = top.iloc[usable]
    seqlets = pd.DataFrame(
        {
            "node": kept["node"].to_numpy(np.int32),
            "rank": kept["rank"].to_numpy(np.int32),
            "chrom": pd.array(chrom[usable], dtype="str"),
            "start_bp": start_bp[usable],
            "end_bp": end_bp[usable],
            "activation": kept["activation"].to_numpy(np.float32),
            "sequence": pd.array(
                letters.view(f"S{layer.seqlet_width}")[:, 0].astype(str), dtype="str"
            ),
        }
    )
    return Seqlets(seqlets, _judge(top, kept, n_nonzero, nodes, selection))


def _judge(
    top: pd.DataFrame,
    kept: pd.DataFrame,
    n_nonzero: pd.Series,
    nodes: pd.Index,
    selection: Selection,
) -> pd.DataFrame:
    statistic = top.groupby("node")["activation"].agg(selection.strong_statistic)
    strong = top["activation"] > selection.strong_fraction * top["node"].map(statistic)
    n_top = top.groupby("node").size().reindex(nodes, fill_value=0)
    n_strong = strong.groupby(top["node"]).sum().reindex(nodes, fill_value=0)
    n_seqlets = kept.groupby("node").size().reindex(nodes, fill_value=0)
    reasons: list[str | None] = []
    for firing, strong_here, cut in zip(n_nonzero, n_strong, n_seqlets, strict=True):
        if firing == 0:
            reason = "dead: never fires"
        elif firing < selection.min_nonzero:
            reason = f"fires at {firing:,} positions, needed {selection.min_nonzero:,}"
        elif strong_here < selection.min_strong:
            reason = (
                f"{strong_here:,} top positions above {selection.strong_fraction:g} x "
                f"{selection.strong_statistic}, needed {selection.min_strong:,}"
            )
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
