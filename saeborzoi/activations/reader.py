"""Reads shards: how bytes get from a file into memory, and whether each value is finite.

Which files there are belongs to `shards.py`, which positions are read when to `loader.py`.
"""

from __future__ import annotations

import ctypes
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from saeborzoi.errors import InputError

_EXPONENT: dict[str, np.uint16 | np.uint32] = {
    "float16": np.uint16(0x7C00),
    "uint16": np.uint16(0x7F80),
    "float32": np.uint32(0x7F800000),
}

_WHY = {
    "float16": "float16 overflows above 65504",
    "uint16": "uint16 is read as bfloat16: turn quantized integers into float16",
    "float32": "the model itself may have overflowed",
}

Raw = NDArray[np.generic]
"""Activations as stored: float16, float32, or uint16 that holds bfloat16 bits."""


# not `os.pread` and a copy: 1.2 to 1.5 times the CPU time (benchmarks/sae.md, loader)
_PREADV: Any = getattr(ctypes.CDLL(None), "preadv", None)
_AT_ONCE = 1024
"""Buffers that one call of preadv takes, at least."""
if _PREADV is not None:
    _PREADV.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_longlong)
    _PREADV.restype = ctypes.c_ssize_t


@dataclass(frozen=True)
class Shard:
    """One HDF5 file: `index` is the number in its name, `chunks` its HDF5 chunk shape."""

    path: Path
    index: int
    dataset: str
    n_sequences: int
    dtype: str
    chunks: tuple[int, int, int] | None


class _Opened(NamedTuple):
    """An open shard; `offset` is where its values begin in the file, if they lie there as they
    are needed: uncompressed, in one piece, in this machine's byte order."""

    dataset: h5py.Dataset
    descriptor: int
    offset: int | None


class Reader:
    """Reads from shards of one folder, each of `n_positions`; for several threads at once."""

    def __init__(self, shards: tuple[Shard, ...], n_positions: int) -> None:
        self._shards, self._n_positions = shards, n_positions
        self._lock = threading.Lock()
        self._opened: dict[int, _Opened] = {}

    def close(self) -> None:
        """Close every file."""
        for opened in self._opened.values():
            opened.dataset.file.close()
            os.close(opened.descriptor)
        self._opened.clear()

    def is_plain(self, place: int) -> bool:
        """Whether `scatter` can read a shard."""
        return self._open(place).offset is not None

    def read(self, place: int, rows: slice, positions: slice) -> Raw:
        """One hyperslab, every channel, as stored.

        Parameters
        ----------
        place
            Index into `ShardFolder.shards`.
        rows, positions
            Ranges of the shard's first two axes.

        Returns
        -------
        ndarray
            (n_rows, n_positions, n_channels) float16, float32, or uint16 (bfloat16 bits).

        Raises
        ------
        InputError
            Where the file cannot be read there, or a value is NaN or infinite.
        """
        shard = self._shards[place]
        dataset = self._open(place).dataset
        try:
            with self._lock:  # HDF5 serves one thread at a time
                block = dataset[rows, positions]
        except OSError as error:
            raise _damaged(
                shard, f"rows {rows.start} to {rows.stop - 1} cannot be read ({error})"
            ) from None
        block = block.astype(block.dtype.newbyteorder("="), copy=False)
        _require_finite(block, shard, rows.start, positions.start)
        return block

    def scatter(
        self, place: int, row: int, first: int, pool: Raw, target: NDArray[np.int64]
    ) -> None:
        """Read consecutive positions of a sequence into rows of an array, wherever each belongs.

        The system puts each position where it belongs, past HDF5: a copy less, and threads do not
        wait for each other. Whether the values are finite is not looked at, which would take a
        third of the time; `read` does.

        Parameters
        ----------
        place, row, first
            Shard, for which `is_plain`, sequence in it and first position.
        pool
            (any, n_channels), of the type of the shards, contiguous.
        target
            (n,) int64, row of `pool` for each position.

        Raises
        ------
        InputError
            Where the file cannot be read there.
        ValueError
            Where the shard is not plain or `pool` not contiguous: the system would write past it.
        """
        opened, shard = self._open(place), self._shards[place]
        if opened.offset is None:
            raise ValueError(f"{shard.path} goes through HDF5 alone: use `read`")
        if not pool.flags.c_contiguous:
            raise ValueError("the pool's rows do not lie one behind the other: give a whole array")
        row_bytes = pool.shape[1] * pool.itemsize
        for start in range(0, len(target), _AT_ONCE):
            pool_rows = target[start : start + _AT_ONCE]
            at = first + start
            offset = opened.offset + (row * self._n_positions + at) * row_bytes
            if not _read_into(opened.descriptor, offset, pool, pool_rows):
                # a call was cut short, as by a signal; past a file's end HDF5 would read zeros
                if os.fstat(opened.descriptor).st_size < offset + len(pool_rows) * row_bytes:
                    raise _damaged(shard, f"ends within row {row}")
                pool[pool_rows] = self.read(
                    place, slice(row, row + 1), slice(at, at + len(pool_rows))
                )[0]

    def _open(self, place: int) -> _Opened:
        """An open shard, kept: to look a dataset up takes as long as to read 500 positions.

        Raises
        ------
        InputError
            Where the file cannot be opened.
        """
        shard = self._shards[place]
        with self._lock:
            if place not in self._opened:
                try:
                    dataset = h5py.File(shard.path, "r")[shard.dataset]
                    descriptor = os.open(shard.path, os.O_RDONLY)
                except (OSError, KeyError) as error:
                    raise _damaged(shard, f"cannot be opened ({error})") from None
                is_plain = (
                    _PREADV is not None
                    and dataset.chunks is None
                    and not dataset.external
                    and dataset.dtype.isnative
                )
                offset = dataset.id.get_offset() if is_plain else None
                self._opened[place] = _Opened(dataset, descriptor, offset)
            return self._opened[place]


def _damaged(shard: Shard, what: str) -> InputError:
    return InputError(f"{shard.path}: {what}; the file is damaged: copy or make it again")


def _read_into(descriptor: int, offset: int, pool: Raw, target: NDArray[np.int64]) -> bool:
    """Read consecutive rows from a file into rows of an array; whether all of it came."""
    row_bytes = pool.shape[1] * pool.itemsize
    buffers = np.empty((len(target), 2), np.uintp)  # `struct iovec`
    buffers[:, 0] = target * row_bytes + pool.ctypes.data
    buffers[:, 1] = row_bytes
    n_read: int = _PREADV(descriptor, buffers.ctypes.data, len(target), offset)
    return n_read == len(target) * row_bytes


def all_finite(block: Raw) -> bool:
    """Whether no stored value is NaN or infinite, whose exponent has every bit set: integer
    arithmetic finds them fastest."""
    from saeborzoi.activations.kernels import largest_masked  # numba is slow to import

    exponent = _EXPONENT[block.dtype.name]
    return bool(largest_masked(block.view(exponent.dtype).ravel(), exponent) < exponent)


def _require_finite(block: Raw, shard: Shard, first_row: int, first_position: int) -> None:
    if all_finite(block):
        return
    exponent = _EXPONENT[block.dtype.name]
    bits = block.view(exponent.dtype)
    bad = (bits & exponent) == exponent
    row, position, channel = (int(i) for i in np.argwhere(bad)[0])
    raise InputError(
        f"{shard.path}: the activation at row {first_row + row}, position "
        f"{first_position + position}, channel {channel} is NaN or infinite; every value must be "
        f"finite: make this shard again ({_WHY[block.dtype.name]})"
    )
