"""Commands on the user's data files: data check, data prepare."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from saeborzoi.errors import InputError
from saeborzoi.genome.file_kinds import Kind
from saeborzoi.genome.public_files import prepare
from saeborzoi_assets.commands.terminal import EXIT_FAILED, terminal_of

data = typer.Typer(help="Tell what a data file is, and make public files ready.")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(data, name="data")


@data.command("check")
def check_files(
    files: Annotated[list[Path], typer.Argument(help="FASTA, BED, GTF, MEME, shards ...")],
) -> None:
    """Tell each file from its content: what it is, which build, what to do with it.

    Example: saeborzoi data check hg38.fa.gz rmsk.txt.gz GRCh38-cCREs.bed
    """
    from saeborzoi_resources.upkeep.data_files import describe

    failed = False
    for path in files:
        try:
            print(f"{path}: {describe(path)}", flush=True)
        except InputError as error:
            failed = True
            print(f"FAIL  {error}", flush=True)
    if failed:
        raise typer.Exit(EXIT_FAILED)


@data.command("prepare")
def prepare_file(
    context: typer.Context,
    kind: Annotated[Kind, typer.Argument(help="What the file is.")],
    file: Annotated[Path, typer.Argument(help="The file as it is distributed.")],
    output: Annotated[Path | None, typer.Option(help="BED to write; default: beside it.")] = None,
    label: Annotated[
        str | None, typer.Option(help="Class of the peaks; default: the file's name.")
    ] = None,
) -> None:
    """Turn a public file into BED with the class in column 6, as the settings take it.

    Example: saeborzoi data prepare rmsk rmsk.txt.gz --output repeats.bed
    """
    if file.is_dir():
        raise InputError(f"{file}: is a folder; name the file as it is distributed")
    target = output or file.with_name(f"{file.name.split('.')[0]}.{kind}.bed")
    if target.exists():
        raise InputError(f"{target} exists; move it away or name another --output")
    done = prepare(kind, file, target, label)
    terminal = terminal_of(context)
    terminal.say(f"{done.path}: {done.n_rows:,} intervals, {len(done.classes)} classes")
    for name, number in islice(done.classes.items(), 12):
        terminal.say(f"  {number:>10,}  {name}")
    if len(done.classes) > 12:
        terminal.say(f"  and {len(done.classes) - 12} more classes")
    terminal.say(f'in the settings:\n\n[[data.annotation]]\nname = "{kind}"\npath = "{done.path}"')
