# mypy: allow-untyped-defs, allow-untyped-calls
# numba infers the types; the docstring states them
"""The compiled loop that looks at every value that is read."""

from __future__ import annotations

import numba


@numba.njit(nogil=True, cache=True)
def largest_masked(bits, mask):
    """Largest ``bits & mask``; bits (n,) of an unsigned type, mask one number of it."""
    largest = mask & ~mask
    for i in range(bits.size):
        largest = max(largest, bits[i] & mask)
    return largest
