"""Compiled loops that align the sites of a motif with gaps, to find its columns without any.

Sites of repeats and of stretches of one composition fit together better with a gap than column by
column; where one does, the columns beyond it are no part of one motif.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

I8 = NDArray[np.int64]
U1 = NDArray[np.uint8]

MATCH, MISMATCH = 2, -1
"""Half bits: letters of a starting matrix against equal frequencies, rounded."""
OPEN, EXTEND = 11, 1
"""MEME's default costs of a gap (`-wg`, `-ws`); gaps at the ends cost the same."""


@njit(cache=True, nogil=True)
def columns_without_gaps(
    order: I8, start: I8, n_sites: int, letters: U1, width: int, min_width: int
) -> tuple[int, int]:
    """The longest run of columns over which every site aligns without a gap with the best one.

    Where none has `min_width` columns, as few sites as possible may have a gap in a column.

    Parameters
    ----------
    order
        (n_sequences,) int64, sequences from the best site on.
    start
        (n_sequences,) int64, each sequence's site, `start + longest` on strand 1.
    letters
        (n_strands, n_sequences, longest) uint8.

    Returns
    -------
    First column, number of columns.
    """
    longest = letters.shape[2]
    missing = np.zeros(width, np.int64)
    inserted = np.zeros(width + 1, np.int64)
    tables = np.zeros((4, width + 1, width + 1), np.int64)
    place = start[order[0]]
    first = letters[place // longest, order[0], place % longest : place % longest + width]
    for k in range(1, n_sites):
        place = start[order[k]]
        other = letters[place // longest, order[k], place % longest : place % longest + width]
        if _may_have_gap(first, other):
            _align(first, other, missing, inserted, tables)
    for allowed in range(n_sites):
        run, best, end = 0, 0, 0
        for c in range(width):
            run = 1 if inserted[c] > allowed else run + 1
            if missing[c] > allowed:
                run = 0
            if run > best:
                best, end = run, c
        if best >= min_width:
            return end - best + 1, best
    return 0, width


@njit(cache=True, nogil=True)
def _may_have_gap(first: U1, other: U1) -> bool:
    """False where no alignment with a gap scores as much as the one without.

    A gap in one site needs one in the other: sites are equally long. Between the two gaps the
    sites are `shift` columns apart, and the gain there is at most `MATCH - MISMATCH` for each
    column that agrees when shifted and does not as it is.
    """
    width = first.size
    for shift in range(1, width):
        cost = 2 * (OPEN + EXTEND * shift)
        if cost > (MATCH - MISMATCH) * (width - shift):
            return False
        ahead, behind = 0, 0
        for c in range(width - shift):
            if first[c] == other[c + shift] and first[c] != other[c]:
                ahead += 1
            if first[c + shift] == other[c] and first[c + shift] != other[c + shift]:
                behind += 1
        if (MATCH - MISMATCH) * max(ahead, behind) >= cost:
            return True
    return False


@njit(cache=True, nogil=True)
def _align(first: U1, other: U1, missing: I8, inserted: I8, tables: I8) -> None:
    """Count the gaps of the best global alignment (Gotoh 1982) of two sites.

    `missing[c]` counts that `other` has no letter in column c of `first`, `inserted[c]` that it has
    further ones before column c. `tables` is (4, width + 1, width + 1) of scratch.
    """
    n, m = first.size, other.size
    best, insert, delete, match = tables[0], tables[1], tables[2], tables[3]
    for i in range(n + 1):
        best[i, 0] = insert[i, 0] = -OPEN - i * EXTEND if i > 0 else 0
        delete[i, 0] = match[i, 0] = 0
    for j in range(1, m + 1):
        best[0, j] = delete[0, j] = -OPEN - j * EXTEND
        insert[0, j] = match[0, j] = 0
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            insert[i, j] = max(insert[i, j - 1], best[i, j - 1] - OPEN) - EXTEND
            delete[i, j] = max(delete[i - 1, j], best[i - 1, j] - OPEN) - EXTEND
            match[i, j] = best[i - 1, j - 1] + (MATCH if first[i - 1] == other[j - 1] else MISMATCH)
            best[i, j] = max(insert[i, j], delete[i, j], match[i, j])
    i, j, inside = n, m, 0
    while i > 0 and j > 0:
        if inside == 0:
            if match[i, j] > insert[i, j] and match[i, j] > delete[i, j]:
                i -= 1
                j -= 1
                continue
            inside = 1 if insert[i, j] > delete[i, j] else 2
        if inside == 1:
            j -= 1
            inserted[i] += 1
            opened = best[i, j] - OPEN - EXTEND == insert[i, j + 1]
        else:
            i -= 1
            missing[i] += 1
            opened = best[i, j] - OPEN - EXTEND == delete[i + 1, j]
        if opened:
            inside = 0
    for c in range(i):
        missing[c] += 1
    if j > 0:
        inserted[0] += 1
