"""The command `saeborzoi`: its options and commands. What the words do stands elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from saeborzoi import __version__
from saeborzoi.settings.load import FILE_NAME
from saeborzoi_assets.commands import (
    about_commands,
    catalogue_commands,
    data_commands,
    export_commands,
    label_commands,
    model_commands,
    project_commands,
    result_commands,
    settings_commands,
    variant_commands,
)
from saeborzoi_assets.commands.terminal import Terminal, run_command

app = typer.Typer(
    name="saeborzoi",
    help="Named features from a DNA model's activations, as Dagster assets.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for commands in (
    project_commands,
    result_commands,
    settings_commands,
    data_commands,
    catalogue_commands,
    model_commands,
    variant_commands,
    export_commands,
    label_commands,
    about_commands,
):
    commands.register(app)


def _version(is_asked: bool) -> None:
    if is_asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    project: Annotated[
        Path | None,
        typer.Option(help=f"{FILE_NAME} or its folder; default: found as Dagster finds it."),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print results and errors only.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print progress line by line.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of every command."""
    context.obj = Terminal(project=project, quiet=quiet, verbose=verbose)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, as `run_command` says."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return run_command(app, given)
