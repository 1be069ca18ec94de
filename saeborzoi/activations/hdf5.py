"""What HDF5 leaves unsaid: why a file cannot be opened, and whether a dataset's values are there.

Where a value was never written, or lies in a file that is missing, HDF5 gives zeros without a
word. Shapes and types are `shards.py`'s business.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from saeborzoi.errors import InputError
from saeborzoi.reading import HEAD_BYTES, kind_of

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_FILTERS = {
    305: "lzo",
    307: "bzip2",
    32000: "lzf",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32013: "zfp",
    32015: "zstd",
    32026: "blosc2",
}


def unreadable(path: Path, error: OSError) -> InputError:
    """What is wrong with a file that HDF5 does not open or read, and what helps."""
    text = " ".join(str(error).split())
    if path.is_symlink() and not path.exists():
        return InputError(
            f"{path}: a link to {os.readlink(path)}, which is not there; bring that file or fix "
            "the link"
        )
    if not path.exists():
        return InputError(f"{path}: not there any more; bring it again")
    if path.is_dir():
        return InputError(f"{path}: a folder; needed is an HDF5 file of this name")
    if "lock file" in text or error.errno in (11, 35):
        return InputError(
            f"{path}: another process has it open for writing ({text}); wait until that has closed "
            "it. Where the file system knows no locks, set HDF5_USE_FILE_LOCKING=FALSE"
        )
    if "already open" in text or "h5clear" in text:
        return InputError(
            f"{path}: its writer has it open, or was ended without closing it ({text}); wait, or "
            f"make it again (`h5clear -s {path.name}` takes the mark away, not what is missing)"
        )
    if isinstance(error, PermissionError) or error.errno in (1, 13):
        return InputError(f"{path}: may not be read ({text}); fix its rights")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as again:
        return InputError(f"{path}: cannot be read ({again.strerror}); fix its rights")
    if not head.startswith(_HDF5_MAGIC):
        kind = kind_of(head)
        return InputError(
            f"{path}: not an HDF5 file{f', but {kind}' if kind else ''} ({text}); bring the shard"
        )
    if "truncated" in text:
        return InputError(f"{path}: not a complete HDF5 file ({text}); copy or make it again")
    if error.errno is not None and error.errno > 0 and "errno" not in text:
        return InputError(
            f"{path}: the file system does not give it ({text}); try again, and look at the disk"
        )
    return InputError(f"{path}: not a complete HDF5 file ({text}); copy or make it again")


def datasets(path: Path, file: h5py.File) -> list[str]:
    """Names of the datasets at the top of a file.

    Raises
    ------
    InputError
        Where a name is a link to what is not there.
    """
    names = []
    for name in file:
        item = file.get(name)
        if item is None:
            link = file.get(name, getlink=True)
            target = getattr(link, "path", "?")
            if isinstance(link, h5py.ExternalLink):
                target = f"{target} of {link.filename}"
            raise InputError(
                f"{path}: {name!r} is a link to {target}, which is not there; bring it, or make "
                "the file again with the values in it"
            )
        if isinstance(item, h5py.Dataset):
            names.append(name)
    return names


def require_values(path: Path, dataset: h5py.Dataset) -> None:
    """Refuse a dataset whose values are not all there, or cannot be decompressed; reads none.

    Raises
    ------
    InputError
        Names the rows that were never written, the file that is missing, or the filter that is
        not installed.
    """
    _require_filters(path, dataset)
    if dataset.is_virtual:
        _require_sources(path, dataset)
    elif dataset.external:
        _require_external(path, dataset)
    elif dataset.chunks is not None:
        _require_chunks(path, dataset)
    elif not _is_compact(dataset) and dataset.id.get_offset() is None:
        raise _never_written(path, dataset, 0, dataset.shape[0] - 1)


def _is_compact(dataset: h5py.Dataset) -> bool:
    return bool(dataset.id.get_create_plist().get_layout() == h5py.h5d.COMPACT)


def _require_filters(path: Path, dataset: h5py.Dataset) -> None:
    plan = dataset.id.get_create_plist()
    for i in range(plan.get_nfilters()):
        code, _, _, label = plan.get_filter(i)
        if not h5py.h5z.filter_avail(code):
            name = _FILTERS.get(code) or label.decode("ascii", "replace") or "no name"
            raise InputError(
                f"{path}: compressed with HDF5 filter {code} ({name}), which is not installed "
                "here; `pip install hdf5plugin` and set HDF5_PLUGIN_PATH to what `python -c "
                "'import hdf5plugin; print(hdf5plugin.PLUGINS_PATH)'` prints, or rewrite the file "
                "where it can be read: `h5repack -f GZIP=1 OLD NEW`"
            )


def _require_chunks(path: Path, dataset: h5py.Dataset) -> None:
    grid = [-(-n // chunk) for n, chunk in zip(dataset.shape, dataset.chunks, strict=True)]
    if dataset.id.get_num_chunks() >= math.prod(grid):
        return
    # chunks of each row of chunks; only as many are listed as there are
    n_written: dict[int, int] = {}

    def count(chunk: h5py.h5d.StoreInfo) -> None:
        row = int(chunk.chunk_offset[0])
        n_written[row] = n_written.get(row, 0) + 1

    dataset.id.chunk_iter(count)
    step, whole = dataset.chunks[0], math.prod(grid[1:])
    first = next(row for row in _multiples(step, dataset.shape[0]) if n_written.get(row, 0) < whole)
    last = first + step
    while last < dataset.shape[0] and n_written.get(last, 0) < whole:
        last += step
        if last - first > 10**6 * step:  # a shape that was only declared
            last = dataset.shape[0]
    raise _never_written(path, dataset, first, min(last, dataset.shape[0]) - 1)


def _multiples(step: int, end: int) -> Iterator[int]:
    return iter(range(0, end, step))


def _never_written(path: Path, dataset: h5py.Dataset, first: int, last: int) -> InputError:
    rows = f"row {first}" if first == last else f"rows {first} to {last}"
    return InputError(
        f"{path}: {rows} of {dataset.shape[0]:,} were never written, or only in part; HDF5 "
        "would give zeros. The job that made the file was ended: make it again, or cut the dataset "
        "to the rows that are there"
    )


def _require_sources(path: Path, dataset: h5py.Dataset) -> None:
    mapped = 0
    for source in dataset.virtual_sources():
        mapped += source.vspace.get_select_npoints()
        if source.file_name == ".":
            file = path
        else:
            # HDF5 looks beside the virtual file, then in the working folder
            file = path.parent / source.file_name
            if not file.exists() and Path(source.file_name).exists():
                file = Path(source.file_name)
        what = f"{path}: a virtual dataset whose values lie in {source.file_name}"
        if not file.is_file():
            raise InputError(
                f"{what}, which is not there (looked for {file}); HDF5 would give zeros: bring "
                "that file, or copy the values into this one (`h5repack` or h5py)"
            )
        try:
            with h5py.File(file, "r") as other:
                origin = other.get(source.dset_name)
                if not isinstance(origin, h5py.Dataset):
                    raise InputError(
                        f"{what}, which has no dataset {source.dset_name!r}; HDF5 would give "
                        "zeros: bring the right file"
                    )
                selected = source.src_space
                if selected.get_select_type() == h5py.h5s.SEL_ALL:
                    needed = selected.get_simple_extent_dims()
                else:
                    needed = tuple(int(end) + 1 for end in selected.get_select_bounds()[1])
                if any(n > n_stored for n, n_stored in zip(needed, origin.shape, strict=False)):
                    raise InputError(
                        f"{what}, which has shape {origin.shape}, needed is {needed}; HDF5 would "
                        "give zeros: bring the right file"
                    )
                if file != path:
                    require_values(file, origin)
        except OSError as error:
            raise unreadable(file, error) from None
    total = math.prod(dataset.shape)
    if mapped < total:
        raise InputError(
            f"{path}: a virtual dataset of {total:,} values, of which its sources give "
            f"{mapped:,}; HDF5 would give zeros for the others: make it again from all parts"
        )


def _require_external(path: Path, dataset: h5py.Dataset) -> None:
    needed = int(np.prod(dataset.shape, dtype=object)) * dataset.dtype.itemsize
    n_bytes = 0
    for name, offset, size in dataset.external:
        file = path.parent / name if not Path(name).exists() else Path(name)
        if not file.is_file():
            raise InputError(
                f"{path}: its values lie in {name}, which is not there; bring that file beside it"
            )
        n_bytes += min(size, max(0, file.stat().st_size - offset))
    if n_bytes < needed:
        raise InputError(
            f"{path}: its values lie in {', '.join(name for name, *_ in dataset.external)}, "
            f"which hold {n_bytes:,} of {needed:,} bytes; HDF5 would give zeros: bring them whole"
        )
