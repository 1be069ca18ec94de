"""Sections `[[sae]]` and `[training]`: which SAEs are wanted, and how they are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, create_model

from saeborzoi.settings.hyperparameters import Hyperparameters, every_combination
from saeborzoi.settings.section import PositiveInt, Section, UserPath


class _SaeGrid(Section):
    """`[[sae]]`: hyperparameters wanted; a list of values makes a grid.

    Its fields are those of `Hyperparameters`, None where left out, and `checkpoint`.
    """

    checkpoint: UserPath | None = None
    """sae-borzoi's `best_model.pt` (or a folder with cfg.json + sae.safetensors), imported
    instead of training; needs single values."""

    def expand(self) -> list[Hyperparameters]:
        """Every combination, in order of writing."""
        axes = {
            name: value if isinstance(value, tuple) else (value,)
            for name, value in self
            if name != "checkpoint" and value is not None
        }
        combinations = every_combination(axes)
        if self.checkpoint is not None and len(combinations) != 1:
            raise ValueError("a checkpoint needs single values, not lists")
        return combinations


if TYPE_CHECKING:
    SaeGrid = _SaeGrid
else:
    SaeGrid = create_model(
        "SaeGrid",
        __base__=_SaeGrid,
        __module__=__name__,
        __doc__=_SaeGrid.__doc__,
        **{
            name: (field.annotation | tuple[field.annotation, ...], ...)
            if field.is_required()
            else (field.annotation | tuple[field.annotation, ...] | None, None)
            for name, field in Hyperparameters.model_fields.items()
        },
    )


class Training(Section):
    """`[training]`: how long and how large, the same for every SAE of the project."""

    without_effect: ClassVar[frozenset[str]] = frozenset({"saes_per_pass"})

    n_positions: PositiveInt | None = None
    """Positions to train on, over as many passes as that takes; left out: `n_epochs` passes."""
    n_epochs: PositiveInt | None = None
    """Passes over the data; left out: one, or as many as make 3 million positions."""
    batch_size: Annotated[int, Field(ge=1, le=10**7)] | None = None
    """Positions of a step; left out: 4096, but where that takes fewer than 1,000 steps as many as
    make 1,000 (at least 256)."""
    buffer_mb: Annotated[int, Field(ge=1, le=10**6)] = 512
    """Memory of the shuffle buffer."""
    validate_every_positions: PositiveInt = 2_000_000
    patience: PositiveInt = 5
    """Validations without improvement before training stops early."""
    checkpoint_every_s: Annotated[float, Field(gt=0)] = 300
    saes_per_pass: PositiveInt = 1
    """SAEs of one layer and seed that a run over several partitions trains together, reading the
    data once: worth it where reading is slower than training, as on a GPU. Each
    SAE is the same as if it were trained alone."""

    @property
    def schedule(self) -> dict[str, Any]:
        """How long to train, by the names that the science takes it."""
        return self.model_dump(exclude={"saes_per_pass"})
