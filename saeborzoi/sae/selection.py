# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="call-arg, var-annotated"
# numba infers the types; each docstring states them
"""Compiled loops that find the nodes which a position keeps: bfloat16 ranks, float32 decides.

`candidates` finds by rough pre-activations which nodes may be among the largest, `kernels.score`
computes those in float32, `keep_largest` takes them and makes sure that none was passed over.
Every function works on a range of rows, releases the interpreter's lock, and gives the same numbers
for any division into ranges.
"""

from __future__ import annotations

import numba
import numpy as np

from saeborzoi.sae.vectors import KEYS, at_least, count_at_least, largest_keys, lowest_bit

# sums may be vectorized; NaN and infinity stay what they are
_jit = numba.njit(nogil=True, fastmath={"reassoc", "contract", "nsz"}, cache=True)


_ROWS = 16
"""Rows whose limits are looked for at once."""


def capacity(keep: int) -> int:
    """Candidates that a row may have before it is scored as a whole."""
    return 2 * keep + 64


@_jit
def candidates(
    approximate, length, weight_norm, n_channels, keep, floor, by_floor, bound, candidate, rank,
    count, first, last,
):  # fmt: skip
    """The nodes that may be among those that rows `first ... last` keep.

    Parameters
    ----------
    approximate
        (n, n_nodes) int16, bits of the bfloat16 pre-activations: they only rank.
    length
        (n,) float32, Euclidean norm of each row; with `weight_norm`, the largest of a node's
        weights, and n_channels it bounds the rounding error.
    keep
        Nodes a row keeps at most.
    floor
        An activation must be above it: 0 for ReLU, the threshold of a batch-wise SAE.
    by_floor
        False: the `keep` largest above floor. True: all above floor, at most `keep`.
    bound
        (n,) float32, written: the nodes that are passed over have approximate values below it.
    candidate
        (n, `capacity`) int32, written in ascending order.
    rank
        (n, `capacity`) int16, written: their bits of `approximate`.
    count
        (n,) int32, written: candidates of a row; what is beyond the capacity is not in `candidate`.

    Notes
    -----
    Found without sorting: with the nodes dealt into groups, the keep-th largest of the groups'
    maxima is a lower bound of the keep-th largest value. Everything above it, less a margin for
    bfloat16's rounding, is a candidate.
    """
    n_nodes = approximate.shape[1]
    n_whole = n_nodes // KEYS * KEYS
    n_groups = min(n_whole, -(-4 * keep // KEYS) * KEYS)
    by_groups = not by_floor and n_groups >= keep
    # several rows at once, as each step of a row's search waits for the one before
    maxima = np.empty((_ROWS, n_groups), np.int16)
    reached = np.empty(_ROWS, np.int64)
    as_float = np.empty(1, np.float32)
    as_bits = as_float.view(np.uint32)
    root = np.float32(np.sqrt(np.float32(n_channels)))
    width = candidate.shape[1]
    for i in range(first, last):
        if by_groups and (i - first) % _ROWS == 0:
            n_rows = min(_ROWS, last - i)
            for r in range(n_rows):
                start = (i + r) * n_nodes
                for g in range(0, n_groups, KEYS):
                    largest_keys(
                        maxima, r * n_groups + g, approximate, start + g, start + n_whole, n_groups
                    )
            for r in range(n_rows):
                key = -32768  # the largest that `keep` groups reach, bit by bit
                for place in range(15, -1, -1):
                    higher = key + (1 << place)
                    at = r * n_groups
                    if count_at_least(maxima, at, at + n_groups, np.int16(higher)) >= keep:
                        key = higher
                reached[r] = key
        limit = floor
        if by_groups:
            key = reached[(i - first) % _ROWS]
            as_bits[0] = np.uint32(np.uint16(key ^ ((key >> 15) & 0x7FFF))) << 16
            limit = max(as_float[0], floor)
        rounding = np.float32(2**-6) * length[i] * weight_norm / root
        limit -= np.float32(2**-7) * abs(limit) + rounding
        bound[i] = limit
        as_float[0] = limit
        signed = np.int16(as_bits[0] >> 16)
        least = np.int16(signed ^ ((signed >> 15) & 0x7FFF))
        start = i * n_nodes
        n = 0
        for j in range(0, n_whole, KEYS):
            mask = at_least(approximate, start + j, least)
            if n < width:
                candidate[i, n] = j + lowest_bit(mask)
            # most masks have one bit or none, and which of both no processor can foresee
            n += mask != 0
            mask = np.uint32(mask & np.uint32(mask - np.uint32(1)))
            while mask:
                if n < width:
                    candidate[i, n] = j + lowest_bit(mask)
                n += 1
                mask = np.uint32(mask & np.uint32(mask - np.uint32(1)))
        for j in range(n_whole, n_nodes):
            b = approximate[i, j]
            if np.int16(b ^ ((b >> 15) & 0x7FFF)) >= least:
                if n < width:
                    candidate[i, n] = j
                n += 1
        for m in range(min(n, width)):
            rank[i, m] = approximate[i, candidate[i, m]]
        count[i] = n


@_jit
def keep_largest(
    centred, weight, bias, keep, floor, bound, candidate, rank, score, n_candidates, value, node,
    count, first, last,
):  # fmt: skip
    """The nodes that rows `first ... last` keep, with their activations in float32.

    Parameters
    ----------
    keep, floor, bound, candidate, rank, n_candidates
        As for `candidates`, which wrote them.
    centred, weight, bias
        (n, n_channels), (n_nodes, n_channels), (n_nodes,) float32: what the exact score is of.
    score
        Of each candidate, from `kernels.score`; overwritten, as `candidate` is.
    value, node
        (n, >= keep) float32, int32, written in ascending order of node.
    count
        (n,) int32, written: entries that a row has.

    Notes
    -----
    Every node that was passed over has an approximate value below `bound`. Its exact value may be
    larger by the approximation's error: a part relative to its size, and the largest that the
    candidates show beyond that part. Only if even that stays below the smallest value that is kept
    are the kept nodes the right ones; else the row is scored as a whole.
    """
    width = candidate.shape[1]
    approximate_bits = np.empty(width, np.uint32)
    approximate = approximate_bits.view(np.float32)
    error = np.empty(width, np.float32)
    error_bits = error.view(np.int32)
    score_bits = score.view(np.int32)
    as_bits = np.empty(1, np.int32)
    as_float = as_bits.view(np.float32)
    for i in range(first, last):
        n = n_candidates[i]
        exact = n <= width
        if exact:
            for m in range(n):
                approximate_bits[m] = np.uint32(np.uint16(rank[i, m])) << 16
            for m in range(n):
                h = score[i, m]
                error[m] = abs(h - approximate[m]) - np.float32(2**-8) * abs(h)
            most = np.int32(0)
            for m in range(n):
                most = max(most, error_bits[m])  # as integers, see `_smallest`
            as_bits[0] = most
            largest_error = as_float[0]
            as_bits[0] = _smallest(score_bits[i], n)
            if not as_float[0] > floor:
                kept = 0
                for m in range(n):
                    h = score[i, m]
                    if h > floor:
                        score[i, kept] = h
                        candidate[i, kept] = candidate[i, m]
                        kept += 1
                n = kept
                as_bits[0] = _smallest(score_bits[i], n)
            while n > keep:  # of equals the lower node stays
                worst = 0
                for m in range(n):
                    if score_bits[i, m] == as_bits[0]:
                        worst = m
                n -= 1
                for m in range(worst, n):
                    score[i, m] = score[i, m + 1]
                    candidate[i, m] = candidate[i, m + 1]
                as_bits[0] = _smallest(score_bits[i], n)
            last_kept = as_float[0] if n == keep else floor
            exact = bound[i] + np.float32(2**-8) * abs(bound[i]) + 2 * largest_error <= last_kept
        if exact:
            for m in range(n):
                value[i, m] = score[i, m]
                node[i, m] = candidate[i, m]
        else:
            n = _exact_row(centred[i], weight, bias, keep, floor, value[i], node[i])
        count[i] = n


@_jit
def _smallest(bits, n):
    """Bits of the smallest of the first n numbers, of which none is NaN; infinity's of none.

    bits (>= n,) int32, of float32 numbers. As integers, as LLVM makes vectors of those alone.
    """
    key = np.int32(0x7F800000)
    for m in range(n):
        b = bits[m]
        key = min(key, np.int32(b ^ ((b >> 31) & 0x7FFFFFFF)))
    return np.int32(key ^ ((key >> 31) & 0x7FFFFFFF))


@_jit
def _exact_row(y, weight, bias, keep, floor, value, node):
    """Score every node of a row in float32 and keep the largest above `floor`."""
    n = 0
    for j in range(weight.shape[0]):
        h = bias[j]
        for c in range(y.shape[0]):
            h += weight[j, c] * y[c]
        if h > floor:
            if n == keep:
                worst = 0
                for m in range(1, n):
                    if value[m] <= value[worst]:
                        worst = m
                if h <= value[worst]:
                    continue
                for m in range(worst, n - 1):
                    value[m] = value[m + 1]
                    node[m] = node[m + 1]
                n -= 1
            value[n] = h
            node[n] = j
            n += 1
    return n
