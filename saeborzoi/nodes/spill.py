"""Activations put aside on disk until it is known what to compare them with."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray


class Spill:
    """Activations in order of node, slab by slab, in a file that vanishes with the process."""

    def __init__(self, folder: Path | None) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._starts: list[NDArray[np.int32]] = []
        self.is_whole = True

    def __enter__(self) -> Spill:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def append(self, start: NDArray[np.int64], value: NDArray[np.float32]) -> None:
        """Keep a slab's activations; a full disk gives them all up."""
        if not self.is_whole:
            return
        try:
            self._file.write(value.tobytes())
            self._starts.append(start.astype(np.int32))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            self.is_whole = False
            self._starts.clear()
            self._file.seek(0)
            self._file.truncate()

    def read(self) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        """What was appended: ends by node, and activations."""
        self._file.seek(0)
        for start in self._starts:
            yield start, np.frombuffer(self._file.read(4 * int(start[-1])), np.float32)
