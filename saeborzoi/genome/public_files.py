"""Public annotation as it is distributed, made into what the settings take.

Out comes BED with the class in column 6, as sae-borzoi has it: chrom, start, end, name, strand,
class. Intervals are 0-based and half-open; what a format counts from 1 is converted here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np

from saeborzoi.errors import InputError
from saeborzoi.files import write_file
from saeborzoi.genome.file_kinds import (
    ACCESSION,
    CCRE_CLASSES,
    RMSK_COLUMNS,
    RMSK_HEAD,
    Kind,
    is_of_repeatmasker,
    lines_of,
)

BUILDS = {
    "hg38": {"chr1": 248_956_422, "chr2": 242_193_529, "chrX": 156_040_895},
    "hg19": {"chr1": 249_250_621, "chr2": 243_199_373, "chrX": 155_270_560},
    "T2T-CHM13": {"chr1": 248_387_328, "chr2": 242_696_752, "chrX": 154_259_566},
    "mm10": {"chr1": 195_471_971, "chr2": 182_113_224, "chrX": 171_031_299},
    "mm39": {"chr1": 195_154_279, "chr2": 181_755_017, "chrX": 169_476_592},
}
"""Sizes in bp of some chromosomes, by which a genome is recognised (UCSC's chrom.sizes)."""

_STRANDS = {"+": "+", "-": "-", "C": "-"}
_GTF_ATTRIBUTE = re.compile(r'(\w+) "([^"]*)"')
_GFF_ATTRIBUTE = re.compile(r"(\w+)=([^;]*)")


class Row(NamedTuple):
    """One interval, 0-based and half-open, with its name, strand (+, - or .) and class."""

    chrom: str
    start_bp: int
    end_bp: int
    name: str
    strand: str
    annotation_class: str


class Prepared(NamedTuple):
    """What was written: file, number of intervals, and how many of each class."""

    path: Path
    n_rows: int
    classes: dict[str, int]


def prepare(kind: Kind, path: Path, output: Path, label: str | None = None) -> Prepared:
    """Make a public file into BED with the class in column 6.

    Parameters
    ----------
    kind
        ``ccre``: ENCODE's registry as SCREEN has it, or UCSC's bigBed.
        ``rmsk``: UCSC's rmsk.txt, or RepeatMasker's .out; the class is the repeat's family.
        ``gencode``: GTF, or GFF3 with gene_id as GENCODE has it; exons and introns of each gene,
        with its name.
        ``narrowpeak``: peaks, all of one class.
    path
        The file, plain or gzipped text, or bigBed, which needs the extra `bigwig`.
    output
        BED to write, whole or not at all.
    label
        Class of the peaks; None takes the file's name.

    Raises
    ------
    InputError
        Where the file is of another kind, or a line cannot be right; names the line.
    MissingPackageError
        Where it is a bigBed, and pybigtools is not installed.
    """
    readers: dict[Kind, Callable[[], Iterator[Row]]] = {
        Kind.CCRE: lambda: _ccre(path),
        Kind.RMSK: lambda: _rmsk(path),
        Kind.GENCODE: lambda: _gencode(path),
        Kind.NARROWPEAK: lambda: _narrowpeak(path, label or path.name.split(".")[0]),
    }
    classes: Counter[str] = Counter()
    with write_file(output) as temporary, temporary.open("w") as file:
        for row in readers[kind]():
            file.write("\t".join(map(str, row)) + "\n")
            classes[row.annotation_class] += 1
        if not classes:
            raise InputError(f"{path}: no interval of kind {kind} in it; bring the file anew")
    return Prepared(output, classes.total(), dict(classes.most_common()))


def _interval(path: Path, line: int, start: str, end: str, first: int = 0) -> tuple[int, int]:
    """Start and end, 0-based; `first` is the number of the first base in the format."""
    if not (start.strip().isdigit() and end.strip().isdigit()):
        raise InputError(f"{path}, line {line}: start {start!r} or end {end!r} is no number")
    interval = int(start) - first, int(end)
    if not 0 <= interval[0] < interval[1]:
        raise InputError(f"{path}, line {line}: start {start} is not before end {end}")
    return interval


def _strand(text: str) -> str:
    return _STRANDS.get(text, ".")


def _ccre(path: Path) -> Iterator[Row]:
    column = None
    for line, text in lines_of(path):
        fields = text.split("\t")
        if column is None:
            column = _ccre_column(path, line, fields)
        if len(fields) <= column:
            raise InputError(f"{path}, line {line}: has no column {column + 1}, the class")
        group = fields[column].split(",")[0].strip()
        if group not in CCRE_CLASSES:
            raise InputError(
                f"{path}, line {line}: {fields[column]!r} is no class of cCREs; known are "
                f"{', '.join(sorted(CCRE_CLASSES))}"
            )
        start, end = _interval(path, line, fields[1], fields[2])
        name = next((f for f in fields[3:] if ACCESSION.fullmatch(f)), fields[3])
        yield Row(fields[0], start, end, name, ".", group)


def _ccre_column(path: Path, line: int, fields: list[str]) -> int:
    for column in range(3, len(fields)):
        if fields[column].split(",")[0].strip() in CCRE_CLASSES:
            return column
    raise InputError(
        f"{path}, line {line}: no column holds a class of cCREs (such as PLS, pELS, dELS); needed "
        "is ENCODE's GRCh38-cCREs.bed or UCSC's encodeCcreCombined.bb"
    )


def _rmsk(path: Path) -> Iterator[Row]:
    for line, text in lines_of(path):
        fields = text.split("\t")
        if len(fields) == RMSK_COLUMNS:  # UCSC's table, 0-based
            start, end = _interval(path, line, fields[6], fields[7])
            chrom, strand, name, family = fields[5], fields[9], fields[10], fields[12]
        else:
            fields = text.split()
            if fields[0] in RMSK_HEAD:
                continue
            if not is_of_repeatmasker(fields):
                raise InputError(
                    f"{path}, line {line}: neither a row of UCSC's rmsk.txt ({RMSK_COLUMNS} "
                    "columns) nor of RepeatMasker's .out; bring one of the two"
                )
            start, end = _interval(path, line, fields[5], fields[6], first=1)
            chrom, strand, name = fields[4], fields[8], fields[9]
            family = fields[10].split("/")[-1]
        yield Row(chrom, start, end, name, _strand(strand), family)


class GtfLine(NamedTuple):
    """One line of a GTF, 0-based and half-open, with its gene's identifier and name (the identifier
    where it has none); `line` is its 1-based number."""

    line: int
    feature: str
    chrom: str
    start_bp: int
    end_bp: int
    strand: str
    gene_id: str
    name: str


def gtf_lines(path: Path, features: Collection[str]) -> Iterator[GtfLine]:
    """Lines of a GTF of some features, e.g. exon; of a GFF3, too, where they have gene_id.

    Raises
    ------
    InputError
        Where it is no GTF; names the line.
    """
    for line, text in lines_of(path):
        fields = text.split("\t")
        if len(fields) != 9:
            raise InputError(f"{path}, line {line}: {len(fields)} columns; a GTF has 9")
        if fields[2] not in features:
            continue
        attributes: dict[str, str] = dict(_GTF_ATTRIBUTE.findall(fields[8]))
        if not attributes:
            attributes = {name: unquote(v) for name, v in _GFF_ATTRIBUTE.findall(fields[8])}
        gene = attributes.get("gene_id")
        if gene is None:
            raise InputError(
                f'{path}, line {line}: an {fields[2]} without gene_id "..."; bring a GTF'
            )
        start, end = _interval(path, line, fields[3], fields[4], first=1)
        name = attributes.get("gene_name") or gene
        yield GtfLine(line, fields[2], fields[0], start, end, _strand(fields[6]), gene, name)


def _gencode(path: Path) -> Iterator[Row]:
    """Exons of each gene, merged over its transcripts, and what lies between them."""
    chrom: dict[str, tuple[str, str, str]] = {}
    exons: dict[str, list[tuple[int, int]]] = {}
    for line in gtf_lines(path, ("exon",)):
        # a gene of the pseudo-autosomal regions stands on both X and Y
        owner = f"{line.gene_id} {line.chrom}"
        chrom.setdefault(owner, (line.chrom, line.strand, line.name))
        exons.setdefault(owner, []).append((line.start_bp, line.end_bp))

    from saeborzoi.genome.intervals import Intervals, merge  # and with it pandas

    for owner, intervals in exons.items():
        where, strand, name = chrom[owner]
        start, end = np.array(intervals, np.int64).T
        _, merged = merge(np.zeros(len(start), np.int64), Intervals(start, end))
        edges = list(zip(merged.start.tolist(), merged.end.tolist(), strict=True))
        for number, (a, b) in enumerate(edges):
            yield Row(where, a, b, name, strand, "exon")
            if number + 1 < len(edges):
                yield Row(where, b, edges[number + 1][0], name, strand, "intron")


def _narrowpeak(path: Path, label: str) -> Iterator[Row]:
    for line, text in lines_of(path):
        fields = text.split("\t")
        if len(fields) not in (9, 10):
            raise InputError(
                f"{path}, line {line}: {len(fields)} columns; narrowPeak has 10, broadPeak 9"
            )
        start, end = _interval(path, line, fields[1], fields[2])
        yield Row(fields[0], start, end, fields[3] or ".", _strand(fields[5]), label)


def build_of(sizes: dict[str, int]) -> str | None:
    """Genome build whose chromosomes have these sizes in bp; None where none fits.

    >>> build_of({"chr1": 248_956_422, "chrM": 16_569})
    'hg38'
    """
    plain = {name.removeprefix("chr"): size for name, size in sizes.items()}
    for build, known in BUILDS.items():
        shared = [name for name in known if name.removeprefix("chr") in plain]
        if shared and all(plain[name.removeprefix("chr")] == known[name] for name in shared):
            return build
    return None


def builds_that_hold(ends: dict[str, int]) -> list[str]:
    """Builds whose chromosomes are long enough for the last base of each chromosome's intervals."""
    plain = {name.removeprefix("chr"): end for name, end in ends.items()}
    return [
        build
        for build, known in BUILDS.items()
        if all(plain.get(name.removeprefix("chr"), 0) <= size for name, size in known.items())
    ]
