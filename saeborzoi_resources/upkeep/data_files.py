"""What a data file is, told from its content: heads of files and shapes of shards are looked at."""

from __future__ import annotations

import gzip
import re
import tempfile
from collections import Counter, deque
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from saeborzoi.errors import InputError
from saeborzoi.genome.bed import read_bed
from saeborzoi.genome.file_kinds import (
    OTHER_BIGBED,
    VCF_HEAD,
    Kind,
    bigbed_lines,
    kind_of_lines,
    made_ready_by,
    require_ready,
)
from saeborzoi.genome.public_files import build_of, builds_that_hold
from saeborzoi.reading import HEAD_BYTES, is_bigbed, is_gzipped, kind_of, opened

SHARD = re.compile(r"activations_(\d+)\.h5$")
_VALIDATION = re.compile(r"(^|[_\W])(val|valid|validation|test)([_\W]|$)", re.IGNORECASE)
_FEW_CLASSES = 200
_HEAD_LINES = 2000


class Shards(NamedTuple):
    """A folder of shards: where it lies, also from the project's folder, the shape of a row, and
    the BED beside it whose windows are all of one width, with that width in bp."""

    folder: Path
    inside: Path
    n_positions: int
    n_channels: int
    windows: Path | None
    window_bp: int | None

    @property
    def is_validation(self) -> bool:
        """Whether a part of the path says so: val, valid, validation or test."""
        return any(_VALIDATION.search(part) for part in self.inside.parts)


def head(path: Path, n_lines: int = _HEAD_LINES) -> list[str]:
    """First lines of a text file, plain or gzipped; none where it is no text, or cannot be read."""
    try:
        open_text = gzip.open if is_gzipped(path) else open
        with open_text(path, "rt", encoding="utf-8") as file:
            return [line.rstrip("\r\n") for _, line in zip(range(n_lines), file, strict=False)]
    except (OSError, UnicodeDecodeError, EOFError):
        return []


def bed_rows(path: Path) -> list[list[str]]:
    """Fields of those of a file's first lines that are intervals."""
    rows = [line.split("\t") for line in head(path) if line and not line.startswith("#")]
    return [
        row
        for row in rows
        if len(row) >= 3 and row[1].strip().isdigit() and row[2].strip().isdigit()
    ]


def class_column(rows: list[list[str]]) -> int | None:
    """0-based column that holds classes: few different words, repeated; the sixth first."""
    if len(rows) < 2:
        return None
    width = min(len(row) for row in rows)
    for column in sorted(range(3, width), key=lambda column: (column != 5, column)):
        values = Counter(row[column].strip() for row in rows)
        words = [value for value in values if value not in ("", ".", "+", "-")]
        is_number = all(re.fullmatch(r"[-+]?[\d.,]+(e[-+]?\d+)?", word) for word in words)
        if words and not is_number and len(words) <= min(_FEW_CLASSES, len(rows) / 2):
            return column
    return None


def look_at_shards(shards: Path, project: Path, files: list[Path]) -> Shards:
    """What a folder of shards holds, by its first shard.

    Raises
    ------
    InputError
        Where that is no HDF5 file, or holds no dataset of three axes.
    """
    import h5py

    first = min(
        (path for path in files if path.parent == shards and SHARD.match(path.name)),
        key=lambda path: int(SHARD.match(path.name)[1]),  # type: ignore[index]
    )
    try:
        with h5py.File(first) as file:
            shapes = [data.shape for data in file.values() if isinstance(data, h5py.Dataset)]
    except OSError as error:
        raise InputError(f"{first}: no HDF5 file that can be read ({error})") from None
    shape = next((shape for shape in shapes if len(shape) == 3), None)
    if shape is None:
        raise InputError(
            f"{first}: holds no dataset (n_sequences, n_positions, n_channels), but {shapes}"
        )
    inside = shards.relative_to(project)
    beside = [*sorted(shards.glob("*.bed")), *sorted(shards.parent.glob("*.bed"))]
    beside.sort(key=lambda path: (path.name != "train_seqs.bed", path.parent != shards))
    for windows in beside:
        widths = {end - start for start, end in _intervals(windows)}
        if len(widths) == 1:
            return Shards(shards, inside, shape[1], shape[2], windows, widths.pop())
    return Shards(shards, inside, shape[1], shape[2], None, None)


