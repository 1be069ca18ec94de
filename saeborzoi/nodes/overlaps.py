"""Seqlets against genomic annotation: which nodes prefer which classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from saeborzoi.genome.coordinates import Int64s, Windows, kept_positions, position_intervals
from saeborzoi.genome.enrichment import odds_ratio
from saeborzoi.genome.intervals import Intervals, covered_bp, merge, on_one_axis
from saeborzoi.motifs.evidence import likely_sites
from saeborzoi.motifs.properties import as_matrix
from saeborzoi.motifs.sequences import encode

MAX_CONTROL = 2_000_000
"""Placements of the shuffled control at most; a class that covers 1e-4 of the genome is then
still met 200 times."""


def annotation_overlaps(
    seqlets: pd.DataFrame,
    annotations: Mapping[str, pd.DataFrame],
    windows: Windows,
    *,
    width_bp: int,
    bp_per_position: int,
    pad_bp: int,
    n_shuffles: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """Count the seqlets of each node that overlap each class, against other nodes and chance.

    Chance is what a seqlet meets that is placed anywhere in the scanned genome: on a position
    drawn uniformly from those that count (padding cropped, each locus once), with the seqlets'
    width. Placement does not depend on the node, so all shuffled seqlets serve all nodes.

    Parameters
    ----------
    seqlets
        node, chrom, start_bp, end_bp of the nodes of interest, all of the layer's width.
    annotations
        Name to table with chrom, start_bp, end_bp, annotation_class.
    windows
        The windows that were scanned.
    width_bp
        Width of the seqlets.
    bp_per_position, pad_bp
        Geometry of the layer: base pairs that a position covers, and that the model saw on
        either side of each window.
    n_shuffles
        Shuffled copies of the seqlets, `MAX_CONTROL` placements at most.
    seed
        Seed of the shuffling.

    Returns
    -------
    DataFrame
        One row for each annotation, class and node, those without an overlap too: node (int32),
        annotation, annotation_class (str), n_seqlets, n_overlapping (int32, each seqlet once a
        class), n_expected, z_score, z_shuffled, odds_ratio, odds_ratio_low, odds_ratio_high
        (float64).

        `z_score` is over the nodes of the table (population standard deviation; 0 where all
        nodes agree). `z_shuffled` is binomial under the control's share of overlaps, which gets
        half a count on either side so that it is never 0 or 1; neighbouring seqlets are not
        independent, so read it as an order, not as a p-value. The odds ratio is against the
        control with Haldane's half counts, its 95 % interval Woolf's.
    """
    if seqlets.empty or not annotations:
        return _empty()
    seqlets = seqlets.sort_values(["chrom", "start_bp"])  # neighbours together: quicker
    code, nodes = pd.factorize(seqlets["node"], sort=True)
    n_seqlets = np.bincount(code, minlength=len(nodes))
    n_control = min(n_shuffles * len(seqlets), MAX_CONTROL)
    control = placed_at_random(windows, width_bp, bp_per_position, pad_bp, n_control, seed)
    tables = []
    for name, annotation in annotations.items():
        (sites, placed), group, regions, classes = _by_class(annotation, seqlets, control)
        n_overlapping = _count(code, sites, group, regions, len(nodes), len(classes))
        of_control = np.zeros(len(control), np.int64)
        in_control = _count(
            of_control, placed, group, regions, 1, len(classes), control["n_placed"].to_numpy()
        )
        statistics = _statistics(n_overlapping, n_seqlets[:, None], in_control, n_control)
        tables.append(
            pd.DataFrame(
                {
                    "node": np.tile(np.asarray(nodes, np.int32), len(classes)),
                    "annotation": name,
                    "annotation_class": np.repeat(np.asarray(classes, object), len(nodes)),
                    "n_seqlets": np.tile(n_seqlets, len(classes)).astype(np.int32),
                    "n_overlapping": n_overlapping.T.ravel().astype(np.int32),
                    **{column: values.T.ravel() for column, values in statistics.items()},
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def repeat_classes(
    motifs: pd.DataFrame,
    seqlets: pd.DataFrame,
    annotations: Mapping[str, pd.DataFrame],
    overlaps: pd.DataFrame,
    *,
    both_strands: bool,
) -> pd.DataFrame:
    """The class of annotation that carries the sites of each motif that is a repeat.

    A motif's sites are the seqlets in which it scores highest. Of all classes the one is named in
    which they lie most more often than chance has it, in standard deviations.

    Parameters
    ----------
    motifs
        node, motif, matrix, n_sites of the motifs that are suspect as a repeat.
    seqlets
        node, rank, sequence, chrom, start_bp, end_bp.
    annotations
        As of `annotation_overlaps`.
    overlaps
        What that made: n_expected of n_seqlets is chance.
    both_strands
        Whether a site may lie on either strand.

    Returns
    -------
    DataFrame
        node, motif (int32), annotation, annotation_class (str), n_sites, n_overlapping (int32),
        n_expected (float64): a row for each motif whose sites any class overlaps.
    """
    columns = {"node": "int32", "motif": "int32", "annotation": "str", "annotation_class": "str",
               "n_sites": "int32", "n_overlapping": "int32", "n_expected": "float64"}  # fmt: skip
    of_node = dict(iter(seqlets.sort_values(["node", "rank"]).groupby("node")))
    motifs = motifs[motifs["node"].isin(list(of_node))].reset_index(drop=True)
    if motifs.empty or not annotations:
        return pd.DataFrame(columns=list(columns)).astype(columns)
    sites = pd.concat(
        [
            _sites(motif, of_node[motif.node], both_strands).assign(row=motif.Index)
            for motif in motifs.itertuples()
        ]
    )
    row_of_site, rows = sites["row"].to_numpy(np.intp), np.arange(len(motifs))
    motifs = motifs.assign(row=rows, n_sites=np.bincount(row_of_site, minlength=len(motifs)))
    counted = []
    for name, annotation in annotations.items():
        (intervals,), group, regions, classes = _by_class(annotation, sites)
        n = _count(row_of_site, intervals, group, regions, len(motifs), len(classes))
        counted.append(
            pd.DataFrame(
                {
                    "row": np.repeat(rows, len(classes)),
                    "annotation": name,
                    "annotation_class": np.tile(np.asarray(classes, object), len(motifs)),
                    "n_overlapping": n.ravel(),
                }
            )
        )
    table = pd.concat(counted).merge(motifs[["row", "node", "motif", "n_sites"]], on="row")
    chance = ["node", "annotation", "annotation_class"]
    table = table.merge(overlaps[[*chance, "n_seqlets", "n_expected"]], on=chance)
    share = (table["n_expected"] / table["n_seqlets"]).clip(1 / (2 * MAX_CONTROL), 1)
    expected = table["n_sites"] * share
    spread = np.sqrt(expected * (1 - share)).clip(lower=1e-9)
    table = table.assign(n_expected=expected, excess=(table["n_overlapping"] - expected) / spread)
    order = table.sort_values(["row", "excess"], ascending=[True, False], kind="stable")
    best = order[order["excess"] > 0].drop_duplicates("row")
    return best[list(columns)].astype(columns).reset_index(drop=True)


def _sites(motif: Any, seqlets: pd.DataFrame, both_strands: bool) -> pd.DataFrame:
    """Those of a node's seqlets that are likely sites of a motif."""
    sequences = encode(seqlets["sequence"].tolist())
    rows = likely_sites(as_matrix(motif.matrix), motif.n_sites, sequences, both_strands)
    return seqlets.iloc[rows]


