"""The programs of the MEME suite, where a user has them: found, checked, asked for their version.

What they are run for is in `meme.py` and `matching.py`.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

from saeborzoi.errors import MissingProgramError
from saeborzoi.files import state


def find_program(name: str, given: Path | None, section: str, instead: str) -> Path:
    """The program, at the given path or on PATH.

    Parameters
    ----------
    name
        `meme`, `streme` or `tomtom`.
    given
        `executable` of the settings.
    section, instead
        Settings section, and the engine there that needs nothing installed, for the error.

    Raises
    ------
    MissingProgramError
        Where it is not there or not executable.
    """
    remedy = (
        f"install the MEME suite (https://meme-suite.org, or conda-forge/bioconda: meme) and set "
        f'{section} executable to it, or set {section} engine = "{instead}"'
    )
    if given is not None:
        if not given.is_file():
            raise MissingProgramError(f"{name}: no program at {given}; {remedy}")
        if not os.access(given, os.X_OK):
            raise MissingProgramError(
                f"{name}: {given} is not executable; chmod +x it, or {remedy}"
            )
        return given
    program = shutil.which(name)
    if program is None:
        raise MissingProgramError(f"{name} is not on PATH; {remedy}")
    return Path(program)


def program_version(program: Path) -> str:
    """What `--version` says.

    Raises
    ------
    MissingProgramError
        Where it cannot be run.
    """
    return _version(program, state(program))


@functools.lru_cache(maxsize=8)
def _version(program: Path, _state: tuple[int, ...]) -> str:
    try:
        done = subprocess.run(
            [str(program), "--version"], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingProgramError(
            f"{program} --version failed ({error}); install a working MEME suite or set another "
            "engine"
        ) from None
    words = done.stdout.split()
    return words[-1] if words else "unknown"
