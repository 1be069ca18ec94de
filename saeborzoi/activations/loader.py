"""The order in which positions are taken from a source.

Positions are read in contiguous hyperslabs of whole HDF5 chunks, each byte once a pass. For
training the slabs come in a seeded random order and are mixed in pools; the order is a function
of the seed, so that a stream can start in the middle. What a batch is used for belongs elsewhere.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from saeborzoi.activations.read_ahead import ahead
from saeborzoi.activations.reader import Raw
from saeborzoi.activations.source import BlockReader, DeviceReader, Source
from saeborzoi.errors import SettingsError
from saeborzoi.settings.hyperparameters import derived_seed

_T = TypeVar("_T")


class Slab(NamedTuple):
    """Positions read at once.

    Attributes
    ----------
    activation
        (n, n_channels), as stored.
    window, position
        (n,) int64, row of the windows and index along the shard's second axis.
    """

    activation: Raw
    window: NDArray[np.int64]
    position: NDArray[np.int64]


class SlabPlan:
    """Blocks that hold the kept positions of a source, each position in one only.

    Parameters
    ----------
    source
        Shards, or a model.
    pieces
        (n_ranges, 5) int64, see `kept_pieces`.
    """

    def __init__(self, source: Source, pieces: NDArray[np.int64]) -> None:
        self.source = source
        self._pieces, self._first_piece = _cut(source, pieces)
        sizes = self._pieces[:, 3] - self._pieces[:, 2]
        self.sizes = np.add.reduceat(sizes, self._first_piece[:-1])
        """(n_slabs,) int64, kept positions of each slab."""

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def n_positions(self) -> int:
        """Kept positions."""
        return int(self.sizes.sum())

    @property
    def stretches(self) -> NDArray[np.int64]:
        """(n, 3) int64: window, first and last (exclusive) position of what is read at once."""
        return self._pieces[:, [4, 2, 3]]

    def read(self, reader: BlockReader, slab: int) -> Slab:
        """Read one slab and cut out its kept positions."""
        pieces = self._pieces_of(slab)
        row, first = int(pieces[:, 1].min()), int(pieces[:, 2].min())
        block = reader.read(
            int(pieces[0, 0]),
            slice(row, int(pieces[:, 1].max()) + 1),
            slice(first, int(pieces[:, 3].max())),
        )
        return Slab(
            _joined([block[r - row, a - first : b - first] for _, r, a, b, _ in pieces.tolist()]),
            *self.places(slab),
        )

    def scatter(self, reader: BlockReader, slab: int, pool: Raw, target: NDArray[np.int64]) -> None:
        """Read the kept positions of one slab into rows `target` of an array."""
        pieces = self._pieces_of(slab)
        if not reader.is_plain(int(pieces[0, 0])):
            pool[target] = self.read(reader, slab).activation
            return
        done = 0
        for place, row, first, last, _ in pieces.tolist():
            reader.scatter(place, row, first, pool, target[done : done + last - first])
            done += last - first

    def read_there(self, reader: DeviceReader, slab: int) -> torch.Tensor:
        """(n, n_channels), the kept positions of one slab on the reader's device."""
        pieces = self._pieces_of(slab).tolist()
        return torch.cat([reader.read_there(row, slice(a, b)) for _, row, a, b, _ in pieces])

    def places(self, slab: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Window and position of each kept position of a slab, see `Slab`."""
        pieces = self._pieces_of(slab)
        return (
            np.repeat(pieces[:, 4], pieces[:, 3] - pieces[:, 2]),
            _joined([np.arange(a, b) for _, _, a, b, _ in pieces.tolist()]),
        )

    def _pieces_of(self, slab: int) -> NDArray[np.int64]:
        return self._pieces[self._first_piece[slab] : self._first_piece[slab + 1]]

    def in_order(self) -> Iterator[Slab]:
        """Every slab in order of the files, read ahead by one thread."""
        with self.source.reader() as reader:
            yield from ahead(lambda slab: self.read(reader, slab), len(self))


class TrainingStream:
    """An endless, seeded, shuffled stream of positions.

    Slabs are shuffled over all shards; each pool takes as many as half the buffer holds and is
    shuffled as a whole, while the next pool is being read into the memory of the last (fresh
    memory costs more than the copy into it). Data of which three copies fit the buffer is read in
    the first pass only. Row `i` of the stream depends on the seed, the data and
    the buffer's size alone.

    Parameters
    ----------
    plan
        What to read.
    seed
        Names the order.
    buffer_mb
        Memory of both pools.
    threads
        Slabs that are read at once; the order does not depend on it.

    Raises
    ------
    SettingsError
        Where the buffer cannot hold two slabs.
    """

    def __init__(self, plan: SlabPlan, seed: int, buffer_mb: int, threads: int = 1) -> None:
        self._plan = plan
        self._seed = seed
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="slab")
        row_bytes = plan.source.n_channels * plan.source.dtype.itemsize
        self._capacity = buffer_mb * 2**20 // (2 * row_bytes)
        self.keeps = 3 * plan.n_positions <= 2 * self._capacity
        """Whether slabs stay in memory, which holds three parts then: they, the pool in use and the
        pool that is being filled."""
        self._kept: dict[int, Raw] = {}
        self._filled: tuple[list[Raw], int] | None = None
        largest = int(plan.sizes.max())
        if largest > self._capacity:
            need = -(-2 * largest * row_bytes // 2**20)
            raise SettingsError(
                f"training.buffer_mb = {buffer_mb}: one chunk of {plan.source.name} holds "
                f"{largest} positions, and two must fit; set at least {need}"
            )

    @property
    def n_positions(self) -> int:
        """Positions of one pass."""
        return self._plan.n_positions

    def first(self, n: int) -> Raw:
        """(n, n_channels) as stored: the first rows of the stream; valid until `batches` is asked
        for, which then does not read the pool again that they stand in."""
        memory = self._memory()
        pool = next(self._pools(0, 1, memory))
        if len(pool) < n:
            return next(self.batches(n, n_rows=n))
        self._filled = memory, len(pool)
        return pool[:n]

    def batches(
        self, batch_size: int, first_row: int = 0, n_rows: int | None = None
    ) -> Iterator[Raw]:
        """Batches of consecutive rows of the stream.

        Parameters
        ----------
        batch_size
            Rows of each batch.
        first_row
            Row of the stream to begin at, to go on where a training stopped.
        n_rows
            Rows that will be asked for, so that none is read ahead in vain; None: without end.

        Yields
        ------
        ndarray
            (batch_size, n_channels), as stored; valid until the next one is asked for.
        """
        parts: list[Raw] = []
        n_needed = batch_size
        for pool in self._pools(first_row, n_rows):
            taken = 0
            while taken < len(pool):
                part = pool[taken : taken + n_needed]
                taken += len(part)
                n_needed -= len(part)
                parts.append(part)
                if n_needed == 0:
                    yield _joined(parts)
                    parts, n_needed = [], batch_size
            # Two buffers take turns, so the pool after the next one overwrites this one: copy.
            parts = [part.copy() for part in parts]

    def _memory(self) -> list[Raw]:
        return [np.empty(self.pool_shape, self.dtype) for _ in range(2)]

    def _pools(
        self, first_row: int, n_rows: int | None = None, memory: list[Raw] | None = None
    ) -> Iterator[Raw]:
        filled, n_filled = self._filled or (None, 0)
        self._filled = None
        places = itertools.cycle(memory or filled or self._memory())
        is_there = first_row < n_filled

        def make(reader: BlockReader, slabs: NDArray[np.int64], target: NDArray[np.int64]) -> Raw:
            nonlocal is_there
            pool = next(places)[: len(target)]
            if not is_there:
                self.fill(reader, slabs, pool, target)
            is_there = False
            return pool

        for pool, skip in self.pools(make, first_row, n_rows):
            yield pool[skip:]

    @property
    def pool_shape(self) -> tuple[int, int]:
        """Rows and channels of the largest pool."""
        return min(self._capacity, self.n_positions), self._plan.source.n_channels

    @property
    def dtype(self) -> np.dtype:
        """Of positions as stored."""
        return self._plan.source.dtype

    def pools(
        self,
        make: Callable[[BlockReader, NDArray[np.int64], NDArray[np.int64]], _T],
        first_row: int = 0,
        n_rows: int | None = None,
    ) -> Iterator[tuple[_T, int]]:
        """What is made of each pool in turn, and how many rows of it come before `first_row`.

        Parameters
        ----------
        make
            Called with a reader, the pool's slabs and the row of the stream, counted from the
            pool's first, of each of their positions; in a thread of its own, at most one pool
            ahead of the caller, from one pass to the next, too.
        n_rows
            As for `batches`.
        """
        contents = self._contents(first_row, n_rows)
        with self._plan.source.reader() as reader:

            def made(_: int) -> tuple[_T, int] | None:
                pool = next(contents, None)
                if pool is None:
                    return None
                slabs, rng, skip = pool
                n_rows = int(self._plan.sizes[slabs].sum())
                return make(reader, slabs, rng.permutation(n_rows)), skip

            for pool in ahead(made, sys.maxsize):
                if pool is None:
                    return
                yield pool

    def _contents(
        self, first_row: int, n_rows: int | None
    ) -> Iterator[tuple[NDArray[np.int64], np.random.Generator, int]]:
        """Of each pool its slabs, what shuffles it, and rows of it that come before `first_row`."""
        epoch, skip = divmod(first_row, self.n_positions)
        n_left: float = math.inf if n_rows is None else n_rows
        while True:
            order = self._rng(epoch).permutation(len(self._plan))
            ends = _pool_ends(self._plan.sizes[order], self._capacity)
            done = np.cumsum(self._plan.sizes[order])[ends - 1]
            for i, slabs in enumerate(np.split(order, ends[:-1])):
                n_of_pool = int(done[i] - (done[i - 1] if i else 0))
                if skip < n_of_pool:
                    if n_left <= 0:
                        return
                    yield slabs, self._rng(epoch, i), skip
                    n_left -= n_of_pool - skip
                skip = max(0, skip - n_of_pool)
            epoch += 1

    def fill(
        self,
        reader: BlockReader,
        slabs: NDArray[np.int64],
        pool: Raw,
        target: NDArray[np.int64],
    ) -> None:
        """Read slabs into rows `target` of an array, several at once."""
        ends = np.cumsum(self._plan.sizes[slabs]).tolist()

        def read(slab: int, end: int) -> None:
            place = target[end - int(self._plan.sizes[slab]) : end]
            if not self.keeps:
                self._plan.scatter(reader, slab, pool, place)
                return
            if slab not in self._kept:
                self._kept[slab] = self._plan.read(reader, slab).activation
            pool[place] = self._kept[slab]

        list(self._threads.map(read, slabs.tolist(), ends))

    def read_there(self, reader: DeviceReader, slabs: NDArray[np.int64]) -> torch.Tensor:
        """(n, n_channels), slabs one after another, on the reader's device."""
        return torch.cat([self._plan.read_there(reader, slab) for slab in slabs.tolist()])

    def _rng(self, *place: int) -> np.random.Generator:
        return np.random.default_rng(derived_seed("order", self._seed, *place))


def to_float32(
    raw: Raw, device: torch.device | str = "cpu", out: torch.Tensor | None = None
) -> torch.Tensor:
    """Stored activations as float32 on a device.

    Parameters
    ----------
    raw
        float16, float32, or uint16 that holds bfloat16 bits; any shape.
    device
        Conversion happens there, so that the narrow type is what travels.
    out
        Memory for as many values, on the CPU, which is written where the type is a narrow one:
        fresh memory takes longer than the conversion.
    """
    stored = torch.from_numpy(np.ascontiguousarray(raw))
    if raw.dtype == np.uint16:
        stored = stored.view(torch.bfloat16)
    if out is not None and stored.dtype != torch.float32:
        return out.copy_(stored)
    return stored.to(device, non_blocking=True).to(torch.float32)


def _cut(source: Source, pieces: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut ranges at slab borders and group those of one slab.

    Returns pieces in order of slabs, and the first piece of each slab with the end.
    """
    shapes = np.array([source.slab_shape(i) for i in range(int(pieces[:, 0].max()) + 1)])
    chunk_rows, slab = shapes[:, 0], shapes[pieces[:, 0], 1]
    first_block = pieces[:, 2] // slab
    n_blocks = (pieces[:, 3] - 1) // slab - first_block + 1
    owner = np.repeat(np.arange(len(pieces)), n_blocks)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(n_blocks) - n_blocks, n_blocks)
    block = first_block[owner] + within
    cut = pieces[owner]
    cut[:, 2] = np.maximum(cut[:, 2], block * slab[owner])
    cut[:, 3] = np.minimum(cut[:, 3], (block + 1) * slab[owner])
    row_block = cut[:, 1] // chunk_rows[cut[:, 0]]
    order = np.lexsort((cut[:, 2], cut[:, 1], block, row_block, cut[:, 0]))
    cut, key = cut[order], np.column_stack([cut[:, 0], row_block, block])[order]
    starts = np.flatnonzero(np.concatenate([[True], (key[1:] != key[:-1]).any(axis=1)]))
    return cut, np.append(starts, len(cut))


def _pool_ends(sizes: NDArray[np.int64], capacity: int) -> NDArray[np.int64]:
    """Ends (exclusive) of runs of slabs that fit `capacity` each."""
    total = np.cumsum(sizes)
    ends: list[int] = []
    done = 0
    while not ends or ends[-1] < len(sizes):
        ends.append(int(np.searchsorted(total, done + capacity, side="right")))
        done = int(total[ends[-1] - 1])
    return np.array(ends, np.int64)


def _joined(parts: list[NDArray[_T]]) -> NDArray[_T]:  # type: ignore[type-var]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
