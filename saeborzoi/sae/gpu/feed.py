"""Positions on their way to the device: read into pinned memory, shuffled where they are used.

A pool of positions is read in the order of the files, which a disk likes best, and copied to the
device as it is; batches are gathered there through the same random order that a CPU's training
has. While one pool is trained on, the next one is read and copied. What a model computes on the
device stays there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saeborzoi.activations.loader import SlabPlan, TrainingStream
from saeborzoi.activations.read_ahead import ahead
from saeborzoi.activations.reader import Raw
from saeborzoi.activations.source import BlockReader, DeviceReader
from saeborzoi.sae.distributed import Group


class _Pool(NamedTuple):
    """Positions in the order of the files, and which of them comes when; `full` is passed on the
    device once both have arrived."""

    place: int
    rows: Tensor
    order: Tensor
    full: torch.cuda.Event | None


class DeviceStream:
    """Batches of a `TrainingStream`, one after another in the same place on the device.

    Parameters
    ----------
    stream
        Says the order: row i is the same here and there.
    batch_size
        Positions of a batch, of all processes.
    device
        Where.
    group
        Processes that share the batch; each gets its own rows.
    """

    def __init__(
        self,
        stream: TrainingStream,
        batch_size: int,
        device: torch.device,
        group: Group | None = None,
    ) -> None:
        self._stream, self._device = stream, device
        self._group = group or Group()
        shape, dtype = stream.pool_shape, stored_dtype(stream.dtype)
        self._on_gpu = device.type == "cuda"
        self._host = [torch.empty(shape, dtype=dtype, pin_memory=self._on_gpu) for _ in range(2)]
        self._orders = [torch.empty(shape[0], dtype=torch.int64) for _ in range(2)]
        self._pools = self._host
        if self._on_gpu:
            self._orders = [order.pin_memory() for order in self._orders]
            self._pools = [torch.empty(shape, dtype=dtype, device=device) for _ in range(2)]
            self._index = torch.cuda.current_device()
            self._copies = torch.cuda.Stream()
            self._copied: list[torch.cuda.Event | None] = [None, None]
            self._used: list[torch.cuda.Event | None] = [None, None]
        n_rows = batch_size // self._group.size
        self.buffer = torch.zeros(n_rows, shape[1], dtype=dtype, device=device)
        """(batch_size / processes, n_channels) as stored: where every batch comes to stand."""

    def batches(
        self, batch_size: int, first_row: int = 0, n_rows: int | None = None
    ) -> Iterator[Tensor]:
        """As `TrainingStream.batches`: `buffer`, with one batch after another.

        It holds the next one as soon as that is asked for: what reads it must be queued before.
        """
        places = itertools.cycle(range(2))

        def make(reader: BlockReader, slabs: NDArray[np.int64], target: NDArray[np.int64]) -> _Pool:
            return self._pool(next(places), reader, slabs, target)

        n_filled, n_before = 0, 0
        for pool, taken in self._stream.pools(make, first_row, n_rows):
            if pool.full is not None:
                torch.cuda.current_stream().wait_event(pool.full)
            while taken < len(pool.order):
                n = min(batch_size - n_before, len(pool.order) - taken)
                rows = self._own(pool.order[taken : taken + n], n_before, n_filled)
                target = self.buffer[n_filled : n_filled + len(rows)]
                torch.index_select(pool.rows, 0, rows, out=target)
                n_filled, n_before, taken = n_filled + len(rows), n_before + n, taken + n
                if n_before == batch_size:
                    yield self.buffer
                    n_filled, n_before = 0, 0
            if self._on_gpu:
                self._used[pool.place] = _recorded()

    def _own(self, order: Tensor, n_before: int, n_filled: int) -> Tensor:
        """This process's rows, every `size`-th of the batch, of the part after `n_before` rows."""
        size, rank = self._group.size, self._group.rank
        return order[(rank - n_before) % size :: size][: len(self.buffer) - n_filled]

    def _pool(
        self,
        place: int,
        reader: BlockReader,
        slabs: NDArray[np.int64],
        target: NDArray[np.int64],
    ) -> _Pool:
        """Read a pool (in the reading thread) and set its copy going."""
        n = len(target)
        if self._on_gpu:
            copied = self._copied[place]
            if copied is not None:
                copied.synchronize()
        in_order = np.arange(n)
        there = None if self._stream.keeps else _there(reader, self._device)
        if there is None:
            self._stream.fill(reader, slabs, _as_array(self._host[place])[:n], in_order)
        self._orders[place].numpy()[target] = in_order
        rows, order = self._pools[place][:n], self._orders[place][:n]
        if not self._on_gpu:
            if there is not None:
                rows.copy_(self._stream.read_there(there, slabs))
            return _Pool(place, rows, order, None)
        torch.cuda.set_device(self._index)
        with torch.cuda.stream(self._copies):
            used = self._used[place]
            if used is not None:
                self._copies.wait_event(used)
            if there is not None:
                rows.copy_(self._stream.read_there(there, slabs))
            else:
                rows.copy_(self._host[place][:n], non_blocking=True)
            order = order.to(self._device, non_blocking=True)
            order.record_stream(torch.cuda.default_stream())
            full = self._copied[place] = _recorded()
        return _Pool(place, rows, order, full)