def _intervals(path: Path) -> list[tuple[int, int]]:
    """Intervals of plain BED, or of sae-borzoi's table, whose first column is a row number."""
    rows = [line.split("\t") for line in head(path, 200)]
    rows = [row for row in rows if "chunk_ind" not in row]
    for first in (1, 2):
        numbers = [
            (int(row[first]), int(row[first + 1]))
            for row in rows
            if len(row) > first + 1 and row[first].isdigit() and row[first + 1].isdigit()
        ]
        if numbers and len(numbers) == len(rows) and all(end > start for start, end in numbers):
            return numbers
    return []


def describe(path: Path) -> str:
    """What a data file is, told from its content, and what to do with it.

    Raises
    ------
    InputError
        Where it cannot be read, or is nothing that the settings take.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        shards = [file for file in path.iterdir() if SHARD.match(file.name)]
        if not shards:
            raise InputError(f"{path}: a folder without activations_<i>.h5")
        shard_set = look_at_shards(path, path, shards)
        return (
            f"{len(shards)} shards of {shard_set.n_positions} positions and "
            f"{shard_set.n_channels} channels"
        )
    first = [*islice(bigbed_lines(path), 200)] if is_bigbed(path) else head(path)
    if first[:1] and first[0].startswith(">"):
        return _described_genome(path)
    if first[:1] and first[0].startswith(VCF_HEAD.decode()):
        return "variants in VCF: the path of a [[variants]]"
    if any(line.startswith("MEME version") for line in first[:20]):
        from saeborzoi.motifs.meme_format import read_meme

        return f"motifs in MEME format, {len(read_meme(path))} of them: a [[data.motif_database]]"
    kind = kind_of_lines(first[:200])
    rows = bed_rows(path)
    if kind is Kind.CCRE and rows and all(len(row) == 6 for row in rows):
        return _described_bed(path, 5)
    if kind is not None:
        return made_ready_by(kind, path)
    column = class_column(rows)
    if column is not None:
        return _described_bed(path, column)
    if rows:
        return f"intervals without a class, {len(rows)} or more: windows, or a mask"
    with opened(path) as content:
        deque(islice(content, _HEAD_LINES), maxlen=0)  # a damaged gzip is refused in its words
    require_ready(path)
    with path.open("rb") as file:
        what = kind_of(file.read(HEAD_BYTES))
    if is_bigbed(path):
        what = OTHER_BIGBED
    raise InputError(
        f"{path}: no FASTA, BED, GTF, RepeatMasker table, MEME file or folder of shards"
        + (f"; it is {what}" if what and not is_gzipped(path) else "")
    )


def _described_genome(path: Path) -> str:
    from saeborzoi.genome.fasta import Genome

    with tempfile.TemporaryDirectory() as cache:
        sizes = Genome(path, Path(cache)).chrom_sizes
    build = build_of(sizes)
    known = f"build {build}" if build else "no build whose sizes are known here"
    return f"genome of {len(sizes)} sequences, {sum(sizes.values()):,} bp; {known}"


def _described_bed(path: Path, column: int) -> str:
    table = read_bed(path, column + 1)
    ends = table.groupby("chrom")["end_bp"].max().to_dict()
    builds = builds_that_hold({str(name): int(end) for name, end in ends.items()})
    classes = table["annotation_class"].nunique()
    setting = "" if column == 5 else f" (class_column = {column + 1})"
    return (
        f"annotation of {len(table):,} intervals, {classes} classes in column {column + 1}"
        f"{setting}; lies within {', '.join(builds) or 'no build that is known here'}"
    )
