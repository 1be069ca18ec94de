"""Activations as users bring them: any leading axes, NumPy or PyTorch, narrow or wide floats.

What is computed of them is `model.py`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saeborzoi.errors import InputError

POSITIONS_AT_ONCE = 4096
"""Positions of an array that are worked on at once, which bounds the memory that it takes."""
_FLOATS = ("float16", "float32", "float64", "uint16")


def as_float32(x: Tensor, n_channels: int, device: torch.device) -> Tensor:
    """Activations of a layer as float32 on a device.

    Parameters
    ----------
    x
        (..., n_channels), any floating type.

    Raises
    ------
    InputError
        Where the last axis is not the layer's channels, or the values are whole numbers.
    """
    if x.ndim == 0 or x.shape[-1] != n_channels:
        raise InputError(
            f"activations of shape {tuple(x.shape)}; the last axis must be the {n_channels:,} "
            "channels of the layer: transpose them, or take the SAE of this layer"
        )
    if not x.is_floating_point():
        raise InputError(
            f"activations of type {x.dtype}; needed are floating-point numbers, e.g. x.float()"
        )
    return x.to(device, torch.float32)


def in_blocks(
    function: Callable[..., Iterable[Tensor]], *arrays: NDArray[np.generic]
) -> tuple[Any, ...]:
    """What a function of tensors gives for arrays, `POSITIONS_AT_ONCE` positions at a time.

    Parameters
    ----------
    function
        Takes tensors (n, width), one for each array; returns tensors (n, any).
    arrays
        (..., width), with the same leading axes; uint16 is taken as bfloat16 bits.

    Returns
    -------
    tuple
        Arrays with the same leading axes.

    Raises
    ------
    InputError
        Where a value is NaN or infinite, or no floating-point number.
    """
    arrays = tuple(np.asarray(array) for array in arrays)
    leading = arrays[0].shape[:-1]
    flat = [array.reshape(-1, *array.shape[-1:]) for array in arrays]
    n = len(flat[0])
    if n == 0:  # the shapes of the result are those of one position
        flat = [np.zeros((1, array.shape[-1]), array.dtype) for array in arrays]
    results = []
    with torch.no_grad():
        for start in range(0, len(flat[0]), POSITIONS_AT_ONCE):
            block = [_tensor(array[start : start + POSITIONS_AT_ONCE]) for array in flat]
            results.append([part.cpu().numpy() for part in function(*block)])
    joined = [np.concatenate(parts)[:n] for parts in zip(*results, strict=True)]
    return tuple(part.reshape(*leading, part.shape[-1]) for part in joined)


def _tensor(array: NDArray[np.generic]) -> Tensor:
    if array.dtype.kind == "i":  # nodes
        return torch.from_numpy(np.ascontiguousarray(array))
    if array.dtype.name not in _FLOATS:
        raise InputError(
            f"activations of type {array.dtype}; needed are floating-point numbers, or uint16 that "
            "holds bfloat16 bits"
        )
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    tensor = torch.from_numpy(np.ascontiguousarray(native))
    if array.dtype == np.uint16:
        tensor = tensor.view(torch.bfloat16)
    tensor = tensor.to(torch.float32)
    if not torch.isfinite(tensor).all():
        raise InputError("activations hold NaN or infinity; every value must be finite")
    return tensor
