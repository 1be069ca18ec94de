"""The command `saeborzoi`: thin words around the platform. What the words do stands elsewhere."""

import argparse
import os
import secrets
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from saeborzoi import __version__
from saeborzoi.catalog.store import Store
from saeborzoi.errors import SaeBorzoiError
from saeborzoi.settings.load import FILE_NAME, find_settings_file, load_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0, 1 where a check failed, 2 for an error."""
    parser = argparse.ArgumentParser(
        prog="saeborzoi",
        description="Named features from a DNA model's activations, as Dagster assets.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--project", type=Path, help=f"{FILE_NAME} or its folder; default: found as Dagster does"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    check = commands.add_parser("check", help="look at every input of the project, in seconds")
    check.add_argument(
        "--compute", action="store_true", help="also submit a short job to the compute backend"
    )
    check.set_defaults(run=_check)

    run = commands.add_parser("run", help="materialize every asset of SAEs, node by node and all")
    run.add_argument(
        "key", nargs="*", help="partition keys; default: all that the settings ask for"
    )
    run.set_defaults(run=_run)

    demo = commands.add_parser("demo", help="make the demo data, run everything, compare")
    demo.set_defaults(run=_demo)

    ui = commands.add_parser("ui", help="Dagster's web interface and daemon for this project")
    ui.add_argument("--host", default="127.0.0.1")
    ui.add_argument("--port", type=int, default=3000, help="0 takes a free one")
    ui.add_argument("--token", action="store_true", help="ask for a token on loopback, too")
    ui.add_argument(
        "--i-know", action="store_true", help="ask for no token, whoever reaches --host"
    )
    ui.set_defaults(run=_ui)

    browse = commands.add_parser("browse", help="open the feature browser's pages")
    browse.add_argument("key", nargs="?", help="partition key; default: the list of all SAEs")
    browse.add_argument("--serve", action="store_true", help="over loopback, not from the file")
    browse.add_argument("--port", type=int, default=0, help="with --serve; default: a free one")
    browse.add_argument("--token", action="store_true", help="with --serve: ask for a token")
    browse.set_defaults(run=_browse)

    query = commands.add_parser("query", help="run SQL on the catalogue and print the result")
    query.add_argument("sql")
    query.set_defaults(run=_query)

    convert = commands.add_parser(
        "convert", help="make a dagster_project.toml from sae-borzoi's config.json"
    )
    convert.add_argument("config", type=Path)
    convert.add_argument("--genome", type=Path, required=True, help="FASTA of the reference")
    convert.add_argument("--output", type=Path, default=Path(FILE_NAME))
    convert.set_defaults(run=_convert)

    add = commands.add_parser("add", help="ask for one more SAE in the settings file")
    add.add_argument("layer")
    add.add_argument("--expansion", type=int, help="nodes for each channel")
    add.add_argument("--topk", type=float, help="active nodes as a fraction of the channels")
    add.add_argument("--lr", type=float, dest="learning_rate", help="peak learning rate")
    add.add_argument("--seed", type=int)
    add.add_argument("--variant", help="topk, batch_topk or matryoshka")
    add.add_argument("--recipe", help="default or published")
    add.set_defaults(run=_add)

    trace = commands.add_parser("trace", help="what a result was made from, and does it still hold")
    trace.add_argument("key", help="a node 'KEY|n0003', an SAE's partition key, or a layer")
    trace.set_defaults(run=_trace)

    clean = commands.add_parser(
        "clean",
        help="what removing a layer, an SAE or nodes would remove, or what nothing needs; "
        "--yes removes it",
    )
    what = clean.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "target", nargs="?", help="a layer with all of its SAEs, an SAE's partition key, or a node "
        "'KEY|n0003'",
    )  # fmt: skip
    what.add_argument(
        "--orphans", action="store_true", help="files that no result refers to, and the reverse"
    )
    clean.add_argument("--nodes", help="only these nodes of the SAE, e.g. 3,7-9")
    clean.add_argument("--yes", action="store_true", help="remove it; without, only say what")
    clean.set_defaults(run=_clean)

    options = parser.parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except SaeBorzoiError as error:
        print(f"saeborzoi: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _settings_file(options: argparse.Namespace) -> Path:
    given: Path | None = options.project
    if given is None:
        return find_settings_file()
    return find_settings_file(given) if given.is_dir() else given.resolve()


def _check(options: argparse.Namespace) -> int:
    from saeborzoi_resources.upkeep.project_check import check_project

    settings_file = _settings_file(options)
    settings = load_settings(settings_file)
    print(f"{settings_file}: {len(settings.layer)} layers, {len(settings.wanted())} SAEs wanted")
    findings = check_project(settings)
    failed = 0
    for finding in findings:
        failed += not finding.ok
        print(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.what}: {finding.detail}", flush=True)
    if options.compute:
        from saeborzoi_resources.compute.preflight import preflight

        for what, ok, detail in preflight(settings, Store(settings.project.store).jobs):
            failed += not ok
            print(f"{'ok  ' if ok else 'FAIL'}  {what}: {detail}", flush=True)
    print(f"{failed} of the checks failed" if failed else "all checks passed")
    return 1 if failed else 0


def _run(options: argparse.Namespace) -> None:
    from saeborzoi_assets.commands.runner import run

    settings_file = _settings_file(options)
    settings = load_settings(settings_file)
    wanted = [settings.parse_key(key) for key in options.key] or settings.wanted()
    run(settings_file, settings, wanted)


def _demo(options: argparse.Namespace) -> int:
    from saeborzoi_assets.commands.demonstration import demonstrate

    return demonstrate(options.project or Path.cwd())


def _ui(options: argparse.Namespace) -> None:
    from saeborzoi_assets.commands.ui import serve_ui

    serve_ui(
        _settings_file(options), options.host, options.port,
        with_token=options.token, knows_the_risk=options.i_know,
    )  # fmt: skip


def _browse(options: argparse.Namespace) -> None:
    from saeborzoi.browser.door import tunnel
    from saeborzoi.browser.serve import make_server, open_file, require_pages

    folder = Store(load_settings(_settings_file(options)).project.store).browser
    page = require_pages(folder / (options.key or "") / "index.html")
    if options.serve:
        token = secrets.token_urlsafe(24) if options.token else ""
        with make_server(folder, options.port, token) as server:
            host, port = server.server_address[:2]
            query = f"?token={token}" if token else ""
            place = f"{options.key}/index.html" if options.key else ""
            print(f"http://{host!s}:{port}/{place}{query}; Ctrl-C ends it", flush=True)
            if line := tunnel(int(port), dict(os.environ)):
                print(f"From your own machine: {line}", flush=True)
            server.serve_forever()
    elif not open_file(page):
        print("no browser could be started here; open this file in one:")
    print(page)


def _query(options: argparse.Namespace) -> None:
    from saeborzoi.catalog.catalog import Catalog

    settings = load_settings(_settings_file(options))
    with Catalog(Store(settings.project.store).catalog).read() as connection:
        width = shutil.get_terminal_size((120, 20)).columns
        connection.sql(options.sql).show(max_width=width)


def _convert(options: argparse.Namespace) -> None:
    from saeborzoi.settings.convert import convert_config

    text = convert_config(options.config, options.genome)
    if options.output.exists():
        raise SaeBorzoiError(f"{options.output} exists; move it away or name another --output")
    options.output.write_text(text)
    print(f"{options.output} is written; look at the lines marked with 'check', then run "
          "`saeborzoi check`")  # fmt: skip


def _clean(options: argparse.Namespace) -> None:
    from saeborzoi_assets.commands.removal import parse_target, remove, remove_orphans

    settings_file = _settings_file(options)
    if options.orphans:
        if options.nodes is not None:
            raise SaeBorzoiError("--nodes goes with an SAE's partition key, not with --orphans")
        print(remove_orphans(settings_file, for_good=options.yes))
    else:
        target, nodes = parse_target(options.target, options.nodes)
        print(remove(settings_file, target, nodes, for_good=options.yes))


def _trace(options: argparse.Namespace) -> int:
    from saeborzoi_assets.chain import CHAIN
    from saeborzoi_resources.platform import Platform
    from saeborzoi_resources.upkeep.trace import as_text, trace

    found = trace(Platform(settings_file=str(_settings_file(options))), options.key, CHAIN)
    print(as_text(found))
    return 0 if found.is_current else 1


def _add(options: argparse.Namespace) -> None:
    from saeborzoi.settings.edit import add_sae, make_hyperparameters

    names = ("layer", "expansion", "topk", "learning_rate", "seed", "variant", "recipe")
    given = {name: getattr(options, name) for name in names}
    hyperparameters = make_hyperparameters(**{k: v for k, v in given.items() if v is not None})
    settings_file = _settings_file(options)
    block = add_sae(settings_file, hyperparameters)
    print(f"{settings_file} asks for {hyperparameters.key} now:\n\n{block}\n\nA running "
          "Dagster adds its partition within a minute; without one: "
          f"saeborzoi run {hyperparameters.key}")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
