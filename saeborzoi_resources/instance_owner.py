"""A Dagster instance belongs to one project: its partitions, marks and runs are that project's.

Two projects under one DAGSTER_HOME would show, start and remove each other's SAEs, which have the
same partition keys where their hyperparameters are the same.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from saeborzoi.errors import SettingsError
from saeborzoi.files import write_file

_NOTE = "saeborzoi_project"
"""In the instance's folder: the project's folder, relative where the instance lies in it."""


def require_owner(home: Path, project: Path) -> None:
    """Refuse an instance that belongs to another project that is still there.

    Parameters
    ----------
    home
        The instance's folder; need not exist.
    project
        Folder of the settings file.

    Raises
    ------
    SettingsError
        Names both projects and what to set.
    """
    owner = _owner(home)
    if owner is not None and owner != project.resolve() and owner.is_dir():
        raise SettingsError(
            f"the Dagster instance {home} belongs to the project {owner}, not to "
            f"{project.resolve()}: each would start and remove the other's SAEs. Nothing was "
            "changed; fix: unset DAGSTER_HOME, or set it to a folder of its own for each project"
        )


def note_owner(home: Path, project: Path) -> None:
    """Note whose an instance is, in its existing folder."""
    project = project.resolve()
    if _owner(home) == project and (home / _NOTE).exists():
        return
    inside = home.resolve().is_relative_to(project)
    with write_file(home / _NOTE) as temporary:
        temporary.write_text(os.path.relpath(project, home.resolve()) if inside else str(project))


def _owner(home: Path) -> Path | None:
    """Project that an instance belongs to; None where nobody has said so."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return (home / (home / _NOTE).read_text().strip()).resolve()
    return None
