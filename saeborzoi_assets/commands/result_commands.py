"""Commands that look at results or remove them: query, trace, clean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saeborzoi.catalog.store import Store
from saeborzoi.errors import SaeBorzoiError
from saeborzoi.settings.load import load_settings
from saeborzoi_assets.commands.query import Format, write_result
from saeborzoi_assets.commands.terminal import EXIT_FAILED, AsJson, print_json, terminal_of


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (query, trace, clean):
        app.command()(command)


def query(
    context: typer.Context,
    sql: Annotated[str, typer.Argument(help="One statement with a result, e.g. 'FROM sae'.")],
    format: Annotated[
        Format, typer.Option(help="How the result is written; always all of it.")
    ] = Format.TABLE,
    output: Annotated[Path | None, typer.Option(help="File to write; needed for parquet.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run SQL on the catalogue, read-only, and print the whole result.

    Example: saeborzoi query "FROM transcription_factor" --format csv --output factors.csv
    """
    from saeborzoi.catalog.catalog import Catalog

    settings = load_settings(terminal_of(context).settings_file)
    catalog = Catalog(Store(settings.project.store).catalog)
    write_result(catalog, sql, Format.JSON if as_json else format, output)


def trace(
    context: typer.Context,
    key: Annotated[
        str, typer.Argument(help="A node 'KEY|n0003', an SAE's partition key, or a layer.")
    ],
    as_json: AsJson = False,
) -> None:
    """What a result was made from, and whether it still holds (exit code 1 where not)."""
    from saeborzoi_resources.platform import Platform
    from saeborzoi_resources.upkeep.first_release import take_over
    from saeborzoi_resources.upkeep.trace import as_text
    from saeborzoi_resources.upkeep.trace import trace as trace_back

    platform = Platform(settings_file=str(terminal_of(context).settings_file))
    take_over(platform)
    result = trace_back(platform, key)
    if as_json:
        links = [link._asdict() for link in result.links]
        print_json({"key": result.key, "is_current": result.is_current, "links": links})
    else:
        print(as_text(result))
    if not result.is_current:
        raise typer.Exit(EXIT_FAILED)


def clean(
    context: typer.Context,
    target: Annotated[
        str | None,
        typer.Argument(help="A layer with all of its SAEs, an SAE, a node, or variants=NAME."),
    ] = None,
    nodes: Annotated[
        str | None, typer.Option(help="Only these nodes of the SAE, e.g. 3,7-9.")
    ] = None,
    orphans: Annotated[
        bool,
        typer.Option("--orphans", help="Files that no result refers to, and the reverse."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; without, only say what.")] = False,
) -> None:
    """Say what removing results would remove; with --yes, remove it."""
    from saeborzoi_assets.commands.removal import parse_target, remove, remove_orphans

    if (target is None) == (not orphans):
        raise SaeBorzoiError("clean takes either a layer, SAE or node, or --orphans")
    settings_file = terminal_of(context).settings_file
    if target is None:
        if nodes is not None:
            raise SaeBorzoiError("--nodes goes with an SAE's partition key, not with --orphans")
        print(remove_orphans(settings_file, for_good=yes))
        return
    owner, wanted_nodes = parse_target(target, nodes)
    print(remove(settings_file, owner, wanted_nodes, for_good=yes))
