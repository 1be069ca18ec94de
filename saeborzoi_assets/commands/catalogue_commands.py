"""Commands that save and bring back the catalogue: rebuild, backup, restore."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from saeborzoi.catalog.catalog import Catalog
from saeborzoi.catalog.store import Store
from saeborzoi.errors import CatalogError
from saeborzoi.settings.load import load_settings
from saeborzoi_assets.commands.terminal import terminal_of

_app = typer.Typer(
    help="Make the catalogue again from the artifacts, copy it, bring a copy back.",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(_app, name="catalogue")


def _catalog(context: typer.Context) -> Catalog:
    settings_file = terminal_of(context).settings_file
    return Catalog(Store(load_settings(settings_file).project.store).catalog)


@_app.command()
def rebuild(context: typer.Context) -> None:
    """Make the catalogue again from the artifacts of the store; the former file is kept."""
    from saeborzoi.catalog.rebuild import rebuild as rebuild_catalogue
    from saeborzoi_resources.platform import Platform
    from saeborzoi_resources.upkeep.first_release import take_over

    terminal = terminal_of(context)
    with contextlib.suppress(CatalogError):  # damaged, which is why it is made again
        take_over(Platform(settings_file=str(terminal.settings_file)))
    catalog = _catalog(context)
    rebuilt = rebuild_catalogue(catalog)
    for problem in rebuilt.problems:
        terminal.say(f"left out  {problem}")
    print(f"{catalog.path}: {rebuilt.n_rows:,} rows of {rebuilt.n_artifacts} artifacts")
    if rebuilt.former is not None:
        print(f"the former file is {rebuilt.former}; remove it when you are content")
    if rebuilt.problems:
        raise typer.Exit(1)


@_app.command()
def backup(
    context: typer.Context, file: Annotated[Path, typer.Argument(help="Where the copy goes.")]
) -> None:
    """Copy the catalogue, with its last write, while nobody writes.

    Example: saeborzoi catalogue backup catalogue-2026-01-31.duckdb
    """
    from saeborzoi.catalog.rebuild import backup as copy_catalogue

    copy_catalogue(_catalog(context), file)
    print(f"{file} is a copy of the catalogue")


@_app.command()
def restore(
    context: typer.Context, file: Annotated[Path, typer.Argument(help="A copy that backup made.")]
) -> None:
    """Put a copy in the catalogue's place; the former file is kept.

    Example: saeborzoi catalogue restore catalogue-2026-01-31.duckdb
    """
    from saeborzoi.catalog.rebuild import restore as bring_back

    catalog = _catalog(context)
    former = bring_back(catalog, file)
    print(f"{catalog.path} is the copy {file} now")
    if former is not None:
        print(f"the former file is {former}; remove it when you are content")
