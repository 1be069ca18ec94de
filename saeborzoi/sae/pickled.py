"""Reading PyTorch's own files: nothing in them is run, and memory is looked at before it is taken.

What the tensors mean belongs to `checkpoint.py`.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from saeborzoi.errors import InputError
from saeborzoi.reading import HEAD_BYTES, kind_of

_ZIP, _PICKLE = b"PK", b"\x80"
_GLOBAL = re.compile(r"GLOBAL ([A-Za-z_][\w.]*\w)")
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
_ALONE = (
    "save its model_state_dict alone, where it was made: torch.save({'model_state_dict': "
    "torch.load(PATH, weights_only=False)['model_state_dict']}, NEW)"
)


def _plain_classes() -> list[Any]:
    """numpy's scalars and arrays: plain data (a metric), but not on torch's own list.

    Files that were saved with numpy 1 name other modules for the same functions.
    """
    scalar = np.float64(0).__reduce__()[0]
    array = np.zeros(1).__reduce__()[0]
    return [
        scalar,
        (scalar, "numpy.core.multiarray.scalar"),
        array,
        (array, "numpy.core.multiarray._reconstruct"),
        np.ndarray,
        np.dtype,
        *{type(np.dtype(code)) for code in "?bBhHiIlLqQefdFDUS"},
    ]


def load_tensors(path: Path) -> Any:
    """What a file of `torch.save` holds, tensors on the CPU; only plain data is read.

    Raises
    ------
    InputError
        Where it is no such file, is damaged, holds more than plain data (names what), or is
        larger than the memory that is free.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); fix the path") from None
    if not head.startswith((_ZIP, _PICKLE)):
        kind = kind_of(head)
        if kind is None and head[8:9] == b"{":
            kind = "safetensors: name the folder that holds it and cfg.json"
        raise InputError(
            f"{path}: not a PyTorch file{f' ({kind})' if kind else ''}; it cannot be read: needed "
            "is best_model.pt as torch.save writes it"
        )
    require_memory(path, max(size, _unpacked(path, size)) if head.startswith(_ZIP) else size)
    try:
        with torch.serialization.safe_globals(_plain_classes()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        message = _ESCAPE.sub("", str(error))
        global_names = _unsafe(path) or sorted(set(_GLOBAL.findall(message)))
        if not global_names:
            raise InputError(
                f"{path}: not a PyTorch file of plain data: its pickle cannot be read; copy it "
                f"again, or {_ALONE}"
            ) from None
        raise InputError(
            f"{path}: holds more than tensors and plain values ({', '.join(global_names)}), and "
            f"would run code when read; {_ALONE}"
        ) from None
    except MemoryError:
        raise InputError(f"{path}: more than the memory holds; bring the right file") from None
    except Exception as error:  # torch lets errors of any kind out of a damaged file
        message = " ".join(_ESCAPE.sub("", str(error)).split())[:300]
        raise InputError(
            f"{path}: cannot be read ({type(error).__name__}: {message}); copy it again"
        ) from None


def _unsafe(path: Path) -> list[str]:
    """Classes and functions that a zip of torch's would load, none where it cannot tell."""
    try:
        with torch.serialization.safe_globals(_plain_classes()):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except Exception:  # a pickle of another form; the error's own words name one
        return []


def _unpacked(path: Path, size: int) -> int:
    """Bytes that a zip holds, where it is one of torch's."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{path}: cannot be read ({error}); copy it again") from None
    names = {entry.filename.rpartition("/")[2] for entry in entries}
    if "constants.pkl" in names:
        raise InputError(
            f"{path}: a TorchScript archive, which holds code; save the state_dict of its module "
            "with torch.save"
        )
    if "data.pkl" not in names:
        raise InputError(f"{path}: a zip archive, but not one of PyTorch's; bring best_model.pt")
    total = sum(entry.file_size for entry in entries)
    if total > size * 4 + (1 << 26):
        raise InputError(
            f"{path}: {size:,} bytes that unpack to {total:,}; PyTorch does not compress its "
            "files: bring the file as torch.save wrote it"
        )
    return total


def require_memory(path: Path, n_bytes: int) -> None:
    """Refuse a file whose tensors are larger than the memory that is free."""
    free = psutil.virtual_memory().available
    if n_bytes > free:
        raise InputError(
            f"{path}: tensors of {n_bytes / 2**30:,.1f} GiB, but {free / 2**30:,.1f} GiB of memory "
            "are free; bring the right file, or use a larger machine"
        )


def require_plain(path: Path, name: str, tensor: Any) -> Tensor:
    """A tensor of floating-point numbers that are all there.

    Raises
    ------
    InputError
        Where it is none: of integers (quantized), sparse, without data, or expanded from fewer
        values than its shape says.
    """
    if not isinstance(tensor, Tensor):
        description = f"a {type(tensor).__name__}"
    elif tensor.is_meta or tensor.layout != torch.strided or tensor.is_quantized:
        description = "a tensor that is quantized, sparse or without data"
    elif not tensor.is_floating_point():
        description = f"of {str(tensor.dtype).removeprefix('torch.')}"
    elif tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        description = f"of shape {tuple(tensor.shape)}, but holds fewer values"
    else:
        return tensor
    raise InputError(
        f"{path}: {name!r} is {description}; needed is a dense tensor of floating-point numbers"
    )


def common_prefix(names: Iterable[str], needed: Iterable[str]) -> str | None:
    """What stands before every needed name, e.g. `module.` of DataParallel; None where the names
    are not there, or under several prefixes.

    >>> common_prefix(["module.a", "module.b"], ["a", "b"])
    'module.'
    """
    present, needed_names = set(names), list(needed)
    if present.issuperset(needed_names):
        return ""
    prefixes = {
        name.removesuffix(needed_names[0])
        for name in present
        if name.endswith("." + needed_names[0])
    }
    fitting = [p for p in prefixes if present.issuperset(p + name for name in needed_names)]
    return fitting[0] if len(fitting) == 1 else None


def named(
    path: Path, state: Mapping[str, Any], needed: Iterable[str]
) -> tuple[dict[str, Tensor], str]:
    """The needed tensors of a state, and the prefix that was taken off their names.

    Raises
    ------
    InputError
        Where one is missing, or is no plain tensor.
    """
    needed_names = list(needed)
    prefix = common_prefix([name for name in state if isinstance(name, str)], needed_names)
    if prefix is None:
        missing = next((name for name in needed_names if name not in state), needed_names[0])
        first_names = ", ".join(map(str, list(state)[:8])) or "nothing"
        raise InputError(
            f"{path}: no tensor {missing!r}, it lacks {missing!r} of {', '.join(needed_names)}; "
            f"there are {first_names}{', ...' if len(state) > 8 else ''}: bring the right file"
        )
    return {name: require_plain(path, name, state[prefix + name]) for name in needed_names}, prefix
