"""Arrays that begin where a cache line does, as PyTorch's do and NumPy's do not.

A vector of 64 bytes that lies across two lines takes two reads: the ranking product of bfloat16
numbers took 1.4 to 2 times as long.
"""

from __future__ import annotations

import math

import numpy as np

_LINE = 64
"""Bytes."""


def aligned_empty(shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    """As `np.empty`."""
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(n_bytes + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    return memory[start : start + n_bytes].view(dtype).reshape(shape)


def aligned_zeros(shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    """As `np.zeros`."""
    array = aligned_empty(shape, dtype)
    array[...] = 0
    return array
