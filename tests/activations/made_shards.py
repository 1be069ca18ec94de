"""A folder of small shards for tests."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from saeborzoi.activations.shards import ShardFolder
from saeborzoi.activations.values import check_shards


def write(path: Path, data: np.ndarray, name: str = "anything", **options: object) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=data, **options)


def check(folder: Path, n_channels: int = 3, pad_bp: int = 0) -> tuple[ShardFolder, str | None]:
    return check_shards(
        folder, folder / "train_seqs.bed", n_channels=n_channels, bp_per_position=2, pad_bp=pad_bp
    )


def make_shards(folder: Path) -> Path:
    """Shards 0, 2 and 10 with 2, 2 and 1 sequences of 6 positions, 3 channels."""
    lines = ["\t0\t1\t2\tchunk_ind\tinner_ind"]
    for index, n in ((10, 1), (2, 2), (0, 2)):
        data = np.full((n, 6, 3), index + 1, np.float16)
        write(folder / f"activations_{index}.h5", data, f"name_{index}")
    for line, (index, row) in enumerate([(10, 0), (0, 1), (0, 0), (2, 0), (2, 1)]):
        lines.append(f"{line}\tchr1\t{100 * line}\t{100 * line + 12}\t{index}\t{row}")
    (folder / "train_seqs.bed").write_text("\n".join(lines) + "\n")
    return folder