def _there(reader: BlockReader, device: torch.device) -> DeviceReader | None:
    """The reader, where it computes on this device."""
    if isinstance(reader, DeviceReader) and reader.device.type == device.type:
        return reader
    return None


def stored_dtype(dtype: np.dtype) -> torch.dtype:
    """Type on the device of positions as stored; uint16 holds bfloat16 bits."""
    return {"uint16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}[
        dtype.name
    ]


def _as_array(tensor: Tensor) -> Raw:
    """A CPU tensor's memory as stored positions."""
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    array: Raw = tensor.numpy()
    return array


def _recorded() -> torch.cuda.Event:
    event = torch.cuda.Event()
    event.record()
    return event


class Block(NamedTuple):
    """Consecutive positions on the device: (n, n_channels) as stored, and (n,) int64, window
    x positions of a window + position."""

    raw: Tensor
    identity: Tensor


def blocks(
    plan: SlabPlan, device: torch.device, n_at_least: int, threads: int = 1
) -> Iterator[Block]:
    """Every kept position in order of the files, in blocks of whole slabs, read and copied ahead.

    A block is valid until the next one is asked for, for work that was queued before. Whether
    values are finite is not looked at.
    """
    sizes = plan.sizes
    ends = _block_ends(sizes, n_at_least)
    n_rows = int(np.diff(np.cumsum(sizes)[np.array(ends) - 1], prepend=0).max())
    dtype, on_gpu = stored_dtype(plan.source.dtype), device.type == "cuda"
    host, pools = [], []
    for _ in range(2):
        shape = n_rows, plan.source.n_channels
        host.append(torch.empty(shape, dtype=dtype, pin_memory=on_gpu))
        pools.append(torch.empty(shape, dtype=dtype, device=device) if on_gpu else host[-1])
    copies = torch.cuda.Stream() if on_gpu else None
    index = torch.cuda.current_device() if on_gpu else 0
    copied: list[torch.cuda.Event | None] = [None, None]
    used: list[torch.cuda.Event | None] = [None, None]

    with plan.source.reader() as reader, ThreadPoolExecutor(threads) as pool:

        def made(i: int) -> Block:
            place, slabs = i % 2, range(ends[i - 1] if i else 0, ends[i])
            before = copied[place]
            if before is not None:
                before.synchronize()
            last = np.cumsum(sizes[slabs.start : slabs.stop])
            rows = [np.arange(b - sizes[s], b) for s, b in zip(slabs, last.tolist(), strict=True)]
            array, there = _as_array(host[place]), _there(reader, device)
            if there is None:
                list(pool.map(lambda slab, target: plan.scatter(reader, slab, array, target),
                              slabs, rows))  # fmt: skip
            places = zip(*map(plan.places, slabs), strict=True)
            window, position = (np.concatenate(parts) for parts in places)
            identity = torch.from_numpy(window * plan.source.n_positions + position)
            n = int(last[-1])
            target = pools[place][:n]
            if copies is None:
                if there is not None:
                    torch.cat([plan.read_there(there, slab) for slab in slabs], out=target)
                return Block(target, identity)
            torch.cuda.set_device(index)
            with torch.cuda.stream(copies):
                free = used[place]
                if free is not None:
                    copies.wait_event(free)
                if there is not None:
                    torch.cat([plan.read_there(there, slab) for slab in slabs], out=target)
                else:
                    target.copy_(host[place][:n], non_blocking=True)
                identity = identity.to(device)
                identity.record_stream(torch.cuda.default_stream())
                copied[place] = _recorded()
            return Block(target, identity)

        for i, block in enumerate(ahead(made, len(ends))):
            full = copied[i % 2]
            if full is not None:
                torch.cuda.current_stream().wait_event(full)
            yield block
            if on_gpu:
                used[i % 2] = _recorded()


def _block_ends(sizes: NDArray[np.int64], n_at_least: int) -> list[int]:
    """Ends (exclusive) of runs of slabs that hold so many positions, the last one perhaps fewer.

    >>> _block_ends(np.array([3, 3, 3, 5, 1]), 5)
    [2, 4, 5]
    """
    ends, n = [], 0
    for i, size in enumerate(sizes.tolist(), 1):
        n += size
        if n >= n_at_least or i == len(sizes):
            ends.append(i)
            n = 0
    return ends
