"""What a file of intervals is, told from its first lines: a public one that must be made ready
first, or a format that is no BED at all. How it is made ready stands in `public_files.py`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import islice
from pathlib import Path

from saeborzoi.errors import InputError
from saeborzoi.extras import extra
from saeborzoi.reading import is_bigbed, opened

CCRE_CLASSES = {
    "PLS", "pELS", "dELS", "CA-CTCF", "CA-H3K4me3", "CA-TF", "CA", "TF", "DNase-H3K4me3",
    "CTCF-only", "DNase-only", "Low-DNase", "prom", "enhP", "enhD", "K4m3", "CTCF",
}  # fmt: skip
"""Classes of ENCODE's registry of cCREs, versions 2 to 4, and UCSC's short names for them."""

VCF_HEAD = b"##fileformat=VCF"
RMSK_COLUMNS = 17
RMSK_HEAD = ("SW", "score")
"""How the two lines at the head of RepeatMasker's .out begin."""
ACCESSION = re.compile(r"E[HM]\d*[DE]\d+")
"""What ENCODE calls a cCRE, or the DNase site that it rests on."""
_NUMBER = re.compile(r"-?[\d.]+(e[-+]?\d+)?", re.IGNORECASE)
_NO_CLASSES = {"+", "-", "."}
_SHOWN_LINES = 200


class Kind(StrEnum):
    """A public file that can be made ready."""

    CCRE = "ccre"
    RMSK = "rmsk"
    GENCODE = "gencode"
    NARROWPEAK = "narrowpeak"


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """1-based number and text of each line that is no remark; of a bigBed each row as BED."""
    if is_bigbed(path):
        yield from enumerate(bigbed_lines(path), start=1)
        return
    with opened(path) as file:
        for number, raw in enumerate(file, start=1):
            text = raw.decode("utf-8", "replace").rstrip("\r\n")
            if _is_row(text):
                yield number, text


def bigbed_lines(path: Path) -> Iterator[str]:
    """Rows of a bigBed as BED, chromosome by chromosome. What follows a space in a column becomes
    a column, as pybigtools has it.

    Raises
    ------
    InputError
        Where it cannot be read.
    MissingPackageError
        Where pybigtools is not installed.
    """
    with extra("bigwig"):
        import pybigtools
    try:
        # of a path pybigtools asks for the ending .bb
        with path.open("rb") as content:
            file = pybigtools.open(content)
            for chrom in file.chroms():
                for row in file.records(chrom):
                    yield "\t".join(map(str, (chrom, *row)))
    except pybigtools.BBIReadError as error:
        raise InputError(
            f"{path}: a bigBed that cannot be read ({error}); bring it whole"
        ) from None


def require_ready(path: Path, class_column: int | None = None) -> None:
    """Refuse a file that is no BED yet, from its first lines.

    Parameters
    ----------
    class_column
        1-based column of the classes, where they are wanted: peaks and cCREs of other columns are
        intervals already, but their sixth column holds strands.

    Raises
    ------
    InputError
        Names the command that makes it ready, or what to bring in its place.
    MissingPackageError
        Where it is a bigBed, and pybigtools is not installed.
    """
    texts = [text for _, text in islice(lines_of(path), _SHOWN_LINES)]
    kind = kind_of_lines(texts)
    if is_bigbed(path) and kind is None:
        raise InputError(f"{path}: {OTHER_BIGBED}")
    rows = [text.split("\t") for text in texts]
    is_bed = kind in (Kind.CCRE, Kind.NARROWPEAK) and not is_bigbed(path)
    is_fit = class_column is None or not _holds_no_classes(rows, class_column)
    if kind is Kind.CCRE and not any(map(ACCESSION.fullmatch, rows[0])):
        is_fit = True  # somebody's own table, of which the column is named where it is another
    if kind is not None and not (is_bed and is_fit):
        raise InputError(f"{path}: {made_ready_by(kind, path)}")
    if _is_gff(rows):
        raise InputError(
            f"{path}: a GFF whose features have no gene_id; bring the GTF of the same release, and "
            f"make it ready: saeborzoi data prepare {Kind.GENCODE} FILE"
        )


def made_ready_by(kind: Kind, path: Path) -> str:
    """What a public file is, and the command that makes it ready."""
    command = shlex.join(["saeborzoi", "data", "prepare", kind, str(path)])
    return f"{kind} as it is distributed; make it ready: {command}"


OTHER_BIGBED = "a bigBed of another kind: make it BED with UCSC's `bigBedToBed`"


def _holds_no_classes(rows: Sequence[Sequence[str]], class_column: int) -> bool:
    column = class_column - 1
    return all(row[column].strip() in _NO_CLASSES for row in rows if len(row) > column)


def _is_row(text: str) -> bool:
    return bool(text.strip()) and not text.startswith(("#", "track", "browser"))


def is_of_repeatmasker(fields: Sequence[str]) -> bool:
    """Whether a line, split at blanks, is a row of RepeatMasker's .out."""
    return len(fields) >= 14 and fields[0].isdigit() and fields[8] in ("+", "C")


def kind_of_lines(lines: Iterable[str]) -> Kind | None:
    """Which public file the first lines are of; None for another table.

    >>> kind_of_lines(["chr1\\t10033\\t10250\\tEH38D4327497\\tEH38E2776516\\tpELS"])
    <Kind.CCRE: 'ccre'>
    """
    texts = [text for text in lines if _is_row(text)]
    if not texts:
        return None
    words = [fields for fields in map(str.split, texts) if fields[0] not in RMSK_HEAD]
    if words and all(map(is_of_repeatmasker, words)):
        return Kind.RMSK
    rows = [text.split("\t") for text in texts]
    if all(len(row) == RMSK_COLUMNS and row[9] in ("+", "-") for row in rows):
        return Kind.RMSK
    if _is_gff(rows) and all(re.search(r"\bgene_id[ =]", row[8]) for row in rows):
        return Kind.GENCODE
    if all(any(f.split(",")[0].strip() in CCRE_CLASSES for f in row[3:]) for row in rows):
        return Kind.CCRE
    if all(map(_is_peak, rows)) and (len(rows[0]) == 10 or any("." in row[6] for row in rows)):
        return Kind.NARROWPEAK
    return None


def _is_gff(rows: Sequence[Sequence[str]]) -> bool:
    """Whether rows are of GTF or GFF: place in columns 4 and 5, strand in 7, attributes in 9."""
    return bool(rows) and all(
        len(row) == 9 and row[3].isdigit() and row[4].isdigit() and row[6] in ("+", "-", ".", "?")
        for row in rows
    )


def _is_peak(row: Sequence[str]) -> bool:
    """Whether a row is narrowPeak's, or broadPeak's, which lacks the summit. BED of nine columns
    looks like the latter where it has no colours, but for the fractions of a signal."""
    return (
        len(row) in (9, 10)
        and row[5] in ("+", "-", ".")
        and all(_NUMBER.fullmatch(value) for value in row[6:9])
        and (len(row) == 9 or row[9].lstrip("-").isdigit())
    )
