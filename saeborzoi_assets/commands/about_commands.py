"""Commands about the installation itself: licences."""

from __future__ import annotations

import typer

from saeborzoi_assets.commands.terminal import AsJson, print_json, terminal_of


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(licences)


def licences(context: typer.Context, as_json: AsJson = False) -> None:
    """List every package that this installation rests on, with version and licence."""
    from saeborzoi_resources.upkeep.licences import packages

    found = packages()
    if as_json:
        print_json([package._asdict() for package in found])
        return
    width = max(len(package.name) for package in found)
    for package in found:
        print(f"{package.name:{width}}  {package.version:12}  {package.licence}")
    terminal_of(context).say(
        f"\n{len(found)} packages, as their own metadata state it; saeborzoi itself is MIT"
    )
