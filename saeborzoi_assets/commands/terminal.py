"""What every command shares: where the project is, how much is said, and how a command ends."""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from saeborzoi.caches import require_caches
from saeborzoi.errors import PartitionKeyError, SaeBorzoiError
from saeborzoi.settings.load import find_settings_file
from saeborzoi.settings.section import MAX_NODES

EXIT_FAILED = 1
"""Something that was looked at does not hold: a check, a result, an asset check of a run."""
EXIT_ERROR = 2
"""The command could not do its work; the reason stands on standard error."""
EXIT_INTERRUPTED = 130

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


@dataclass(frozen=True)
class Terminal:
    """Options of the command line that hold for every command.

    Attributes
    ----------
    project
        `dagster_project.toml` or its folder; None where it is to be found as Dagster finds it.
    quiet
        Whether only results and errors are printed.
    verbose
        Whether progress and Dagster's own events are printed line by line.
    """

    project: Path | None = None
    quiet: bool = False
    verbose: bool = False

    @property
    def settings_file(self) -> Path:
        """The settings file of the project.

        Raises
        ------
        SettingsError
            Where there is none.
        """
        if self.project is None:
            return find_settings_file()
        return find_settings_file(self.project) if self.project.is_dir() else self.project.resolve()

    def say(self, text: str) -> None:
        """Print what a person wants to know and a program does not."""
        if not self.quiet:
            print(text, flush=True)


def terminal_of(context: typer.Context) -> Terminal:
    """The options that stood before the command's name."""
    terminal = context.find_object(Terminal)
    return terminal if terminal is not None else Terminal()


def print_json(document: Any) -> None:
    """One JSON document; what JSON does not know (paths, times) as text."""
    print(json.dumps(plain(document), indent=1, default=str), flush=True)


def plain(value: Any) -> Any:
    """A value as JSON has it: decimals as numbers, what is not finite as null."""
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def run_command(app: typer.Typer, arguments: list[str]) -> int:
    """Run a command line; every end is an exit code, and what went wrong one line, no traceback.

    Returns
    -------
    int
        0; 1 where a check failed, or the reader of the output went away (``| head``); 2 for an
        error; 130 where it was interrupted.
    """
    try:
        require_caches()
        app(arguments, prog_name="saeborzoi")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except SaeBorzoiError as error:
        print(f"saeborzoi: {error}", file=sys.stderr)
        return EXIT_ERROR
    except OSError as error:
        if error.filename is None:
            raise
        # a place that the command line or the settings name, and the system refuses
        print(f"saeborzoi: {error.filename}: {error.strerror}; name another place", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0


def parse_nodes(nodes: str) -> list[int]:
    """Nodes of a text such as ``3,7-9``.

    >>> parse_nodes("3,7-9")
    [3, 7, 8, 9]

    Raises
    ------
    PartitionKeyError
        Where the text is not of that form.
    """
    numbers: list[int] = []
    for part in nodes.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,9})(?:-([0-9]{1,9}))?\s*", part)
        last = int(match[2] or match[1]) if match else -1
        if match is None or last < int(match[1]):
            raise PartitionKeyError(
                f"--nodes {nodes[:80]!r}: {part[:80]!r} is no node and no range of nodes; write "
                "e.g. 3,7-9"
            )
        if last >= MAX_NODES or len(numbers) >= MAX_NODES:  # before any memory is taken
            raise PartitionKeyError(
                f"--nodes {nodes[:80]!r}: {part!r} goes beyond the {MAX_NODES:,} nodes that an SAE "
                "may have; write those that it has, e.g. 3,7-9"
            )
        numbers += range(int(match[1]), last + 1)
    return numbers
