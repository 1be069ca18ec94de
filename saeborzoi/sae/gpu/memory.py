"""How large a batch a device holds: found by trying."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

_MULTIPLE = 256


def largest_batch(build: Callable[[int], object], too_large: int) -> int:
    """Positions of the largest batch, a multiple of 256, whose steps fit; 0 where none does.

    Parameters
    ----------
    build
        Makes what a training with a batch of this size needs, and runs a step.
    too_large
        A size that does not fit.

    >>> def build(n):
    ...     if n > 5000:
    ...         raise torch.OutOfMemoryError
    >>> largest_batch(build, 65_536)
    4864
    """
    fits, ends = 0, -(-too_large // _MULTIPLE)
    while ends - fits > 1:
        middle = (fits + ends) // 2
        if _fits(build, middle * _MULTIPLE):
            fits = middle
        else:
            ends = middle
    return fits * _MULTIPLE


def _fits(build: Callable[[int], object], n: int) -> bool:
    try:
        build(n)
    except torch.OutOfMemoryError:
        return False
    finally:
        if torch.cuda.is_available():
            gc.collect()
            torch.cuda.empty_cache()
    return True
