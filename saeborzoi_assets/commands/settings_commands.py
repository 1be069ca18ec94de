"""Commands that write the settings file, and files beside it: init, convert, add, dg-files."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated

import typer

from saeborzoi.errors import SaeBorzoiError
from saeborzoi.files import write_file
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi.settings.load import FILE_NAME
from saeborzoi_assets.commands.terminal import terminal_of


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (init, convert, add, dg_files):
        app.command()(command)


def init(
    context: typer.Context,
    folder: Annotated[
        Path | None, typer.Argument(help="Folder with your files; default: this one.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help=f"File to write; default: {FILE_NAME} in the folder.")
    ] = None,
) -> None:
    """Write a commented settings file from the files that lie in a folder.

    Example: cd my_borzoi && saeborzoi init && saeborzoi check
    """
    from saeborzoi_resources.upkeep.draft import draft_settings

    where = (folder or terminal_of(context).project or Path.cwd()).resolve()
    path = output or where / FILE_NAME
    draft = draft_settings(where)
    _write_new(path, draft.text)
    terminal = terminal_of(context)
    for line in draft.inputs:
        terminal.say(f"found    {line}")
    for line in draft.missing:
        terminal.say(f"missing  {line}")
    for line in draft.unready:
        terminal.say(f"unready  {line}")
    terminal.say(
        f"{path} is written; "
        + ("fill in the lines marked with 'fill in', then" if draft.missing else "look at it, then")
        + " run `saeborzoi check`"
    )


def convert(
    config: Annotated[Path, typer.Argument(help="sae-borzoi's config.json.")],
    genome: Annotated[Path, typer.Option(help="FASTA of the reference.")],
    output: Annotated[Path, typer.Option(help="Settings file to write.")] = Path(FILE_NAME),
) -> None:
    """Make a dagster_project.toml from sae-borzoi's config.json."""
    from saeborzoi.settings.convert import convert_config

    text = convert_config(config, genome)
    _write_new(output, text)
    marked = "look at the lines marked with 'check', then " if "# check: " in text else ""
    print(f"{output} is written; {marked}run `saeborzoi check`")


def add(context: typer.Context, **values: object) -> None:
    """Ask for one more SAE in the settings file.

    Example: saeborzoi add conv1d_1 --expansion 8 --topk 0.02 --seed 0
    """
    from saeborzoi.settings.edit import add_sae
    from saeborzoi.settings.hyperparameters import make_hyperparameters

    given = {name: value for name, value in values.items() if value is not None}
    hyperparameters = make_hyperparameters(**given)
    settings_file = terminal_of(context).settings_file
    block = add_sae(settings_file, hyperparameters)
    print(f"{settings_file} asks for {hyperparameters.key} now:\n\n{block}\n\nA running "
          "Dagster adds its partition within a minute; without one: "
          f"saeborzoi run {hyperparameters.key}")  # fmt: skip


def _parameters_of_add() -> list[inspect.Parameter]:
    """`add` has an argument or option for each hyperparameter, as the model describes it."""
    kinds: dict[object, type] = {int: int, float: float}
    parameters = []
    for name, field in Hyperparameters.model_fields.items():
        kind = kinds.get(field.annotation, str)
        text = f"{str(field.description)[0].upper()}{str(field.description)[1:]}."
        flags = [f"--{name.replace('_', '-')}", *_SHORTER.get(name, ())]
        default = inspect.Parameter.empty if field.is_required() else None
        parameters.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=Annotated[kind, typer.Argument(help=text)]
                if field.is_required()
                else Annotated[kind | None, typer.Option(*flags, help=text)],
            )
        )
    return parameters


_SHORTER = {"learning_rate": ("--lr",)}
_context = inspect.Parameter(
    "context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
)
add.__signature__ = inspect.Signature([_context, *_parameters_of_add()])  # type: ignore[attr-defined]
add.__annotations__ = {p.name: p.annotation for p in (_context, *_parameters_of_add())}


_DG_FILES = {
    "dg.toml": """\
# For Dagster's command line `dg` (pip install dagster-dg-cli): dg check defs, dg launch, ...
directory_type = "project"

[project]
root_module = "definitions"
code_location_target_module = "definitions"
defs_module = "definitions"
""",
    "definitions/__init__.py": """\
\"\"\"This project, as Dagster's `dg` loads it.\"\"\"

from saeborzoi_assets.definitions import defs as defs
""",
}


def dg_files(context: typer.Context) -> None:
    """Write what Dagster's command line `dg` wants beside the settings file.

    Example: saeborzoi dg-files && dg launch --assets seqlets --partition 'KEY|n0003'
    """
    from saeborzoi_assets.commands.instance import HOME_VARIABLE, home_of

    folder = terminal_of(context).settings_file.parent
    files = {**_DG_FILES, ".env": f"{HOME_VARIABLE}={home_of(folder)}\n"}
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        _write_new(path, text)
    terminal_of(context).say(f"{folder} has {', '.join(files)}; `dg list defs` lists what is there")


def _write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet."""
    if path.exists():
        raise SaeBorzoiError(
            f"{path} exists; move it away, or name another --output where there is one"
        )
    with write_file(path) as temporary:
        temporary.write_text(text)
