"""Genomic intervals: the one place where coordinates are converted.

Everything inside is 0-based and half-open. Which positions of which windows count, and which
interval of the genome a position stands for, is decided here; what happens at those intervals
is not.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from saeborzoi.errors import InputError
from saeborzoi.genome.bed import (
    Int64s,
    integers,
    interval_columns,
    read_bed,
    read_table,
    skip_remarks,
)
from saeborzoi.genome.fasta import Genome
from saeborzoi.genome.file_kinds import require_ready

__all__ = [
    "Genome",
    "Int64s",
    "Windows",
    "kept_positions",
    "position_intervals",
    "read_bed",
    "read_windows",
    "require_annotation_fits",
    "require_inside",
]


_STRANDS = ("+", "-", ".")


@dataclass(frozen=True)
class Windows:
    """Windows that the model saw, in the order of the file; one entry a window.

    Attributes
    ----------
    path
        The file that they were read from.
    chrom
        (n_windows,) object, chromosome names.
    start_bp, end_bp
        (n_windows,) int64, the window *without* the padding on either side.
    shard, row
        (n_windows,) int64, the shard and the row in it that hold the window's activations.
        Where the file does not say, shard is -1 and row is i: the i-th row over all shards in
        numeric order.
    line
        (n_windows,) int64, 1-based line of the file, for messages.
    is_reverse
        (n_windows,) bool, windows that the model reads on the reverse strand: position 0 is
        their right end. None where all are read forward.
    """

    path: Path
    chrom: NDArray[np.object_]
    start_bp: Int64s
    end_bp: Int64s
    shard: Int64s
    row: Int64s
    line: Int64s
    is_reverse: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.start_bp)

    def reverse(self, window: ArrayLike) -> NDArray[np.bool_]:
        """Whether each of some windows is read on the reverse strand: (n,) bool."""
        rows = np.asarray(window, np.int64)
        return np.zeros(rows.shape, bool) if self.is_reverse is None else self.is_reverse[rows]

    def only(self, row: ArrayLike) -> Windows:
        """Some of the windows, in ascending order of rows of the file."""
        columns = ["chrom", "start_bp", "end_bp", "shard", "row", "line"]
        if self.is_reverse is not None:
            columns.append("is_reverse")
        return replace(self, **{name: getattr(self, name)[row] for name in columns})


def read_windows(path: Path | str) -> Windows:
    """Read the windows of a shard folder.

    Either the published `train_seqs.bed` (tab-separated, a header line
    ``'' 0 1 2 chunk_ind inner_ind``) or plain BED with at least three columns. Where plain BED has
    a strand in its sixth column (+, - or .), windows with - are read on the reverse strand.

    Raises
    ------
    InputError
        Where the file cannot be read, has no row, or a row is no interval; names the line.
    """
    path = Path(path)
    require_ready(path)
    n_skipped, header = skip_remarks(path)
    is_reverse = None
    if "chunk_ind" in header or "inner_ind" in header:
        names = ["0", "1", "2", "chunk_ind", "inner_ind"]
        missing = [name for name in names if name not in header]
        if missing:
            raise InputError(
                f"{path}: the header lacks {missing[0]!r}; needed are {', '.join(names)} "
                "(sae-borzoi's train_seqs.bed), or plain BED without a header"
            )
        table = read_table(path, {name: header.index(name) for name in names}, n_skipped + 1)
        table.columns = pd.Index(["chrom", "start_bp", "end_bp", "shard", "row"])
        shard = integers(path, table, "shard")
        row = integers(path, table, "row")
        repeated = pd.DataFrame({"shard": shard, "row": row}).duplicated().to_numpy()
        if repeated.any():
            i = int(repeated.argmax())
            raise InputError(
                f"{path}, line {table.index[i]}: row {row[i]} of shard {shard[i]} stands in an "
                "earlier line too; each row of a shard needs one line"
            )
    else:
        columns = {"chrom": 0, "start_bp": 1, "end_bp": 2}
        if len(header) >= 6 and header[5].strip() in _STRANDS:
            columns["strand"] = 5
        table = read_table(path, columns, n_skipped)
        if "strand" in table:
            is_reverse = _is_reverse(path, table)
        shard = np.full(len(table), -1, np.int64)
        row = np.arange(len(table), dtype=np.int64)
    start_bp, end_bp = interval_columns(path, table)
    return Windows(
        path=path,
        chrom=table["chrom"].to_numpy(object),
        start_bp=start_bp,
        end_bp=end_bp,
        shard=shard,
        row=row,
        line=table.index.to_numpy(np.int64),
        is_reverse=is_reverse,
    )


def _is_reverse(path: Path, table: pd.DataFrame) -> NDArray[np.bool_]:
    unknown = ~table["strand"].isin(_STRANDS).to_numpy()
    if unknown.any():
        i = int(unknown.argmax())
        raise InputError(
            f"{path}, line {table.index[i]}: strand {table['strand'].iloc[i]!r}; the first line "
            "has a strand in column 6, so every line needs +, - or . there"
        )
    return (table["strand"] == "-").to_numpy()


def require_inside(
    path: Path,
    chrom: Iterable[str],
    start_bp: ArrayLike,
    end_bp: ArrayLike,
    line: ArrayLike,
    chrom_sizes: dict[str, int],
) -> None:
    """Refuse intervals that do not lie inside the genome.

    Parameters
    ----------
    path, line
        Where the intervals come from, for the message.
    chrom, start_bp, end_bp
        (n,) the intervals.
    chrom_sizes
        Length of every chromosome, `Genome.chrom_sizes`.

    Raises
    ------
    InputError
        Names the first line whose chromosome is missing or whose end is beyond it.
    """
    # by number of row: a column of a table has its lines for an index
    names = pd.Series(chrom, dtype=object).reset_index(drop=True)
    size = names.map(chrom_sizes).to_numpy(float)
    beyond = (np.asarray(end_bp) > size) | (np.asarray(start_bp) < 0)
    bad = np.isnan(size) | beyond
    if not bad.any():
        return
    i = int(bad.argmax())
    where = f"{path}, line {np.asarray(line)[i]}"
    more = f" ({int(bad.sum()):,} of {len(bad):,} rows do not fit)" if bad.sum() > 1 else ""
    if np.isnan(size[i]):
        known_chroms = ", ".join(list(chrom_sizes)[:5])
        raise InputError(
            f"{where}: chromosome {names[i]!r} is not in the genome, which has {known_chroms}"
            f"{', ...' if len(chrom_sizes) > 5 else ''}; use the FASTA of the same assembly and "
            f"naming, or leave those rows out{more}"
        )
    raise InputError(
        f"{where}: {names[i]}:{np.asarray(start_bp)[i]}-{np.asarray(end_bp)[i]} reaches beyond "
        f"the chromosome of {int(size[i])} bp; use the whole FASTA of the same assembly, or "
        f"leave those rows out{more}"
    )


def require_annotation_fits(path: Path, table: pd.DataFrame, chrom_sizes: dict[str, int]) -> int:
    """Refuse an annotation of another assembly than the genome's.

    Parameters
    ----------
    path
        Where it comes from, for the message.
    table
        As `read_bed` gives it.
    chrom_sizes
        Length of every chromosome, `Genome.chrom_sizes`.

    Returns
    -------
    int
        Rows on chromosomes that the genome lacks; they meet nothing.

    Raises
    ------
    InputError
        Where none of its chromosomes is in the genome, or a row reaches beyond one.
    """
    known = table[table["chrom"].isin(chrom_sizes)]
    if known.empty:
        raise InputError(
            f"{path}: none of its chromosomes ({', '.join(table['chrom'].unique()[:5])}) is in "
            f"the genome, which has {', '.join(list(chrom_sizes)[:5])}; use the file of the same "
            "assembly and naming"
        )
    require_inside(
        path, known["chrom"], known["start_bp"], known["end_bp"], known.index, chrom_sizes
    )
    return len(table) - len(known)


def kept_positions(windows: Windows, n_positions: int, bp_per_position: int, pad_bp: int) -> Int64s:
    """The positions that count: padding cropped, each locus once.

    A position counts where its centre lies in the window without padding, and in no such window
    of an earlier line of the file that is read on the same strand.

    Parameters
    ----------
    windows
        The windows.
    n_positions
        Positions of each window in the shards.
    bp_per_position
        Base pairs that one position covers.
    pad_bp
        Base pairs that the model saw on either side of each window.

    Returns
    -------
    ndarray
        (n_ranges, 3) int64: window, first position, last position (exclusive), in ascending
        order; a window has none, one or several ranges.

    Raises
    ------
    InputError
        Where a window's length does not fit the number of positions.
    """
    seen_bp = windows.end_bp - windows.start_bp + 2 * pad_bp
    misfit = seen_bp != n_positions * bp_per_position
    if misfit.any():
        i = int(misfit.argmax())
        raise InputError(
            f"{windows.path}, line {windows.line[i]}: the window of "
            f"{windows.end_bp[i] - windows.start_bp[i]} bp with 2 x {pad_bp} bp of padding is "
            f"{seen_bp[i]} bp, but {n_positions} positions of {bp_per_position} bp are "
            f"{n_positions * bp_per_position} bp; fix bp_per_position or pad_bp of the layer, "
            "or bring the windows of these shards"
        )
    covered: dict[tuple[str, bool], list[tuple[int, int]]] = {}
    ranges: list[tuple[int, int, int]] = []
    for i, (chrom, start, end, is_reverse) in enumerate(
        zip(
            windows.chrom,
            windows.start_bp.tolist(),
            windows.end_bp.tolist(),
            windows.reverse(np.arange(len(windows))).tolist(),
            strict=True,
        )
    ):
        free = _claim(covered.setdefault((chrom, is_reverse), []), start, end)
        if is_reverse:
            # as it is read: from the right end, so that the axis is turned round
            free = [(-high, -low) for low, high in reversed(free)]
        first_bp = -(end + pad_bp) if is_reverse else start - pad_bp
        # twice the centre of position 0, so that odd bp_per_position stays in whole numbers
        centre2 = 2 * first_bp + bp_per_position
        for low, high in free:
            # a centre at an interval's end is inside where that is the lower one on the genome
            past = 1 if is_reverse else 0
            first = -((centre2 - 2 * low - past) // (2 * bp_per_position))
            last = -((centre2 - 2 * high - past) // (2 * bp_per_position))
            if first < last:
                ranges.append((i, first, last))
    return np.array(ranges, np.int64).reshape(-1, 3)


def position_intervals(
    windows: Windows,
    window: ArrayLike,
    position: ArrayLike,
    width_bp: int,
    bp_per_position: int,
    pad_bp: int,
) -> tuple[NDArray[np.object_], Int64s, Int64s]:
    """Intervals of a fixed width, centred on positions.

    The centre is the middle of the base pairs that the position covers, rounded down; the
    interval starts `width_bp // 2` before it. For even widths this is sae-borzoi's interval. An
    odd width, which that code drops, is exactly centred where `bp_per_position` is odd too and
    otherwise takes its extra base on the right. On a window that is read on the reverse strand all
    of this is as the model reads it.

    Parameters
    ----------
    windows
        The windows.
    window, position
        (n,) int, row of `windows` and index along the shard's position axis.
    width_bp
        Width of every interval.
    bp_per_position, pad_bp
        Geometry of the layer.

    Returns
    -------
    tuple
        chrom (n,) object, start_bp (n,) int64, end_bp (n,) int64. May reach beyond the
        chromosome's ends.
    """
    window = np.asarray(window, np.int64)
    centre = np.asarray(position, np.int64) * bp_per_position + bp_per_position // 2
    before_bp = centre - width_bp // 2 - pad_bp
    start_bp = np.where(
        windows.reverse(window),
        windows.end_bp[window] - before_bp - width_bp,
        windows.start_bp[window] + before_bp,
    )
    return windows.chrom[window], start_bp, start_bp + width_bp


def _claim(covered: list[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """The parts of [start, end) that `covered` does not hold, which it then holds too.

    `covered` is sorted, and its intervals do not touch.
    """
    first = bisect.bisect_left(covered, start, key=lambda interval: interval[1])
    last = bisect.bisect_right(covered, end, key=lambda interval: interval[0])
    free, at = [], start
    for low, high in covered[first:last]:
        if at < low:
            free.append((at, low))
        at = max(at, high)
    if at < end:
        free.append((at, end))
    touched = [*covered[first:last], (start, end)]
    covered[first:last] = [(min(low for low, _ in touched), max(high for _, high in touched))]
    return free
