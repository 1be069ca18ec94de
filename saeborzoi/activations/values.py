"""Whether stored values can be activations: a few slabs of each shard are looked at.

That every value is finite is looked at wherever values are read (`reader.py`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saeborzoi.activations.reader import Raw
from saeborzoi.activations.shards import ShardFolder, kept_pieces
from saeborzoi.errors import InputError
from saeborzoi.genome.coordinates import Windows, read_windows

_SLAB = 256
_SMALLEST, _LARGEST = 2.0**-66, 2.0**33
"""Beyond 1e-20 ... 1e10 lie next to no activations, but most integers read as bfloat16."""
_MAX_BEYOND = 0.2
_SHOWN_SHARDS = 3


def check_shards(
    shards: Path | str,
    windows: Path | str,
    *,
    bp_per_position: int,
    pad_bp: int = 0,
    n_channels: int | None = None,
) -> tuple[ShardFolder, str | None]:
    """Check shards as far as seconds allow: shapes, windows, and values of a few slabs.

    Parameters
    ----------
    shards
        Folder of `activations_<i>.h5`.
    windows
        BED that says where each row lies.
    bp_per_position, pad_bp
        How positions lie on the genome, as `kept_pieces` takes them.
    n_channels
        Channels that there should be; None takes what is there.

    Returns
    -------
    tuple
        The folder, and what `unnamed_rows` says of it.

    Raises
    ------
    InputError
        As `ShardFolder.open`, `kept_pieces` and `require_plausible`.
    """
    folder = ShardFolder.open(shards, n_channels)
    kept_pieces(folder, windows, bp_per_position=bp_per_position, pad_bp=pad_bp)
    require_plausible(folder)
    return folder, unnamed_rows(folder, read_windows(Path(windows)))


def require_plausible(folder: ShardFolder, n_sampled: int = 4) -> None:
    """Read up to `n_sampled` slabs of 256 positions of each shard and look at the values.

    Raises
    ------
    InputError
        Where a slab cannot be read or holds NaN or infinity; where a shard holds nothing but
        zeros in every row that is looked at; or where more than a fifth of the values that are
        not 0 are of a size that no network makes, as of integers read as bfloat16.
    """
    n_values = n_beyond = 0
    example = 0.0
    with folder.reader() as reader:
        for place, shard in enumerate(folder.shards):
            empty = True
            rows = np.unique(np.linspace(0, shard.n_sequences - 1, n_sampled).astype(int))
            for row in rows.tolist():
                start = row * 97 % max(1, folder.n_positions - _SLAB + 1)
                positions = slice(start, min(start + _SLAB, folder.n_positions))
                block = reader.read(place, slice(row, row + 1), positions)
                size = _sizes(block)
                beyond = size[(size > 0) & ((size < _SMALLEST) | (size > _LARGEST))]
                n_values += int((size > 0).sum())
                n_beyond += len(beyond)
                example = float(beyond[0]) if len(beyond) else example
                empty &= not size.any()
            # only then whole rows: padding may well be 0
            for row in rows.tolist() if empty else ():
                for start in range(0, folder.n_positions, _SLAB * 16):
                    positions = slice(start, min(start + _SLAB * 16, folder.n_positions))
                    if _sizes(reader.read(place, slice(row, row + 1), positions)).any():
                        empty = False
                        break
            if empty:
                raise InputError(
                    f"{shard.path}: nothing but zeros in {len(rows)} of {shard.n_sequences} rows "
                    "that were looked at, as of a file that was made and never filled; make this "
                    "shard again"
                )
    if n_beyond > _MAX_BEYOND * n_values:
        kind = folder.dtype.name
        stored_as = "uint16, read as bfloat16" if kind == "uint16" else kind
        raise InputError(
            f"{folder.folder}: {n_beyond:,} of {n_values:,} sampled values that are not 0 "
            f"({stored_as}) are of a size that no network makes, e.g. {example:.2g}; needed are "
            "activations in float16, float32 or bfloat16: turn quantized integers into float16 "
            "first, and mind the byte order"
        )


def zero_share(folder: ShardFolder, pieces: NDArray[np.int64], n_sampled: int = 64) -> float:
    """Share of positions that are zero in all channels, from the first positions of some pieces.

    Parameters
    ----------
    pieces
        As `kept_pieces` gives them.
    n_sampled
        Pieces that are looked at, spread over all.
    """
    chosen = pieces[np.unique(np.linspace(0, len(pieces) - 1, n_sampled).astype(int))]
    n_zero = n_seen = 0
    with folder.reader() as reader:
        for place, row, first, last, _ in chosen.tolist():
            positions = slice(first, min(first + _SLAB, last))
            block = reader.read(place, slice(row, row + 1), positions)
            size = _sizes(block).reshape(-1, folder.n_channels)
            n_zero += int((~size.any(axis=1)).sum())
            n_seen += len(size)
    return n_zero / max(n_seen, 1)


def unnamed_rows(folder: ShardFolder, windows: Windows) -> str | None:
    """How many rows of the shards no window names, and which shards as a whole, in words; None
    where each row has one."""
    if not len(windows) or windows.shard[0] < 0:
        return None
    n_unnamed = folder.n_sequences - len(windows)
    if n_unnamed <= 0:
        return None
    named = set(windows.shard.tolist())
    unnamed = [shard.path.name for shard in folder.shards if shard.index not in named]
    some = ", ".join(unnamed[:_SHOWN_SHARDS]) + (", ..." if unnamed[_SHOWN_SHARDS:] else "")
    whole = f", {len(unnamed)} of {len(folder.shards)} shards as a whole ({some})" if some else ""
    return (
        f"{n_unnamed:,} of {folder.n_sequences:,} rows{whole} stand in no line of "
        f"{windows.path.name}: they are neither trained on nor searched; add their lines, or move "
        "away shards that do not belong there"
    )


def _sizes(block: Raw) -> NDArray[np.float32]:
    """Absolute values of a block, flat."""
    if block.dtype == np.uint16:
        block = (block.astype(np.uint32) << 16).view(np.float32)
    return np.abs(block.ravel().astype(np.float32))