def _by_class(
    annotation: pd.DataFrame, *tables: pd.DataFrame
) -> tuple[list[Intervals], Int64s, Intervals, pd.Index]:
    """Intervals of each table; on the same axis the merged regions of an annotation, with the
    number of the class of each; the classes."""
    *intervals, regions = on_one_axis(*tables, annotation)
    code, classes = pd.factorize(annotation["annotation_class"], sort=True)
    group, regions = merge(code.astype(np.int64), regions)
    return intervals, group, regions, classes


def placed_at_random(
    windows: Windows, width_bp: int, bp_per_position: int, pad_bp: int, n: int, seed: int
) -> pd.DataFrame:
    """n intervals of the seqlets' width on positions drawn from those that count: chrom, start_bp,
    end_bp, each once, and n_placed, how often it was drawn."""
    window_bp = int(windows.end_bp[0] - windows.start_bp[0]) + 2 * pad_bp
    ranges = kept_positions(windows, window_bp // bp_per_position, bp_per_position, pad_bp)
    until = np.cumsum(ranges[:, 2] - ranges[:, 1])
    # in ascending order: what is near in the table is near in the genome, which is quicker
    drawn, n_placed = np.unique(
        np.random.default_rng(seed).integers(until[-1], size=n), return_counts=True
    )
    which = np.searchsorted(until, drawn, "right")
    position = drawn - until[which] + ranges[which, 2]
    chrom, start_bp, end_bp = position_intervals(
        windows,
        ranges[which, 0],
        position,
        width_bp,
        bp_per_position,
        pad_bp,
    )
    return pd.DataFrame(
        {"chrom": chrom, "start_bp": start_bp, "end_bp": end_bp, "n_placed": n_placed}
    )


def _count(
    node: NDArray[np.intp],
    intervals: Intervals,
    group: Int64s,
    regions: Intervals,
    n_nodes: int,
    n_classes: int,
    n_times: Int64s | None = None,
) -> NDArray[np.int64]:
    """Intervals of each node that overlap each class: (n_nodes, n_classes) int64; each counts
    `n_times`, or once."""
    hits = covered_bp(intervals, group, regions, n_classes)
    n_hits = np.diff(hits.indptr)
    flat = np.bincount(
        np.repeat(node, n_hits) * n_classes + hits.indices,
        weights=None if n_times is None else np.repeat(n_times, n_hits),
        minlength=n_nodes * n_classes,
    )
    return flat.astype(np.int64).reshape(n_nodes, n_classes)


def _statistics(
    n_overlapping: NDArray[np.int64],
    n_seqlets: NDArray[np.int64],
    in_control: NDArray[np.int64],
    n_control: int,
) -> dict[str, NDArray[np.float64]]:
    """Columns of `annotation_overlaps`, each (n_nodes, n_classes)."""
    share = (in_control + 0.5) / (n_control + 1)
    expected = n_seqlets * share
    spread = n_overlapping.std(axis=0)
    ratio = odds_ratio(n_overlapping, n_seqlets, in_control, n_control)
    return {
        "n_expected": n_seqlets * (in_control / n_control),
        "z_score": (n_overlapping - n_overlapping.mean(axis=0)) / np.where(spread, spread, 1),
        "z_shuffled": (n_overlapping - expected) / np.sqrt(expected * (1 - share)),
        "odds_ratio": ratio.value,
        "odds_ratio_low": ratio.low,
        "odds_ratio_high": ratio.high,
    }


def _empty() -> pd.DataFrame:
    kinds = {"node": np.int32, "annotation": str, "annotation_class": str}
    kinds |= {"n_seqlets": np.int32, "n_overlapping": np.int32, "n_expected": np.float64}
    ratios = ("z_score", "z_shuffled", "odds_ratio", "odds_ratio_low", "odds_ratio_high")
    kinds |= dict.fromkeys(ratios, np.float64)
    return pd.DataFrame({column: pd.Series(dtype=kind) for column, kind in kinds.items()})
