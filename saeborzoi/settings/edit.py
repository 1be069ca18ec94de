"""Adding an SAE to a settings file without touching anything else in it.

The file stays the user's: comments, order and spacing are kept byte for byte. Reading and checking
settings is `settings.py`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from saeborzoi.errors import SettingsError
from saeborzoi.files import write_file
from saeborzoi.settings.hyperparameters import Hyperparameters
from saeborzoi.settings.load import load_settings

_TABLE = re.compile(r"\s*\[")
_SAE_TABLE = re.compile(r"\s*\[\[\s*sae\s*\]\]")


def add_sae(settings_file: Path, hyperparameters: Hyperparameters) -> str:
    """Add one `[[sae]]` block to a settings file, after the last one that is there.

    Parameters
    ----------
    settings_file
        `dagster_project.toml`. Written whole or not at all; every byte of it stays.
    hyperparameters
        The SAE to add.

    Returns
    -------
    str
        The block, as it stands in the file now.

    Raises
    ------
    SettingsError
        Where the file asks for that SAE already, cannot be read, or writes `sae` as an inline
        array, to which no block can be added.
    PartitionKeyError
        Where the settings cannot serve it: no such layer, or no active node.
    """
    path = settings_file.resolve()
    with _one_at_a_time(path.parent):
        settings = load_settings(path)
        settings.require_fits(hyperparameters)
        wanted = settings.wanted()
        if hyperparameters in wanted:
            raise SettingsError(
                f"{path}: {hyperparameters.key} is asked for already; nothing was added. Change a "
                "value, e.g. the seed"
            )
        # newlines as they are: read_text would turn \r\n into \n
        text = path.read_bytes().decode()
        mode = path.stat().st_mode
        newline = "\r\n" if "\r\n" in text else "\n"
        block = newline.join(_block(hyperparameters))
        with write_file(path) as temporary:
            temporary.write_bytes(_inserted(text, block, newline).encode())
            _require_added(temporary, path, [*wanted, hyperparameters])
        path.chmod(mode)
    return block


def _block(hyperparameters: Hyperparameters) -> list[str]:
    """Lines of the `[[sae]]`; JSON's strings and numbers are TOML's."""
    return [
        "[[sae]]",
        *(f"{name} = {json.dumps(value)}" for name, value in hyperparameters.spelled_out().items()),
    ]


def _inserted(text: str, block: str, newline: str) -> str:
    """The text with the block after the last value of the last `[[sae]]`, else at its end.

    Comments that follow that value stay where they are: they introduce the next table.
    """
    lines = text.splitlines(keepends=True)
    place = len(lines)
    starts = [i for i, line in enumerate(lines) if _SAE_TABLE.match(line)]
    if starts:
        place = starts[-1] + 1
        for i in range(place, len(lines)):
            if _TABLE.match(lines[i]):
                break
            if lines[i].strip() and not lines[i].lstrip().startswith("#"):
                place = i + 1
    before, after = "".join(lines[:place]), "".join(lines[place:])
    gap = newline if before.endswith("\n") or not before else newline * 2
    after_gap = "" if not after or after.startswith(("\r", "\n")) else newline
    return f"{before}{gap}{block}{newline}{after_gap}{after}"


def _require_added(temporary: Path, path: Path, expected: list[Hyperparameters]) -> None:
    """Refuse an edit that does not read back as what was there and the new SAE."""
    try:
        found = load_settings(temporary).wanted()
    except SettingsError:
        found = []
    if set(found) != set(expected):
        raise SettingsError(
            f"{path}: no [[sae]] block can be added to it, most likely because `sae` is written "
            "as an inline array; write each SAE as a [[sae]] block. Nothing was changed"
        )


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Keep others from editing a file of the folder meanwhile; leaves no lock file behind."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise SettingsError(f"{folder}: cannot be read ({error.strerror})") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
