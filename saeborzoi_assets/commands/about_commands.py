"""Commands that tell others: a report of the project, experiment trackers, the licences
of what it rests on; and what an installation wants once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from saeborzoi.files import write_file
from saeborzoi_assets.commands.terminal import AsJson, print_json, terminal_of


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(report)
    app.command()(push)
    app.command()(licences)
    app.command("compile")(compile_loops)


class Tracker(StrEnum):
    """Experiment trackers."""

    MLFLOW = "mlflow"
    WANDB = "wandb"


def report(
    context: typer.Context,
    keys: Annotated[
        list[str] | None,
        typer.Argument(help="SAEs to show one by one; left out, those with most archetypes."),
    ] = None,
    output: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
) -> None:
    """Write one HTML file of the project: data, SAEs, families with logos, methods, references.

    Example: saeborzoi report --output supplement.html
    """
    from saeborzoi.project import open_project
    from saeborzoi.report import report_page

    page = report_page(open_project(terminal_of(context).settings_file), keys or ())
    with write_file(output) as temporary:
        temporary.write_text(page)
    terminal_of(context).say(f"{output}: {len(page) / 1e6:.1f} MB; open it, or print it to PDF")


def push(
    context: typer.Context,
    tracker: Annotated[Tracker, typer.Argument(help="Where to.")],
    keys: Annotated[
        list[str] | None, typer.Argument(help="SAEs; left out, all that are trained.")
    ] = None,
) -> None:
    """Tell an experiment tracker of SAEs: hyperparameters, metrics, training log, plots.

    Example: MLFLOW_TRACKING_URI=sqlite:///mlflow.db saeborzoi push mlflow
    """
    from saeborzoi.project import open_project
    from saeborzoi.report.trackers import push as push_run
    from saeborzoi.report.trackers import sae_run

    project = open_project(terminal_of(context).settings_file)
    for key in keys or project.saes:
        place = push_run(sae_run(project.sae(key)), tracker.value, project.settings.project.name)
        print(f"{key}: {place}", flush=True)


def licences(context: typer.Context, as_json: AsJson = False) -> None:
    """List every package that this installation rests on, with version and licence."""
    from saeborzoi_resources.upkeep.licences import packages

    package_list = packages()
    if as_json:
        print_json([package._asdict() for package in package_list])
        return
    width = max(len(package.name) for package in package_list)
    for package in package_list:
        print(f"{package.name:{width}}  {package.version:12}  {package.licence}")
    terminal_of(context).say(
        f"\n{len(package_list)} packages, as their own metadata state it; saeborzoi itself is MIT"
    )


def compile_loops(context: typer.Context) -> None:
    """Compile the loops that would be compiled at their first use; one to two minutes, once.

    Example: saeborzoi compile
    """
    from saeborzoi.stages import compilation

    terminal = terminal_of(context)
    terminal.say("compiling loops: once, one to two minutes on two cores")
    terminal.say(f"compiled in {compilation.compile_loops():.0f} s")
