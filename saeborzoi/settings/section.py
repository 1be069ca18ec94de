"""What every section of the settings shares: its base, and bounds that several of them use.

A bound is there to refuse what no file name, library or memory takes, not to say what is wise.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)

from saeborzoi.errors import SettingsError

Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]
PositiveInt = Annotated[int, Field(ge=1, le=10**15)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]
"""Goes into names of files."""
MAX_CHANNELS = 100_000
MAX_NODES = 1_000_000
"""Of an SAE: Dagster lists the partition of each."""
MAX_SEQLET_BP = 100_000
ENGINE_WIDTHS = {"builtin": (2, 200), "meme": (2, 300), "streme": (3, 30)}
"""Narrowest and widest motif that each engine takes."""
CLOCK = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
CRON = r"^[0-9A-Za-z*/,-]+(?: +[0-9A-Za-z*/,-]+){4}$"
"""Minute, hour, day of the month, month, day of the week."""


def from_folder(path: Path, info: ValidationInfo) -> Path:
    """A path of a settings file, absolute: `~` as a home folder, relative ones from the file's
    folder, which is the context's `folder`. Without that context a path stays as it is, as in a job
    that is read from JSON.

    Raises
    ------
    SettingsError
        Where it cannot be told whose home folder `~` is.
    """
    folder = (info.context or {}).get("folder")
    return path if folder is None else Path(os.path.normpath(folder / expanded(path)))


def expanded(path: Path) -> Path:
    """A path with `~` as a home folder."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise SettingsError(
            f"{path}: whose home folder that is cannot be told here (no such user, or HOME is not "
            "set); fix: write the whole path"
        ) from None


UserPath = Annotated[Path, AfterValidator(from_folder)]
"""A file or folder that the settings name."""


class Section(BaseModel):
    """A part of the settings; unknown keys are refused, and true and false where a number is
    wanted, inf and nan too."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    without_effect: ClassVar[frozenset[str]] = frozenset()
    """Settings that say how a result is made, and leave it as it is."""

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, values: Any) -> Any:
        for name, value in values.items() if isinstance(values, dict) else ():
            field = cls.model_fields.get(name)
            items = value if isinstance(value, list | tuple) else (value,)
            truth = next((item for item in items if isinstance(item, bool)), None)
            if truth is not None and field is not None and "bool" not in str(field.annotation):
                raise ValueError(f"{name} = {str(truth).lower()}; needed is a number or text")
        return values

    def of_result(self) -> dict[str, Any]:
        """What a result depends on, for its version."""
        return self.model_dump(exclude=set(self.without_effect))
