"""A first `dagster_project.toml` from the files that lie in a folder: what `saeborzoi init` writes.

Files are told by their content, not by their names alone; what cannot be told is left as a line to
fill in. Nothing is read but heads of files and the shapes of shards.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from saeborzoi.errors import InputError, SaeBorzoiError
from saeborzoi.genome.file_kinds import require_ready
from saeborzoi_resources.upkeep.data_files import (
    SHARD,
    Shards,
    bed_rows,
    class_column,
    head,
    look_at_shards,
)

_WINDOW_BP, _SEQUENCE_BP = 196_608, 524_288
_DEPTH = 3
_FASTA = re.compile(r"\.(fa|fasta|fna)(\.gz|\.bgz)?$", re.IGNORECASE)
_BED = re.compile(r"\.bed(\.gz)?$", re.IGNORECASE)
_INTERVALS = re.compile(
    r"\.(bed|gtf|gff3?|txt|out|(narrow|broad)peak|bb|bigbed)(\.gz)?$", re.IGNORECASE
)
_MEME = re.compile(r"\.(meme|txt)$", re.IGNORECASE)
_WIDTH = "seqlet_width_bp = 24             # fill in: the receptive field is a good width"


class Draft(NamedTuple):
    """Text of a settings file, what was found for it, what is still to be filled in, and which
    public files lie there that must be made ready first, with the command."""

    text: str
    inputs: list[str]
    missing: list[str]
    unready: list[str]


def draft_settings(folder: Path) -> Draft:
    """Settings for the files of a folder and its subfolders.

    Parameters
    ----------
    folder
        Looked through three levels deep, also through links to folders; hidden folders and a
        store are left out.

    Raises
    ------
    InputError
        Where the folder is none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name the one that holds your files")
    files = sorted(_files(folder))
    inputs: list[str] = []
    missing: list[str] = []
    lines = [
        "# Settings of this project; `saeborzoi check` looks at every input in seconds.",
        "# Relative paths start at this file. What is left out has its default (docs: settings).",
        "",
        "[project]",
        f'name = "{re.sub(r"[^A-Za-z0-9_.-]+", "_", folder.name).strip("_.-") or "project"}"',
        'store = "store"                  # results and the catalogue go here',
        "",
        "[data]",
        *_genome(folder, files, inputs, missing),
        *_annotation(folder, files, inputs),
        *_motifs(folder, files, inputs),
    ]
    layers = _layers(folder, files, inputs, missing)
    text = "\n".join([*lines, *layers, *_sae(layers), *_AUTOMATION]) + "\n"
    return Draft(text, inputs, missing, list(_unready(files)))


_AUTOMATION = [
    "",
    "# What is launched by itself while `saeborzoi ui` runs: nothing, unless one of these is on",
    "[automation]",
    "at_once = false                  # true: what an SAE lacks is made as soon as it is seen",
    '# schedule = "0 22 * * *"        # cron, local time: one backfill over all that is missing',
]


def _files(folder: Path) -> Iterator[Path]:
    visited = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        here = Path(root)
        if here.resolve() in visited:  # a link to a folder that holds it, or a second one
            folders.clear()
            continue
        visited.add(here.resolve())
        too_deep = len(here.relative_to(folder).parts) >= _DEPTH
        folders[:] = [] if too_deep else sorted(
            name for name in folders
            if not name.startswith(".") and not (here / name / "catalog.duckdb").exists()
            # the one that the draft names, which has no catalogue before the first result
            and here / name != folder / "store"
        )  # fmt: skip
        yield from (here / name for name in names if not name.startswith("."))


def _quoted(path: Path, folder: Path) -> str:
    text = path.relative_to(folder).as_posix()
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _genome(folder: Path, files: list[Path], inputs: list[str], missing: list[str]) -> list[str]:
    fasta = [path for path in files if _FASTA.search(path.name) and head(path, 1)[:1]]
    fasta = [path for path in fasta if head(path, 1)[0].startswith(">")]
    if not fasta:
        missing.append("a genome: FASTA, plain or gzipped")
        return ['genome = "hg38.fa.gz"             # fill in: FASTA, plain or gzipped']
    largest = max(fasta, key=lambda path: path.stat().st_size)
    inputs.append(f"genome {largest.relative_to(folder)}")
    others = [path for path in fasta if path != largest]
    note = f"   # the largest of {len(fasta)} FASTA files" if others else ""
    return [f"genome = {_quoted(largest, folder)}{note}"]


def _annotation(folder: Path, files: list[Path], inputs: list[str]) -> list[str]:
    lines = []
    for path in files:
        if not _BED.search(path.name):
            continue
        rows = bed_rows(path)
        column = class_column(rows)
        if column is None:
            continue
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", path.name.split(".")[0]).strip("_-") or "annotation"
        n_classes = len({row[column].strip() for row in rows})
        lines += [
            "",
            "[[data.annotation]]",
            f'name = "{name}"',
            f"path = {_quoted(path, folder)}",
            *([f"class_column = {column + 1}"] if column != 5 else []),
        ]
        inputs.append(
            f"annotation {path.relative_to(folder)}: class in column {column + 1}, "
            f"{n_classes} in its first rows"
        )
    return lines


def _unready(files: list[Path]) -> Iterator[str]:
    """What is wrong with files of intervals, or what makes them ready."""
    for path in files:
        if _INTERVALS.search(path.name):
            column = class_column(bed_rows(path))
            try:
                require_ready(path, 6 if column is None else column + 1)
            except SaeBorzoiError as error:
                yield str(error)


