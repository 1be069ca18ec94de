"""What was measured on windows: an HDF5 file, read window by window.

Dataset `targets` (n_windows, n_bins, n_tracks), as Borzoi's training data has each window; rows in
the windows' order, values on the model's scale. Dataset `tracks` names its last axis.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saeborzoi.activations.hdf5 import require_values, unreadable
from saeborzoi.errors import InputError
from saeborzoi.models.model import Outputs

TARGETS, TRACKS = "targets", "tracks"


class Targets(NamedTuple):
    """Targets of some tracks.

    Attributes
    ----------
    path
        The file.
    dataset
        (n_windows, n_bins, n_tracks of the file).
    columns
        (n_tracks,) int64, those that are wanted, in the model's order.
    """

    path: Path
    dataset: h5py.Dataset
    columns: NDArray[np.int64]

    def of(self, windows: Sequence[int]) -> Tensor:
        """(n, n_tracks, n_bins) float32 of some windows."""
        try:
            rows = [self.dataset[window][:, self.columns] for window in windows]
        except OSError as error:
            raise unreadable(self.path, error) from None
        return torch.from_numpy(np.stack(rows).astype(np.float32)).transpose(1, 2)


@contextlib.contextmanager
def open_targets(
    path: Path, n_windows: int, whole: Outputs, tracks: Sequence[str]
) -> Iterator[Targets]:
    """Open a file of targets.

    Parameters
    ----------
    n_windows
        Windows that its rows are of.
    whole
        What the model predicts: the file's tracks where it does not name them.
    tracks
        Those of them that are wanted.

    Raises
    ------
    InputError
        Where the file is not of these windows, bins and tracks; says what is needed.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise unreadable(path, error) from None
    with file:
        dataset = file.get(TARGETS)
        if not isinstance(dataset, h5py.Dataset):
            raise InputError(
                f"{path}: no dataset {TARGETS!r} in it (there: {', '.join(file) or 'nothing'}); "
                f"needed is {TARGETS} of shape (windows, bins, tracks)"
            )
        if dataset.ndim != 3 or dataset.shape[:2] != (n_windows, whole.n_bins):
            raise InputError(
                f"{path}: {TARGETS} has shape {dataset.shape}, needed is ({n_windows:,} windows of "
                f"the BED, in its order, {whole.n_bins:,} bins of {whole.bin_bp} bp, tracks); "
                "bring the targets of these windows"
            )
        if dataset.dtype.kind not in "fiu":
            raise InputError(f"{path}: {TARGETS} holds {dataset.dtype}, needed are numbers")
        require_values(path, dataset)
        names = _names(path, file, dataset.shape[2], whole)
        number = {name: i for i, name in enumerate(names)}
        missing = [track for track in tracks if track not in number]
        if missing:
            raise InputError(
                f"{path}: no targets of {len(missing):,} of the {len(tracks):,} tracks, as of "
                f"{missing[0]!r}; bring them, or name those that it has in [effects] tracks"
            )
        yield Targets(path, dataset, np.array([number[track] for track in tracks], np.int64))


def _names(path: Path, file: h5py.File, n_tracks: int, whole: Outputs) -> list[str]:
    if TRACKS not in file:
        if n_tracks != len(whole.tracks):
            raise InputError(
                f"{path}: targets of {n_tracks:,} tracks, but the model has {len(whole.tracks):,}; "
                f"bring those of all, or name them in a dataset {TRACKS!r}"
            )
        return list(whole.tracks)
    names = [
        name.decode() if isinstance(name, bytes) else str(name) for name in np.ravel(file[TRACKS])
    ]
    if len(names) != n_tracks or len(set(names)) < n_tracks:
        raise InputError(
            f"{path}: {TRACKS} holds {len(set(names)):,} different names, but {TARGETS} has "
            f"{n_tracks:,} tracks; give each a name of its own"
        )
    return names
