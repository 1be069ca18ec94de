"""bigWig and bigBed: tracks with an index, which genome browsers read over the network by parts.

Coordinates are 0-based and half-open. Needs the extra `bigwig`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from saeborzoi.errors import StoreError
from saeborzoi.extras import extra
from saeborzoi.files import write_file

_BED6 = b"""table bed6
"BED6"
(
string chrom; "chromosome"
uint chromStart; "start"
uint chromEnd; "end"
string name; "name"
uint score; "0-1000"
char[1] strand; "+ or -"
)
"""


def require_indexed_tracks() -> None:
    """Refuse to begin where neither can be written.

    Raises
    ------
    MissingPackageError
        Where pybigtools is not installed.
    """
    with extra("bigwig"):
        import pybigtools  # noqa: F401


def write_bigwig(path: Path, table: pd.DataFrame, sizes: Mapping[str, int]) -> None:
    """bigWig of `table`: chrom, start, end (bp), value, in any order; no two rows overlap.

    Parameters
    ----------
    sizes
        Length of each chromosome (bp).

    Raises
    ------
    StoreError
        Where the rows overlap or lie outside of a chromosome.
    """
    rows = table.sort_values(list(table.columns[:2]), kind="stable")
    columns = (rows[name].tolist() for name in rows)
    with write_file(path.absolute()) as temporary:
        _write(temporary, path, sizes, zip(*columns, strict=True))


def write_bigbed(path: Path, bed: pd.DataFrame, sizes: Mapping[str, int]) -> None:
    """bigBed of a table with BED's six columns: chrom, start, end, name, score, strand.

    Raises
    ------
    StoreError
        Where a row lies outside of its chromosome.
    """
    bed = bed.sort_values(list(bed.columns[:3]), kind="stable")
    chrom, start, end, *rest = (bed[name].tolist() for name in bed)
    texts = ("\t".join(map(str, fields)) for fields in zip(*rest, strict=True))
    with write_file(path.absolute()) as temporary:
        _write(temporary, path, sizes, zip(chrom, start, end, texts, strict=True))
        _describe(temporary, _coverage(bed))


def _write(file: Path, path: Path, sizes: Mapping[str, int], rows: Iterable[Any]) -> None:
    """Both formats go by the ending; `path` is what a message names."""
    with extra("bigwig"):
        import pybigtools
    pybigtools.open(str(file), "w").write(dict(sizes), iter(rows))
    # of what it refuses, pybigtools prints the reason and returns; the file then has no header
    try:
        pybigtools.open(str(file)).close()
    except pybigtools.BBIReadError:
        raise StoreError(
            f"{path} could not be written; pybigtools printed the reason above: intervals have to "
            "lie inside the chromosomes, and those of a bigWig may not overlap"
        ) from None


def _coverage(bed: pd.DataFrame) -> tuple[int, float, float, float, float]:
    """Of the depth of cover over bases that any row covers: bases, minimum, maximum, sum, sum of
    squares; what bigBed's header states."""
    parts = []
    for _, rows in bed.groupby(bed.columns[0]):
        places = np.concatenate([rows.iloc[:, 1], rows.iloc[:, 2]])
        order = np.argsort(places, kind="stable")
        depth = np.cumsum(np.repeat([1, -1], len(rows))[order])[:-1]
        parts.append((np.diff(places[order]), depth))
    if not parts:
        return 0, 0.0, 0.0, 0.0, 0.0
    length, depth = (np.concatenate(part) for part in zip(*parts, strict=True))
    length, depth = length[is_covered := (length > 0) & (depth > 0)], depth[is_covered]
    return (
        int(length.sum()),
        float(depth.min()),
        float(depth.max()),
        float((length * depth).sum()),
        float((length * depth**2).sum()),
    )


def _describe(file: Path, coverage: tuple[int, float, float, float, float]) -> None:
    """Put right what pybigtools 0.3 says of every bigBed: three columns, so that browsers show
    neither names nor strands; and, where rows overlap, too low a depth of cover, in the header and
    in the zoom levels, without which readers count the rows themselves.

    Format: Kent et al., Bioinformatics 26, 2204 (2010), supplementary table 5.
    """
    with file.open("r+b") as stream:
        stream.seek(36)
        text_at, summary_at = struct.unpack("<QQ", stream.read(16))
        assert text_at + len(_BED6) < summary_at, "room for the description"
        for place, content in (
            (6, struct.pack("<H", 0)),
            (32, struct.pack("<HH", 6, 6)),
            (text_at, _BED6.ljust(summary_at - text_at, b"\0")),
            (summary_at, struct.pack("<Qdddd", *coverage)),
        ):
            stream.seek(place)
            stream.write(content)
