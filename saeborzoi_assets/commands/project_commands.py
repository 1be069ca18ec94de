"""Commands that work on a whole project: check, run, demo, ui, browse."""

from __future__ import annotations

import os
import secrets
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from saeborzoi.catalog.store import Store
from saeborzoi.errors import counted
from saeborzoi.settings.artifacts import artifacts_of
from saeborzoi.settings.load import Settings, load_settings
from saeborzoi_assets.commands.terminal import (
    EXIT_FAILED,
    AsJson,
    parse_nodes,
    print_json,
    terminal_of,
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (check, run, demo, ui, browse):
        app.command()(command)


def check(
    context: typer.Context,
    compute: Annotated[
        bool, typer.Option("--compute", help="Also submit a short job to the compute backend.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look at every input of the project, in seconds and before any work.

    Example: saeborzoi check --compute
    """
    from saeborzoi_resources.upkeep.advice import all_advice
    from saeborzoi_resources.upkeep.project_check import check_project

    terminal = terminal_of(context)
    settings_file = terminal.settings_file
    settings = load_settings(settings_file)
    if not as_json:
        terminal.say(
            f"{settings_file}: {counted(len(settings.layer), 'layer')}, "
            f"{counted(len(settings.wanted()), 'SAE')} wanted"
        )
    findings = []

    def looked(what: str, ok: bool, detail: str) -> None:
        findings.append({"what": what, "ok": ok, "detail": detail})
        if not as_json and not (ok and terminal.quiet):
            print(f"{'ok  ' if ok else 'FAIL'}  {what}: {detail}", flush=True)

    for finding in check_project(settings):
        looked(*finding)
    if compute:
        from saeborzoi_resources.compute.preflight import preflight

        for what, ok, detail in preflight(settings, Store(settings.project.store).jobs):
            looked(what, ok, detail)
    failed = sum(not finding["ok"] for finding in findings)
    advised = list(all_advice(settings, settings.wanted()))
    if as_json:
        advice = [each._asdict() for each in advised]
        document = {"n_failed": failed, "findings": findings, "advice": advice}
        print_json({"settings": settings_file, **document})
    else:
        for about, text in advised:
            terminal.say(f"note  {about}: {text}")
        terminal.say(f"{failed} of the checks failed" if failed else "all checks passed")
    if failed:
        raise typer.Exit(EXIT_FAILED)


def run(
    context: typer.Context,
    key: Annotated[
        list[str] | None,
        typer.Argument(help="Partition keys; default: all SAEs that the settings ask for."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Everything, whether it stands or not.")
    ] = False,
    select: Annotated[
        list[str] | None,
        typer.Option(help="Only these stages or assets, e.g. nodes or meme_motifs; repeatable."),
    ] = None,
    to: Annotated[str | None, typer.Option(help="Up to this stage or asset.")] = None,
    nodes: Annotated[str | None, typer.Option(help="Only these nodes, e.g. 3,7-9.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and what it will take; make nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make what is missing or stale of SAEs, and nothing else; the plan comes first.

    Example: saeborzoi run --to inference --dry-run
    """
    terminal = terminal_of(context)
    settings_file = terminal.settings_file
    settings = load_settings(settings_file)
    is_new = again or not Store(settings.project.store).catalog.exists()
    is_part = select or to or nodes or dry_run
    # where there is work whatever the plan says: workers load their libraries beside this process
    with _early_workers(settings) if is_new and not is_part else nullcontext():
        from saeborzoi_assets.commands import runner
        from saeborzoi_assets.commands.progress import Display
        from saeborzoi_assets.lacking import Range

        saes = [settings.parse_key(text) for text in key or ()] or settings.wanted()
        chosen = [name for text in select or () for name in text.split(",")]
        parts = Range.of(
            chosen, to, None if nodes is None else parse_nodes(nodes), artifacts_of(settings)
        )
        quiet = terminal.quiet or as_json
        plan = None
        if dry_run or not quiet:
            plan = runner.plan(settings_file, saes, parts, again=again)
            if as_json:
                print_json(plan.document())
            else:
                print(plan.text(), flush=True)
            if dry_run or not plan.n_lacking:
                return
        display = Display(quiet=quiet, verbose=terminal.verbose)
        outcome = runner.run(
            settings_file, settings, saes, parts, again=again, display=display, planned=plan
        )
        if as_json:
            print_json(outcome.document())
        else:
            for line in outcome.lines():
                print(line, flush=True)
        raise typer.Exit(outcome.exit_code)


def _early_workers(settings: Settings) -> AbstractContextManager[None]:
    from saeborzoi_resources.compute.warm import local_workers

    jobs = [artifact.name for artifact in artifacts_of(settings) if artifact.is_job]
    return local_workers(settings.compute, jobs)


def demo(context: typer.Context) -> None:
    """Make the demo data, run everything, and compare with the known answer."""
    from saeborzoi_assets.commands.demonstration import demonstrate

    raise typer.Exit(demonstrate(terminal_of(context).project or Path.cwd()))


def ui(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 3000,
    token: Annotated[
        bool, typer.Option("--token", help="Ask for a token on loopback, too.")
    ] = False,
    i_know: Annotated[
        bool, typer.Option("--i-know", help="Ask for no token, whoever reaches --host.")
    ] = False,
) -> None:
    """Dagster's web interface and daemon for this project, until Ctrl-C."""
    from saeborzoi_assets.commands.ui import serve_ui

    settings_file = terminal_of(context).settings_file
    serve_ui(settings_file, host, port, with_token=token, knows_the_risk=i_know)


def browse(
    context: typer.Context,
    key: Annotated[
        str | None, typer.Argument(help="Partition key; default: the list of all SAEs.")
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Over loopback, not from the file.")
    ] = False,
    port: Annotated[int, typer.Option(help="With --serve; default: a free one.")] = 0,
    token: Annotated[
        bool, typer.Option("--token", help="With --serve: ask other users for a token.")
    ] = False,
) -> None:
    """Open the feature browser's pages."""
    from saeborzoi.browser.door import tunnel
    from saeborzoi.browser.serve import make_server, open_file, require_pages
    from saeborzoi_assets.commands.locus_answers import PLACE, answering

    settings_file = terminal_of(context).settings_file
    folder = Store(load_settings(settings_file).project.store).browser
    page = require_pages(folder / (key or "") / "index.html")
    if serve:
        secret = secrets.token_urlsafe(24) if token else ""
        with make_server(folder, port, secret, {PLACE: answering(settings_file)}) as server:
            host, port = server.server_address[:2]  # type: ignore[assignment]
            place = f"{key}/index.html" if key else ""
            query = f"?token={secret}" if secret else ""
            print(f"http://{host!s}:{port}/{place}{query}; Ctrl-C ends it", flush=True)
            if line := tunnel(port, dict(os.environ)):
                print(f"From your own machine: {line}", flush=True)
            server.serve_forever()
    elif not open_file(page):
        print("no browser could be started here; open this file in one:")
    print(page)
