"""Tables of intervals as files: BED, and what else is separated by tabs.

What the columns say is checked here, and where they lie is told by line; whether the intervals
lie in the genome is `coordinates.py`'s business.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from saeborzoi.errors import InputError, counted
from saeborzoi.genome.file_kinds import VCF_HEAD, require_ready
from saeborzoi.reading import HEAD_BYTES, kind_of, opened, shown

Int64s = NDArray[np.int64]

_REMARK = re.compile(r"#|track\b|browser\b")
_FIRST = "the first column"
_LARGEST = 10**15
"""Whole numbers up to here pass through float64 as they are; no coordinate comes near."""
_PLACEHOLDERS = {"+", "-", ".", "*", "?", "NA", "N/A", "NaN", "nan", "None", "none", "null"}
_COLOUR = r"[0-9]{1,3},[0-9]{1,3},[0-9]{1,3}"
_LIST = r"([0-9]+,)+[0-9]*"
_MAX_NUMBERED_CLASSES = 100
_MIN_ROWS_OF_NAMES = 100
_SHOWN_ROWS = 1000
_MEMORY_A_BYTE = 10
"""A table takes so many bytes for each of its file: 8.5 measured, of six columns."""


def read_bed(
    path: Path | str, class_column: int = 6, strand_column: int | None = None
) -> pd.DataFrame:
    """Read an annotation.

    Parameters
    ----------
    path
        Tab-separated BED, plain or gzipped; comment, track and browser lines are passed over,
        blanks around fields left out.
    class_column
        1-based column that holds the class, 6 as in sae-borzoi.
    strand_column
        1-based column that holds the strand; None where it is not wanted.

    Returns
    -------
    DataFrame
        chrom (str), start_bp, end_bp (int64), annotation_class (str), and strand (+, - or .) where
        it is wanted; the index is the 1-based line of the file.

    Raises
    ------
    InputError
        Where the file cannot be read, has no row, or a row is no interval or lacks the class
        (names the line), or a strand is none, or where the column holds no classes but strands,
        scores, colours or a name for each row; shows what each column holds.
    """
    path = Path(path)
    require_ready(path, class_column)
    columns = {"chrom": 0, "start_bp": 1, "end_bp": 2, "annotation_class": class_column - 1}
    if strand_column is not None:
        columns["strand"] = strand_column - 1
    table = read_table(path, columns, skip_remarks(path)[0])
    start_bp, end_bp = interval_columns(path, table)
    if strand_column is not None:
        is_none = ~table["strand"].isin(["+", "-", "."])
        if is_none.any():
            line = is_none.idxmax()
            raise InputError(
                f"{path}, line {line}: column {strand_column}, the strand, holds "
                f"{table.at[line, 'strand']!r}; needed is +, - or . (none): fix strand_column, or "
                "leave it out"
            )
    unfit = _unfit(table["annotation_class"])
    if unfit is not None:
        raise InputError(
            f"{path}: column {class_column}, the class, holds {unfit}; "
            f"{_offered(path, class_column)}"
        )
    return table.assign(start_bp=start_bp, end_bp=end_bp)


def skip_remarks(path: Path) -> tuple[int, list[str]]:
    """Number of remarks and blank lines that a table begins with, and the next line's fields."""
    with opened(path) as file:
        head = file.read(HEAD_BYTES)
        kind = kind_of(head.removeprefix(b"\xef\xbb\xbf")) if head else None
        if head.startswith(VCF_HEAD):
            kind = "a VCF, whose place is the path of a [[variants]]"
        if kind is not None:
            raise InputError(f"{path}: not a table, but {kind}")
    with opened(path) as file:
        for n_skipped, line in enumerate(file):
            text = line.decode("utf-8-sig" if n_skipped == 0 else "utf-8", "replace")
            if text.strip() and not _REMARK.match(text):
                return n_skipped, [field.strip(" ") for field in text.rstrip("\r\n").split("\t")]
    raise InputError(f"{path}: no interval in it; needed are rows of chrom, start, end")


def read_table(path: Path, columns: dict[str, int], n_skipped: int) -> pd.DataFrame:
    """Columns of a tab-separated file as text without blanks around it.

    Parameters
    ----------
    columns
        Name of each column that is wanted, and its place in the file.
    n_skipped
        Lines that the file begins with and that are no rows.

    Returns
    -------
    DataFrame
        One row a line, remarks and blank lines left out; the index is the 1-based line.

    Raises
    ------
    InputError
        Where the file cannot be read, is not UTF-8, or a field is missing, empty or holds control
        characters; names the line.
    """
    # the first column says whether a line is a remark or blank, wanted or not
    place_of = columns if 0 in columns.values() else {_FIRST: 0, **columns}
    by_place = sorted(place_of, key=lambda name: place_of[name])
    n_columns = max(columns.values()) + 1
    try:
        with opened(path, _MEMORY_A_BYTE) as file:
            table = pd.read_csv(
                file,
                sep="\t",
                header=None,
                names=by_place,
                usecols=sorted(place_of.values()),
                skiprows=n_skipped,
                dtype=str,
                keep_default_na=False,
                quoting=csv.QUOTE_NONE,
                skip_blank_lines=False,
                encoding="utf-8-sig",
            )
    except pd.errors.EmptyDataError:
        table = pd.DataFrame(columns=by_place, dtype=str)
    except (ValueError, pd.errors.ParserError) as error:
        fields = skip_remarks(path)[1]
        if len(fields) < n_columns:
            raise InputError(
                f"{path}: {counted(len(fields), 'column')} separated by tabs, where {n_columns} "
                "are needed; bring a table with them, or name another column"
            ) from None
        raise InputError(
            f"{path}: cannot be read as a table of {n_columns} columns separated by tabs, in UTF-8 "
            f"({str(error).strip()})"
        ) from None
    table.index = pd.RangeIndex(n_skipped + 1, n_skipped + 1 + len(table), name="line")
    table = table.apply(_stripped)
    blank = (table == "").all(axis=1)
    is_remark = table[by_place[0]].str.match(_REMARK.pattern)
    table = table.loc[~(blank | is_remark), list(columns)]
    if table.empty:
        raise InputError(f"{path}: no interval in it; needed are rows of chrom, start, end")
    missing = (table == "").to_numpy()
    if missing.any():
        i, j = np.argwhere(missing)[0]
        raise InputError(
            f"{path}, line {table.index[i]}: column {list(columns.values())[j] + 1} "
            f"({table.columns[j]}) is empty or missing; columns are separated by tabs"
        )
    for name in table.columns:
        values = pd.Series(table[name].unique())
        controls = values[values.map(_has_controls)]
        if len(controls):
            line = table.index[(table[name] == controls.iloc[0]).to_numpy().argmax()]
            raise InputError(
                f"{path}, line {line}: {name} {shown(controls.iloc[0])} holds control characters; "
                "remove them, or bring the file again"
            )
    return table


