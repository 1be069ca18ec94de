"""Where the elements of annotated classes lie on the positions of a layer's windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from saeborzoi.genome.coordinates import Windows, kept_positions
from saeborzoi.genome.intervals import Intervals, merge, on_one_axis

MAX_CONCEPTS = 200
"""Classes that are scored at most: those with most elements."""
Int64s = NDArray[np.int64]


def concepts_of(annotations: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The classes that are scored: annotation, annotation_class, n_rows; at most `MAX_CONCEPTS`."""
    rows = [
        (name, str(kind), int(n))
        for name, table in annotations.items()
        for kind, n in table["annotation_class"].value_counts().items()
    ]
    table = pd.DataFrame(rows, columns=["annotation", "annotation_class", "n_rows"])
    largest = table.sort_values(
        ["n_rows", "annotation", "annotation_class"], ascending=[False, True, True]
    ).head(MAX_CONCEPTS)
    return largest.sort_values(["annotation", "annotation_class"], ignore_index=True)


FLANK_BP = 500
SAME, OTHER = ", strand read", ", other strand"
UPSTREAM, DOWNSTREAM = f", {FLANK_BP} bp upstream", f", {FLANK_BP} bp downstream"
"""What the name of a class ends with where strands or flanks of its elements are a class."""


def with_strands(annotation: pd.DataFrame) -> pd.DataFrame:
    """An annotation whose elements have strands, with the classes that these tell.

    Parameters
    ----------
    annotation
        chrom, start_bp, end_bp, annotation_class, strand (+, - or .).

    Returns
    -------
    DataFrame
        The same rows with read_strand "", for windows read on any strand; and of elements with a
        strand: those of the strand that the model reads and those of the other one (read_strand +
        or -, which the window must have), and the `FLANK_BP` upstream and downstream of them.
    """
    known = annotation[annotation["strand"].isin(["+", "-"])]
    name, forward = known["annotation_class"], known["strand"] == "+"
    other = known["strand"].map({"+": "-", "-": "+"})
    low = {
        "start_bp": (known["start_bp"] - FLANK_BP).clip(lower=0),
        "end_bp": known["start_bp"],
    }
    high = {"start_bp": known["end_bp"], "end_bp": known["end_bp"] + FLANK_BP}
    flanks = [
        known.assign(
            annotation_class=name + ending,
            **{end: low[end].where(is_low, high[end]) for end in ("start_bp", "end_bp")},
        )
        for ending, is_low in ((UPSTREAM, forward), (DOWNSTREAM, ~forward))
    ]
    parts = [
        annotation.assign(read_strand=""),
        known.assign(annotation_class=name + SAME, read_strand=known["strand"]),
        known.assign(annotation_class=name + OTHER, read_strand=other),
        *(part[part["start_bp"] < part["end_bp"]].assign(read_strand="") for part in flanks),
    ]
    return pd.concat(parts, ignore_index=True)


def elements_on_positions(
    concepts: pd.DataFrame,
    annotations: Mapping[str, pd.DataFrame],
    windows: Windows,
    n_positions: int,
    bp_per_position: int,
    pad_bp: int,
) -> Int64s:
    """Elements of each class on the kept positions of windows; see `concepts.ConceptData.elements`.

    A position is of a class where the base pairs that it covers overlap an element. Elements of a
    class that touch, or lie in one position, are one; one that a window's end cuts counts in each
    window. Where an annotation has the column read_strand, its rows count in windows that the model
    read on that strand.
    """
    ranges = kept_positions(windows, n_positions, bp_per_position, pad_bp)
    is_reverse = windows.reverse(ranges[:, 0])
    before = ranges[:, 1:] * bp_per_position - pad_bp
    start, end = windows.start_bp[ranges[:, 0]], windows.end_bp[ranges[:, 0]]
    low = np.where(is_reverse, end - before[:, 1], start + before[:, 0])
    high = np.where(is_reverse, end - before[:, 0], start + before[:, 1])
    stretches = pd.DataFrame(
        {"chrom": windows.chrom[ranges[:, 0]], "start_bp": low, "end_bp": high}
    )
    keys = zip(concepts["annotation"], concepts["annotation_class"], strict=True)
    code = {key: i for i, key in enumerate(keys)}
    parts = [np.zeros((0, 4), np.int64)]
    for name, table, read_reverse in _by_read_strand(annotations):
        group = np.array([code.get((name, kind), -1) for kind in table["annotation_class"]])
        scored = table[group >= 0]
        if scored.empty:
            continue
        where, targets = on_one_axis(stretches, scored)
        group_of_target, targets = merge(group[group >= 0].astype(np.int64), targets)
        stretch, target = _overlapping(where, targets)
        if read_reverse is not None:
            counts = is_reverse[stretch] == read_reverse
            stretch, target = stretch[counts], target[counts]
        # in base pairs from the stretch's lower end
        first = np.maximum(targets.start[target] - where.start[stretch], 0)
        last = np.minimum(targets.end[target], where.end[stretch]) - where.start[stretch]
        length = (where.end - where.start)[stretch]
        turned = is_reverse[stretch]
        first, last = np.where(turned, length - last, first), np.where(turned, length - first, last)
        parts.append(
            np.column_stack(
                [
                    group_of_target[target],
                    ranges[stretch, 0],
                    ranges[stretch, 1] + first // bp_per_position,
                    ranges[stretch, 1] + -(-last // bp_per_position),
                ]
            )
        )
    elements = np.concatenate(parts)
    n_windows = len(windows)
    # what lies apart by less than a position is one element at the layer's resolution
    group, merged = merge(
        elements[:, 0] * n_windows + elements[:, 1], Intervals(elements[:, 2], elements[:, 3])
    )
    concept, window = np.divmod(group, n_windows)
    elements = np.column_stack([concept, window, *merged])
    return elements[np.lexsort((elements[:, 2], elements[:, 0], elements[:, 1]))]


def _by_read_strand(
    annotations: Mapping[str, pd.DataFrame],
) -> Iterator[tuple[str, pd.DataFrame, bool | None]]:
    """Name, rows, and whether they count in windows of the reverse strand (None: in all)."""
    for name, table in annotations.items():
        if "read_strand" not in table:
            yield name, table, None
            continue
        for strand, read_reverse in (("", None), ("+", False), ("-", True)):
            yield name, table[table["read_strand"] == strand], read_reverse


def _overlapping(where: Intervals, targets: Intervals) -> tuple[Int64s, Int64s]:
    """Every pair of an interval and a target that overlap."""
    order = np.argsort(targets.start, kind="stable")
    start = targets.start[order]
    # the longest target bounds how far before an interval one that reaches into it can begin
    longest = int((targets.end - targets.start).max())
    first = np.searchsorted(start, where.start - longest, "right")
    last = np.searchsorted(start, where.end, "left")
    n = np.maximum(last - first, 0)
    stretch = np.repeat(np.arange(len(n)), n)
    target = order[np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n) + np.repeat(first, n)]
    meets = targets.end[target] > where.start[stretch]
    return stretch[meets], target[meets]
