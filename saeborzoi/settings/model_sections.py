"""The sections about the sequence model: how it is loaded, and what is asked of its predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from saeborzoi.settings.section import (
    PositiveFraction,
    PositiveInt,
    Section,
    UserPath,
    from_folder,
)

PATH_LOADERS = ("borzoi-pytorch", "keras-h5")
"""Loaders that are given a path: `"<loader>:<path>"`."""


class Model(Section):
    """`[model]`: the sequence model, for layers without shards."""

    without_effect: ClassVar[frozenset[str]] = frozenset({"device", "tile_positions", "predicts"})

    loader: str
    """"borzoi-pytorch:<folder>", "keras-h5:<file>", "package.module:function" or
    "file.py:function"."""
    weights: UserPath | None = None
    """File or folder that the function gets as `weights`."""
    arguments: dict[str, Any] = {}
    """Further arguments of the loader, by name."""
    input_bp: PositiveInt | None = None
    """Base pairs that the model takes at once, where its loader does not say."""
    dtype: Literal["float32", "tf32", "bfloat16", "float16"] = "float32"
    device: str = "auto"
    """"auto": a GPU where the stage's job has one; "cpu", "cuda" or "cuda:1"."""
    tile_positions: PositiveInt = 2048
    """Positions that are computed at once: bounds the memory."""
    stored_as: Literal["float16", "float32"] = "float16"
    """How activations are kept in memory and in a cache; shards usually are float16."""
    predicts: bool = True
    """false: activations alone are wanted of it, and nothing is made of its predictions."""

    @field_validator("loader")
    @classmethod
    def _from_folder(cls, loader: str, info: ValidationInfo) -> str:
        kind, _, path = loader.partition(":")
        if kind in PATH_LOADERS and path:
            return f"{kind}:{from_folder(Path(path), info)}"
        code, _, function = loader.rpartition(":")
        is_file = code.endswith(".py")
        return f"{from_folder(Path(code), info)}:{function}" if is_file else loader

    @property
    def has_outputs(self) -> bool:
        """Whether its predictions can be asked for; Keras files hold the first layers alone."""
        return self.predicts and not self.loader.startswith("keras-h5:")

    @property
    def files(self) -> list[Path]:
        """Files that the loader reads, as far as the settings say."""
        place = self.loader.partition(":")[2]
        kind = self.loader.partition(":")[0]
        if kind in PATH_LOADERS:
            return [Path(place)]
        code = self.loader.rpartition(":")[0]
        code_files = [Path(code)] if code.endswith(".py") else []
        return [*code_files, *([self.weights] if self.weights else [])]


_SEQUENCES_BP = 1_000_000
_MIN_SEQUENCES = 20


class Effects(Section):
    """`[effects]`: what the model does with an SAE in it, and with a node of it changed; on
    sequences of the layer's validation windows (of its training windows where it has none)."""

    n_sequences: PositiveInt | None = None
    """Sequences of the model's length, spread evenly over the windows; left out: those of 1 Mb, at
    least 20."""
    tracks: tuple[str, ...] = ()
    """Names of the model's tracks, or patterns such as "CAGE:*"; left out: every track."""
    n_loci: Annotated[int, Field(ge=2)] = 16
    """Sequences on which a node is changed: so many where it is strongest, and so many where its
    activation x gradient is largest."""
    n_controls: Annotated[int, Field(ge=1, le=100)] = 4
    """Other nodes at each of them."""
    shuffle_bp: PositiveInt = 18
    """Base pairs of the published shuffle about a node's strongest position."""
    max_q_value: PositiveFraction = 0.05
    """An effect is significant up to this false discovery rate, over nodes and tracks."""
    n_kept: PositiveInt = 10
    """Tracks that are kept of each node, and nodes of each track: those of the largest effects."""

    def n_sequences_of(self, input_bp: int) -> int:
        """Sequences for a model that takes `input_bp` at once."""
        return self.n_sequences or max(_MIN_SEQUENCES, _SEQUENCES_BP // input_bp)