def integers(path: Path, table: pd.DataFrame, column: str) -> Int64s:
    """A column as whole numbers of at least 0; raises `InputError`, which names the line."""
    numbers = pd.to_numeric(table[column], errors="coerce").astype(float)
    bad = ~((numbers % 1 == 0) & (numbers >= 0) & (numbers <= _LARGEST)).to_numpy()
    if bad.any():
        i = int(bad.argmax())
        value = table[column].iloc[i]
        is_header = i == 0 and not any(map(str.isdigit, value))
        raise InputError(
            f"{path}, line {table.index[i]}: {column} is {shown(value)}; needed is "
            f"a whole number of at least 0 and at most {_LARGEST:,}"
            + (": where that line is a header, begin it with #" if is_header else "")
        )
    return numbers.to_numpy().astype(np.int64)


def interval_columns(path: Path, table: pd.DataFrame) -> tuple[Int64s, Int64s]:
    """start_bp and end_bp of a table; raises `InputError` where a row is no interval."""
    start_bp = integers(path, table, "start_bp")
    end_bp = integers(path, table, "end_bp")
    bad = end_bp <= start_bp
    if bad.any():
        i = int(bad.argmax())
        raise InputError(
            f"{path}, line {table.index[i]}: start {start_bp[i]} is not before end {end_bp[i]}; "
            "BED intervals are 0-based and half-open"
        )
    return start_bp, end_bp


def _stripped(column: pd.Series) -> pd.Series:
    """Each field without blanks around it; few values repeat often."""
    code, values = pd.factorize(column)
    return pd.Series(
        np.array([str(value).strip() for value in values] or [""], object)[code]
        if len(column)
        else np.empty(0, object),
        index=column.index,
        dtype=column.dtype,
    )


def _has_controls(value: str) -> bool:
    return not value.isprintable() and any(ord(c) < 32 or 127 <= ord(c) < 160 for c in value)


def _unfit(classes: pd.Series) -> str | None:
    """What a class column holds in the place of classes, None where it holds classes."""
    values = classes.value_counts()
    names = values.index.astype(str)
    some = ", ".join(name[:40] for name in names[:4])
    if set(names) <= _PLACEHOLDERS:
        return f"strands or placeholders only ({some})"
    if names.str.fullmatch(_COLOUR).all():
        return f"colours ({some})"
    if names.str.fullmatch(_LIST).all():
        return f"lists of numbers, as of blocks ({some})"
    numbers = pd.to_numeric(pd.Series(names), errors="coerce")
    numbered = bool(numbers.notna().all())
    if numbered and (len(values) > _MAX_NUMBERED_CLASSES or (numbers % 1 != 0).any()):
        return f"numbers, as of scores ({len(values):,} of them: {some}, ...)"
    if numbered and len(values) == 1 and len(classes) > 1:
        return f"the number {some} in every row, as of scores"
    if len(values) == len(classes) >= _MIN_ROWS_OF_NAMES:
        return f"another value in each of {len(classes):,} rows, as of names ({some}, ...)"
    return None


def _offered(path: Path, class_column: int) -> str:
    """What the columns of a BED hold, and which could be the class."""
    rows = []
    with opened(path) as file:
        for line in file:
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            if text.strip() and not _REMARK.match(text):
                rows.append([field.strip() for field in text.split("\t")])
            if len(rows) == _SHOWN_ROWS:
                break
    words, usable = [], []
    for place in range(3, max(map(len, rows))):
        values = pd.Series([row[place] for row in rows if len(row) > place and row[place]])
        if values.empty:
            continue
        some = values.value_counts()
        words.append(f"{place + 1}: {', '.join(str(name)[:40] for name in some.index[:3])}")
        if place + 1 != class_column and _unfit(values) is None:
            numbered = pd.to_numeric(values, errors="coerce").notna().all()
            usable.append((numbered, len(some), place + 1))
    offer = (
        f"set class_column = {min(usable)[2]} of its [[data.annotation]], if that is the class"
        if usable
        else "bring a BED with a column of classes"
    )
    return f"{offer}. Columns hold {'; '.join(words)}"
