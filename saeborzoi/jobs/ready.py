"""Imported by a process before it makes copies of itself: at the first call of a compiled function
numba loads tables of its own for half a second, which the copies then have."""

from __future__ import annotations

from numba import njit


@njit(cache=True)
def _nothing() -> int:
    return 0


_nothing()
