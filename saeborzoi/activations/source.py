"""The one interface to activations: what training, normalization, inference and checks know of
where they come from. Two sources stand behind it, `shards.py` and `live.py`; which of them a layer
has is decided in `saeborzoi.sources`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from saeborzoi.activations.reader import Raw

SLAB_POSITIONS = 2048
"""Positions of one read, about; rounded to what a source reads at once."""


class BlockReader(Protocol):
    """Reads from a source; for several threads at once."""

    def read(self, place: int, rows: slice, positions: slice) -> Raw:
        """(n_rows, n_positions, n_channels) as stored, all finite; see `Reader.read`."""

    def is_plain(self, place: int) -> bool:
        """Whether `scatter` can read there."""

    def scatter(
        self, place: int, row: int, first: int, pool: Raw, target: NDArray[np.int64]
    ) -> None:
        """Read consecutive positions into rows of an array; see `Reader.scatter`."""


@runtime_checkable
class DeviceReader(Protocol):
    """A reader that computes what it reads on a device, where it may stay."""

    @property
    def device(self) -> torch.device:
        """Where."""

    def read_there(self, row: int, positions: slice) -> torch.Tensor:
        """(n_positions, n_channels) of a row of the windows, as stored, all finite."""


class Source(Protocol):
    """Activations of one layer."""

    @property
    def n_positions(self) -> int:
        """Of every window."""

    @property
    def n_channels(self) -> int:
        """Of every position."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def dtype(self) -> np.dtype:
        """How values are stored: float16, float32, or uint16 that holds bfloat16 bits."""

    def slab_shape(self, place: int) -> tuple[int, int]:
        """Rows and positions that are read together at a place."""

    def everything(self) -> NDArray[np.int64]:
        """(n_ranges, 5) int64, see `shards.kept_pieces`: what normalization constants are of."""

    def reader(self) -> AbstractContextManager[BlockReader]:
        """To read blocks from."""

    def identity(self) -> dict[str, Any]:
        """What an SAE says it was trained on: `data_fingerprint`, a digest that a copy elsewhere
        shares, and `data_files` or `data_parts`, what it is made of, for messages."""
