"""A live source whose values are kept in shards: the model runs once, later passes read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from saeborzoi.activations.live import LiveSource
from saeborzoi.activations.shards import ShardFolder
from saeborzoi.errors import InputError
from saeborzoi.files import write_folder
from saeborzoi.jobs.job import Progress, silent

CACHE_FILE = "cache.json"
_ROWS = 16
"""Windows of one shard of a cache."""


class CachedSource:
    """A live source whose values lie in shards, written at the first use; a `Source`."""

    def __init__(self, live: LiveSource, cache: Path, progress: Progress = silent) -> None:
        self._live = live
        if not self._is_there(cache):
            self._write(cache, progress)
        self._folder = ShardFolder.open(cache, live.n_channels)
        self.n_positions, self.n_channels = live.n_positions, live.n_channels
        self.dtype = self._folder.dtype
        # the live source's, so that training sees the same order
        self.slab_shape = live.slab_shape
        self.reader = self._folder.reader

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self._live.name}, cached in {self._folder.folder}"

    def everything(self) -> NDArray[np.int64]:
        """What counts, where it lies in the shards."""
        pieces = self._live.scan.pieces.copy()
        pieces[:, 0], pieces[:, 1] = np.divmod(pieces[:, 4], _ROWS)
        return pieces

    def identity(self) -> dict[str, Any]:
        """The live source's: where values wait does not matter."""
        return self._live.identity()

    def _is_there(self, cache: Path) -> bool:
        """Whether the folder holds these activations; refused where it holds something else."""
        if not cache.exists():
            return False
        try:
            then = json.loads((cache / CACHE_FILE).read_text())
        except (OSError, ValueError):
            raise InputError(
                f"{cache}: is no cache of activations (no readable {CACHE_FILE}); remove it, or "
                "name another folder as `cache`"
            ) from None
        if then != self._live.identity():
            raise InputError(
                f"{cache}: holds activations of other weights, layer, windows or genome "
                f"({then.get('data_fingerprint')} then, {self._live.identity()['data_fingerprint']}"
                " now); remove it, or name another folder as `cache`"
            )
        return True

    def _write(self, cache: Path, progress: Progress) -> None:
        live = self._live
        n = len(live.places.windows)
        span_of_row: dict[int, tuple[int, int]] = {}
        for _, row, first, last, _ in live.scan.pieces.tolist():
            low, high = span_of_row.get(row, (first, last))
            span_of_row[row] = (min(low, first), max(high, last))
        with write_folder(cache) as temporary:
            for shard, begin in enumerate(range(0, n, _ROWS)):
                rows = range(begin, min(begin + _ROWS, n))
                with h5py.File(temporary / f"activations_{shard}.h5", "w") as file:
                    data = file.create_dataset(
                        "activations", (len(rows), live.n_positions, live.n_channels), live.dtype
                    )
                    for row in rows:
                        # what does not count, as padding, stays 0
                        if row in span_of_row:
                            low, high = span_of_row[row]
                            data[row - begin, low:high] = live.read(
                                0, slice(row, row + 1), slice(low, high)
                            )[0]
                        progress("activations to the cache", row + 1, n)
            (temporary / CACHE_FILE).write_text(json.dumps(live.identity(), indent=1) + "\n")
