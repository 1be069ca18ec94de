"""Shards as sae-borzoi publishes them: a folder of HDF5 files `activations_<i>.h5`.

What is in such a folder, whether it is usable, and where in it the positions that count lie. Which
ones count belongs to `saeborzoi.genome`, reading them to `reader.py`, their order to `loader.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from saeborzoi.activations.hdf5 import datasets, require_values, unreadable
from saeborzoi.activations.reader import Reader, Shard
from saeborzoi.activations.source import SLAB_POSITIONS
from saeborzoi.errors import InputError
from saeborzoi.genome.coordinates import Windows, kept_positions, read_windows
from saeborzoi.jobs.fingerprint import digests_of

_NAME = re.compile(r"activations_([0-9]+)\.h5")
_DTYPES = ("float16", "float32", "uint16")
_SAMPLED_BYTES = 1 << 16


@dataclass(frozen=True, repr=False)
class ShardFolder:
    """A checked folder of shards, in numeric order.

    Attributes
    ----------
    folder
        Where the files lie.
    shards
        The files; the last may hold fewer sequences.
    n_positions, n_channels
        The same in every shard.
    """

    folder: Path
    shards: tuple[Shard, ...]
    n_positions: int
    n_channels: int

    @classmethod
    def open(cls, folder: Path | str, n_channels: int | None = None) -> ShardFolder:
        """Read the shapes of a folder of shards; no activation is read.

        Parameters
        ----------
        folder
            Holds `activations_<i>.h5`, one dataset of any name in each,
            (n_sequences, n_positions, n_channels).
        n_channels
            What the settings say; None takes what is there.

        Raises
        ------
        InputError
            Where the folder is missing or empty, two files have one number, a file is no complete
            HDF5 or its values are not there, or shapes differ.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(
                f"{folder}: no such folder; needed is a folder of shards activations_<i>.h5; "
                "fix `shards` of the layer"
            )
        numbered = sorted(
            (int(match[1]), path)
            for path in folder.iterdir()
            if (match := _NAME.fullmatch(path.name))
        )
        if not numbered:
            raise InputError(
                f"{folder}: holds no file activations_<i>.h5; fix `shards` of the layer or "
                "bring the shards there"
            )
        for (index, path), (following, other) in itertools.pairwise(numbered):
            if index == following:
                raise InputError(
                    f"{folder}: {path.name} and {other.name} are both shard {index}; move the one "
                    "that does not belong to the windows away"
                )
        described = [_describe(path, index) for index, path in numbered]
        first, (_, n_positions, channels) = described[0]
        for shard, shape in described:
            if shape[1:] != (n_positions, channels):
                raise InputError(
                    f"{shard.path}: {shape[1]} positions x {shape[2]} channels, but "
                    f"{first.path.name} has {n_positions} x {channels}; every shard of a folder "
                    "needs the same; remove or remake the odd one"
                )
            if shard.dtype != first.dtype:
                raise InputError(
                    f"{shard.path}: {shard.dtype}, but {first.path.name} is {first.dtype}; every "
                    "shard of a folder needs the same type; make the odd one again"
                )
        if n_channels is not None and channels != n_channels:
            raise InputError(
                f"{folder}: shards of {channels} channels, the settings say {n_channels}; fix "
                "n_channels of the layer, or `shards`"
            )
        return cls(folder, tuple(shard for shard, _ in described), n_positions, channels)

    def __repr__(self) -> str:
        return (
            f"ShardFolder({self.folder}: {len(self.shards):,} shards, {self.n_sequences:,} windows "
            f"x {self.n_positions:,} positions x {self.n_channels:,} channels, {self.dtype})"
        )

    @property
    def name(self) -> str:
        """For messages."""
        return str(self.folder)

    @property
    def n_sequences(self) -> int:
        """Sequences over all shards."""
        return sum(shard.n_sequences for shard in self.shards)

    @property
    def dtype(self) -> np.dtype:
        """How values are stored: float16, float32, or uint16 that holds bfloat16 bits."""
        return np.dtype(self.shards[0].dtype)

    @cached_property
    def first_sequence(self) -> NDArray[np.int64]:
        """(n_shards + 1,) int64: rows of all shards before each."""
        return np.cumsum([0, *(shard.n_sequences for shard in self.shards)])

    def locate(self, windows: Windows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where each window's activations lie.

        Returns
        -------
        (shard, row)
            Both (n_windows,) int64: place in `shards` (not the number in the name), row in it.

        Raises
        ------
        InputError
            Where a window names a shard or row that is not there, or a plain BED has not one
            line for each row.
        """
        if len(windows) and windows.shard[0] < 0:
            if len(windows) != self.n_sequences:
                raise InputError(
                    f"{windows.path}: {len(windows)} windows, but the shards of {self.folder} "
                    f"hold {self.n_sequences} sequences; plain BED needs one line for each; "
                    "bring the BED that belongs to them, or the published train_seqs.bed"
                )
            place = np.searchsorted(self.first_sequence, windows.row, side="right") - 1
            return place, windows.row - self.first_sequence[place]
        numbers = np.array([shard.index for shard in self.shards])
        sizes = np.array([shard.n_sequences for shard in self.shards])
        place = np.minimum(np.searchsorted(numbers, windows.shard), len(numbers) - 1)
        absent = numbers[place] != windows.shard
        if absent.any():
            i = int(absent.argmax())
            raise InputError(
                f"{windows.path}, line {windows.line[i]}: shard {windows.shard[i]}, but "
                f"{self.folder} has no activations_{windows.shard[i]}.h5; bring that file or "
                "remove the lines of it"
            )
        beyond = (windows.row < 0) | (windows.row >= sizes[place])
        if beyond.any():
            i = int(beyond.argmax())
            raise InputError(
                f"{windows.path}, line {windows.line[i]}: row {windows.row[i]} of shard "
                f"{windows.shard[i]}, which has rows 0 to {sizes[place[i]] - 1}; bring the "
                "windows of these shards"
            )
        return place, windows.row

    @contextlib.contextmanager
    def reader(self) -> Iterator[Reader]:
        """Open files to read from; each file is opened once, at its first use."""
        reader = Reader(self.shards, self.n_positions)
        try:
            yield reader
        finally:
            reader.close()

    def slab_shape(self, place: int) -> tuple[int, int]:
        """Rows and positions of one read: whole HDF5 chunks."""
        chunks = self.shards[place].chunks
        if chunks is None:
            return 1, SLAB_POSITIONS
        return chunks[0], max(1, SLAB_POSITIONS // chunks[1]) * chunks[1]

    def everything(self) -> NDArray[np.int64]:
        """(n_sequences, 5) int64, as `kept_pieces`: every position, padding included."""
        return np.array(
            [
                (place, row, 0, self.n_positions, 0)
                for place, shard in enumerate(self.shards)
                for row in range(shard.n_sequences)
            ],
            np.int64,
        )

    def identity(self) -> dict[str, Any]:
        """`data_fingerprint`, and `data_files`, name to bytes; neither place nor time of a file
        enters."""
        return {
            "data_fingerprint": self.fingerprint(),
            "data_files": {shard.path.name: shard.path.stat().st_size for shard in self.shards},
        }

    def fingerprint(self) -> str:
        """Digest of names, types and content of the files: does a checkpoint belong to this data?

        A copy elsewhere has the same digest.
        """
        digest = hashlib.blake2b(digest_size=16)
        contents = digests_of([shard.path for shard in self.shards])
        for shard, content in zip(self.shards, contents, strict=True):
            digest.update(f"{shard.path.name} {shard.dtype} {content}\0".encode())
        return f"x{digest.hexdigest()}"

    def sampled_fingerprint(self) -> str:
        """What the first release wrote for `fingerprint`, for checkpoints that it made: names,
        sizes, and the first and last 64 KiB of each file."""
        digest = hashlib.blake2b(digest_size=16)
        for shard in self.shards:
            size = shard.path.stat().st_size
            digest.update(f"{shard.path.name} {size} {shard.dtype}".encode())
            with shard.path.open("rb") as file:
                digest.update(file.read(_SAMPLED_BYTES))
                file.seek(max(0, size - _SAMPLED_BYTES))
                digest.update(file.read(_SAMPLED_BYTES))
        return digest.hexdigest()


def kept_pieces(
    folder: ShardFolder, windows: Path | str, *, bp_per_position: int, pad_bp: int = 0
) -> NDArray[np.int64]:
    """The positions of shards that count, as ranges of rows of shards.

    Parameters
    ----------
    windows
        BED that says where each row lies.
    bp_per_position
        Base pairs that one position covers.
    pad_bp
        Base pairs that the model saw on either side of each window.

    Returns
    -------
    ndarray
        (n_ranges, 5) int64: place in `folder.shards`, row in it, first position, last position
        (exclusive), row of the windows.

    Raises
    ------
    InputError
        Where windows and shards do not fit each other, or no position is left.
    """
    table = read_windows(Path(windows))
    place, row = folder.locate(table)
    ranges = kept_positions(table, folder.n_positions, bp_per_position, pad_bp)
    if not len(ranges):
        raise InputError(
            f"{windows}: no position is left inside the windows; fix "
            "bp_per_position or pad_bp of the layer"
        )
    window = ranges[:, 0]
    return np.column_stack([place[window], row[window], ranges[:, 1], ranges[:, 2], window]).astype(
        np.int64
    )


def _describe(path: Path, index: int) -> tuple[Shard, tuple[int, int, int]]:
    try:
        with h5py.File(path, "r") as file:
            names = datasets(path, file)
            if len(names) != 1:
                raise InputError(
                    f"{path}: {len(names)} datasets ({', '.join(names) or 'none'}); needed "
                    "is exactly one, (sequences, positions, channels)"
                )
            dataset = file[names[0]]
            if dataset.ndim != 3 or 0 in dataset.shape:
                raise InputError(
                    f"{path}: dataset {names[0]!r} has shape {dataset.shape}; needed is "
                    "(sequences, positions, channels), none of them 0"
                )
            if dataset.dtype.name not in _DTYPES:
                raise InputError(
                    f"{path}: dataset {names[0]!r} is {dataset.dtype}; needed is float16, "
                    "float32, or bfloat16 stored as uint16"
                )
            require_values(path, dataset)
            shard = Shard(
                path, index, names[0], dataset.shape[0], dataset.dtype.name, dataset.chunks
            )
            return shard, dataset.shape
    except OSError as error:
        raise unreadable(path, error) from None