def _motifs(folder: Path, files: list[Path], inputs: list[str]) -> list[str]:
    lines = []
    for path in files:
        if not _MEME.search(path.name):
            continue
        lines_of = head(path, 20)
        if not any(line.startswith("MEME version") for line in lines_of):
            continue
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", path.stem).strip("_-") or "known"
        lines += [
            "",
            "[[data.motif_database]]",
            f'name = "{name}"',
            f"source = {_quoted(path, folder)}",
        ]
        inputs.append(f"motif database {path.relative_to(folder)}")
    if lines:
        return lines
    return [
        "",
        "# known motifs: JASPAR 2024 comes with the installation; a file in MEME format instead:",
        "# [[data.motif_database]]",
        '# name = "archetypes"',
        '# source = "archetypes.meme"',
    ]


def _layers(folder: Path, files: list[Path], inputs: list[str], missing: list[str]) -> list[str]:
    sets = [
        look_at_shards(shards, folder, files)
        for shards in sorted({path.parent for path in files if SHARD.match(path.name)})
    ]
    if not sets:
        missing.append("shards: folders with activations_0.h5, activations_1.h5, ...")
        return [*_layer_lines("my_layer", None, None, folder, missing)]
    lines: list[str] = []
    names: list[str] = []
    training = [shards for shards in sets if not shards.is_validation] or sets
    for shards in training:
        name = base = _layer_name(shards.folder, folder)
        names.append(name)
        if names.count(name) > 1:
            name = f"{base}_{names.count(base)}"
        pair = next(
            (
                other for other in sets
                if other is not shards and other.is_validation
                and other.n_channels == shards.n_channels
                and other.n_positions == shards.n_positions
            ),
            None,
        )  # fmt: skip
        lines += _layer_lines(name, shards, pair, folder, missing)
        inputs.append(
            f"shards {shards.folder.relative_to(folder) or '.'}: layer {name}, "
            f"{shards.n_channels} channels, {shards.n_positions} positions a row"
            + (f"; validation {pair.folder.relative_to(folder)}" if pair else "")
        )
    return lines


def _layer_name(shards: Path, folder: Path) -> str:
    parts = [part for part in shards.relative_to(folder).parts if part]
    named = [part for part in parts if part.startswith("conv1d_")]
    usual = [
        part for part in parts
        if part.lower() not in ("activations", "train", "training", "shards", "data")
    ]  # fmt: skip
    chosen = (named or usual or ["my_layer"])[-1]
    return re.sub(r"[^A-Za-z0-9]+", "_", chosen).strip("_") or "my_layer"


def _layer_lines(
    name: str, shards: Shards | None, validation: Shards | None, folder: Path, missing: list[str]
) -> list[str]:
    from saeborzoi.settings.sections import PUBLISHED_SEQLET_WIDTHS

    lines = ["", "[[layer]]", f'name = "{name}"']
    if shards is None:
        lines += [
            "n_channels = 608                 # fill in: last axis of the shards",
            "bp_per_position = 2              # fill in",
            _WIDTH,
            'train = { shards = "activations", windows = "train_seqs.bed" }   # fill in',
        ]
        return lines
    lines.append(f"n_channels = {shards.n_channels}")
    lines += _geometry(name, shards, missing)
    if name not in PUBLISHED_SEQLET_WIDTHS:
        missing.append(f"seqlet width of layer {name}: its receptive field in bp")
        lines.append(_WIDTH)
    for key, part in (("train", shards), ("validation", validation)):
        if part is None:
            continue
        windows = part.windows
        if windows is None:
            missing.append(f"windows of {part.folder.relative_to(folder)}: BED, a line a row")
        text = _quoted(windows, folder) if windows else '"train_seqs.bed"'
        note = "" if windows else "   # fill in: BED with a line for each row of the shards"
        lines.append(
            f"{key} = {{ shards = {_quoted(part.folder, folder)}, windows = {text} }}{note}"
        )
    return lines


def _geometry(name: str, shards: Shards, missing: list[str]) -> list[str]:
    """Base pairs a position and padding, from the windows' width and the number of positions."""
    width, n = shards.window_bp, shards.n_positions
    if width == _WINDOW_BP and _SEQUENCE_BP % n == 0:
        pad = (_SEQUENCE_BP - _WINDOW_BP) // 2
        return [
            f"bp_per_position = {_SEQUENCE_BP // n}",
            f"pad_bp = {pad}                  # what the model saw on either side of each window",
        ]
    if width is not None and width % n == 0:
        return [f"bp_per_position = {width // n}", "pad_bp = 0"]
    missing.append(f"geometry of layer {name}: bp_per_position, pad_bp")
    return [
        f"bp_per_position = 1              # fill in: {n} positions a row"
        + (f", windows of {width} bp" if width else ""),
        "pad_bp = 0                       # fill in: what the model saw on either side",
    ]


def _sae(layers: list[str]) -> list[str]:
    """An SAE for each layer, with at least one active node a position."""
    lines = []
    for entry in "\n".join(layers).split("[[layer]]")[1:]:
        name = entry.split('"')[1]
        channels = re.search(r"^n_channels = (\d+)", entry, re.MULTILINE)
        topk = max(0.05, math.ceil(1000 / int(channels[1])) / 1000 if channels else 0.05)
        lines += [
            "",
            "[[sae]]                          # a list in place of a value makes a grid",
            f'layer = "{name}"',
            "expansion = 4                    # nodes for each channel",
            f"topk = {topk:g}                      # active nodes, as a share of the channels",
        ]
    return lines
