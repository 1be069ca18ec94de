"""Arithmetic on many intervals at once: merging, and which groups cover which intervals.

Intervals are arrays on one axis; chromosomes are laid end to end by `on_one_axis`. What the
groups are (nodes, annotation classes) is the caller's business.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

Int64s = NDArray[np.int64]


class Intervals(NamedTuple):
    """Intervals on one axis: start (n,) int64 and end (n,) int64, exclusive."""

    start: Int64s
    end: Int64s


def on_one_axis(*tables: pd.DataFrame) -> list[Intervals]:
    """Lay the chromosomes of several tables end to end, so that intervals are comparable.

    Parameters
    ----------
    *tables
        Each with columns chrom, start_bp, end_bp.

    Returns
    -------
    list of Intervals
        One for each table, in its order; intervals of different chromosomes never touch.
    """
    chrom = pd.concat([table["chrom"] for table in tables], ignore_index=True)
    code = pd.factorize(chrom)[0]
    start = np.concatenate([table["start_bp"].to_numpy(np.int64) for table in tables])
    end = np.concatenate([table["end_bp"].to_numpy(np.int64) for table in tables])
    n_chrom = int(code.max(initial=-1)) + 1
    low, high = np.zeros(n_chrom, np.int64), np.zeros(n_chrom, np.int64)
    np.minimum.at(low, code, start)
    np.maximum.at(high, code, end)
    offset = np.concatenate([[0], np.cumsum(high - low + 1)])[:-1] - low
    start, end = start + offset[code], end + offset[code]
    cuts = np.cumsum([len(table) for table in tables])[:-1]
    return [
        Intervals(*pair) for pair in zip(np.split(start, cuts), np.split(end, cuts), strict=True)
    ]


def merge(group: Int64s, intervals: Intervals) -> tuple[Int64s, Intervals]:
    """Merge the intervals of each group that overlap or touch.

    Parameters
    ----------
    group
        (n,) int64 >= 0, the group of each interval.
    intervals
        (n,) in any order, on one axis with start >= 0.

    Returns
    -------
    tuple
        Group (m,) and intervals (m,), sorted by group and start, disjoint within a group.
    """
    if len(group) == 0:
        return group, intervals
    order = np.lexsort((intervals.start, group))
    group, start, end = group[order], intervals.start[order], intervals.end[order]
    # each group gets its own stretch of the axis, so that one running maximum serves all
    shift = group * (int(end.max()) + 1)
    reach = np.maximum.accumulate(end + shift)
    is_first = np.concatenate([[True], (start + shift)[1:] > reach[:-1]])
    is_first[1:] |= group[1:] != group[:-1]
    is_last = np.concatenate([is_first[1:], [True]])
    merged_end = reach[is_last] - shift[is_last]
    return group[is_first], Intervals(start[is_first], merged_end)


def covered_bp(
    intervals: Intervals, group: Int64s, targets: Intervals, n_groups: int
) -> sparse.csr_array:
    """How many base pairs of each interval each group covers.

    Parameters
    ----------
    intervals
        (n,) the intervals asked about, in any order; quickest in ascending order.
    group, targets
        (m,) disjoint within a group, as `merge` gives them.
    n_groups
        Number of groups.

    Returns
    -------
    csr_array
        (n, n_groups) int64, stored only where an interval and a group overlap.
    """
    n = len(intervals.start)
    # the ends of all targets cut the axis into segments that a group covers wholly or not at all
    edge = np.sort(np.concatenate(targets))
    edge = edge[np.diff(edge, prepend=-1) > 0]  # np.unique hashes first: five times slower here
    n_segments = max(len(edge) - 1, 0)
    if n == 0 or n_segments == 0:
        return sparse.csr_array((n, n_groups), dtype=np.int64)
    target, segment = _spans(
        np.searchsorted(edge, targets.start), np.searchsorted(edge, targets.end)
    )
    holds = sparse.csr_array(
        (np.ones(len(segment), np.int64), (segment, group[target])), shape=(n_segments, n_groups)
    )
    first = np.searchsorted(edge, intervals.start, "right") - 1
    last = np.searchsorted(edge, intervals.end, "left")
    row, segment = _spans(np.maximum(first, 0), np.minimum(last, n_segments))
    taken = np.diff(holds.indptr)[segment] > 0
    row, segment = row[taken], segment[taken]
    bp = np.minimum(intervals.end[row], edge[segment + 1]) - np.maximum(
        intervals.start[row], edge[segment]
    )
    touches = sparse.csr_array(
        (bp, segment, np.searchsorted(row, np.arange(n + 1))), shape=(n, n_segments)
    )
    return touches @ holds


def _spans(first: Int64s, last: Int64s) -> tuple[Int64s, Int64s]:
    """For each range [first, last): its index, repeated, and the numbers in it."""
    length = np.maximum(last - first, 0)
    index = np.repeat(np.arange(len(first)), length)
    begin = np.cumsum(length) - length
    return index, np.arange(len(index)) - begin[index] + first[index]
