"""The command `label`: what people call nodes, for everybody who reads the project."""

from __future__ import annotations

import getpass
import os
from typing import Annotated

import typer

from saeborzoi.catalog.store import Store
from saeborzoi.settings.load import load_settings
from saeborzoi_assets.commands.terminal import terminal_of


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(label)


def label(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="Partition key of the SAE.")],
    node: Annotated[int | None, typer.Argument(help="Node; left out, labels are listed.")] = None,
    text: Annotated[
        str | None, typer.Argument(help="What you call it, one line; '' takes the label away.")
    ] = None,
    author: Annotated[
        str | None, typer.Option(help="Who says so; left out, the user of this machine.")
    ] = None,
) -> None:
    """Label a node, for everybody: in the catalogue, on the pages at once, in exports.

    Example: saeborzoi label conv1d_1_x4_k0.05_lr0.003_s0 135 "AP-1 half site"
    """
    from saeborzoi.browser.labels import write_labels
    from saeborzoi.catalog.labels import TABLE, put_label
    from saeborzoi.project.project import open_project

    terminal = terminal_of(context)
    sae = open_project(terminal.settings_file).sae(key)
    if node is not None:
        sae.node(node)  # refused where the SAE has no such node
    if node is None or text is None:
        rows = sae.table(TABLE)
        for row in rows[rows["node"].eq(node) if node is not None else slice(None)].itertuples():
            print(f"{row.node}\t{row.label}\t{row.author}\t{row.labelled_at:%Y-%m-%d}")
        return
    store = Store(load_settings(terminal.settings_file).project.store)
    store.require_writable()
    labels = put_label(sae.catalog, store, key, node, text, author or _user())
    if store.browser.is_dir():
        write_labels(labels, store.browser, key)
    terminal.say(f"node {node} of {key}: {text or 'no label'}")


def _user() -> str:
    """Name of who runs this; the number of one that has no name, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
