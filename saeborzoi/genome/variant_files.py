"""Variants as they stand in a file, one row an alternative allele: VCF or a table.

Whether they fit the genome is decided in `variants.py`.
"""

from __future__ import annotations

import contextlib
import csv
import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from saeborzoi.errors import InputError, MissingProgramError
from saeborzoi.genome.bed import integers
from saeborzoi.reading import HEAD_BYTES, is_gzipped, kind_of, opened, read_text, shown

_COLUMNS = ("chrom", "pos", "ref", "alt")
_BGZF_MARK = b"BC\x02\x00"
_MAX_TABLE_BYTES = 1 << 31


def read_rows(path: Path) -> pd.DataFrame:
    """The rows of a variant file, several alternative alleles of one record apart.

    A VCF (plain, gzipped or bgzipped; genotypes are not looked at), or a table with a header line
    that names chrom, pos, ref and alt (rsid as well, where there is one), separated by tabs, commas
    or blanks; pos counts from 1.

    Returns
    -------
    DataFrame
        line (1-based, of the file), name (rsid; "" where there is none), chrom, pos (int64, counts
        from 1), ref, alt (upper case; "" where a record has no alternative allele).

    Raises
    ------
    InputError
        Where the file cannot be read, is truncated, has no row, or one is malformed; names the
        line.
    MissingProgramError
        Where a VCF is read and pysam is not installed.
    """
    with opened(path) as file:
        head = file.read(HEAD_BYTES)
    kind = kind_of(head) if head else "empty: bring it whole"
    if kind is not None:
        raise InputError(f"{path}: not variants, but {kind}")
    rows = _vcf(path) if head.startswith(b"##fileformat=VCF") else _table(path)
    if rows.empty:
        raise InputError(f"{path}: no variant in it; bring a file with at least one")
    rows["ref"], rows["alt"] = rows["ref"].str.upper(), rows["alt"].str.upper()
    return rows


def _vcf(path: Path) -> pd.DataFrame:
    try:
        import pysam
    except ImportError as error:
        raise MissingProgramError(
            f"{path}: reading VCF needs the package pysam ({error}); install saeborzoi[variants]"
        ) from None
    n_header = _header_lines(path)
    columns: dict[str, list[object]] = {n: [] for n in ("line", "name", *_COLUMNS)}
    line = n_header
    earlier = pysam.set_verbosity(0)
    try:
        with _seekable(path) as name, pysam.VariantFile(str(name), drop_samples=True) as file:
            for record in file:
                line += 1
                for alt in record.alts or ("",):
                    row = (line, record.id or "", record.chrom, record.pos, record.ref or "", alt)
                    for column, value in zip(columns.values(), row, strict=True):
                        column.append(value)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}, line {line + 1}: cannot be read as VCF ({error}); needed are the columns "
            "CHROM POS ID REF ALT QUAL FILTER INFO, separated by tabs, and a whole file "
            "(`bcftools view` tests it)"
        ) from None
    finally:
        pysam.set_verbosity(earlier)
    return pd.DataFrame(columns)


def _header_lines(path: Path) -> int:
    with opened(path) as file:
        for n, line in enumerate(file):
            if not line.startswith(b"#"):
                return n
            if line.startswith(b"#CHROM"):
                return n + 1
    raise InputError(f"{path}: a VCF without the line #CHROM; bring the file again")


@contextlib.contextmanager
def _seekable(path: Path) -> Iterator[Path]:
    """A file that pysam can go through: it refuses gzip that is not bgzip."""
    with path.open("rb") as file:
        is_bgzf = file.read(16)[12:] == _BGZF_MARK
    if is_bgzf or not is_gzipped(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="saeborzoi-vcf-") as folder:
        plain = Path(folder) / "variants.vcf"
        with opened(path) as file, plain.open("wb") as out:
            shutil.copyfileobj(file, out)
        yield plain


def _table(path: Path) -> pd.DataFrame:
    text = read_text(path, _MAX_TABLE_BYTES)
    lines = text.split("\n")
    first = next((i for i, row in enumerate(lines) if row.strip() and row[:2] != "##"), None)
    if first is None:
        raise InputError(f"{path}: no variant in it; bring a file with at least one")
    header = lines[first].lstrip("#").rstrip("\r")
    separator = "\t" if "\t" in header else "," if "," in header else r"\s+"
    names = [n.strip().lower() for n in _fields(header, separator)]
    missing = [n for n in _COLUMNS if names.count(n) != 1]
    if missing:
        raise InputError(
            f"{path}, line {first + 1}: the header is {shown(header)}, but needed is a VCF (its "
            "first line is ##fileformat=VCFv4...), or a table whose header names chrom, pos, ref "
            f"and alt once each, and rsid where there is one; fix {', '.join(missing)}"
        )
    try:
        table = pd.read_csv(
            io.StringIO("\n".join(lines[first + 1 :])),
            sep=separator,
            header=None,
            names=names,
            usecols=[n for n in ("rsid", *_COLUMNS) if n in names],
            dtype=str,
            keep_default_na=False,
            quoting=csv.QUOTE_NONE,
            skip_blank_lines=False,
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{path}: cannot be read as a table ({str(error).strip()})") from None
    table.index = pd.RangeIndex(first + 2, first + 2 + len(table), name="line")
    table = table.fillna("").apply(lambda column: column.str.strip())
    table = table[(table != "").any(axis=1)]
    if table.empty:
        return pd.DataFrame(columns=["line", "name", *_COLUMNS])
    table["pos"] = integers(path, table, "pos")
    alleles = table.pop("alt").str.split(",").explode()
    table = table.join(alleles.rename("alt"))
    table = table.rename(columns={"rsid": "name"}).reset_index()
    if "name" not in table:
        table["name"] = ""
    return table[["line", "name", *_COLUMNS]]


def _fields(header: str, separator: str) -> list[str]:
    return header.split() if separator == r"\s+" else header.split(separator)
