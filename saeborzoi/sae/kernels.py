# mypy: allow-untyped-defs, allow-untyped-calls
# numba infers the types; each docstring states them
"""Compiled loops of the sparse training step and of inference on a CPU.

A position keeps k of n_nodes, so nearly all of a dense step is spent on zeros. Here only the
encoder's product is dense, in bfloat16 and by the caller; what it ranks highest is scored again
in float32, and everything after that touches the kept nodes alone. Every function works on a
range of rows or nodes, releases the interpreter's lock, and gives the same numbers for any
division into ranges.
"""

from __future__ import annotations

import numba
import numpy as np

_FAST = {"reassoc", "contract", "nsz"}
"""Sums may be vectorized; NaN and infinity stay what they are."""
_jit = numba.njit(nogil=True, fastmath=_FAST, cache=True, boundscheck=False)


@_jit
def prepare(x, channel_max, pre_bias, centred, bits, std, first, last):
    """Layer norm of rows `first ... last`: `centred = (x/max - mean) / (std + 1e-5) - pre_bias`.

    x (n, n_channels) float32; channel_max, pre_bias (n_channels,) float32. Writes centred
    (n, n_channels) float32, bits (n, n_channels) uint16 (its bfloat16, rounded to nearest even)
    and std (n,) float32. The standard deviation has n_channels - 1 degrees of freedom.
    """
    n_channels = x.shape[1]
    row = np.empty(n_channels, np.float32)
    row_bits = row.view(np.uint32)
    for i in range(first, last):
        total = np.float32(0)
        for c in range(n_channels):
            row[c] = x[i, c] / channel_max[c]
            total += row[c]
        mean = total / np.float32(n_channels)
        squares = np.float32(0)
        for c in range(n_channels):
            row[c] -= mean
            squares += row[c] * row[c]
        deviation = np.sqrt(squares / np.float32(n_channels - 1))
        std[i] = deviation
        divisor = deviation + np.float32(1e-5)
        for c in range(n_channels):
            row[c] = row[c] / divisor - pre_bias[c]
            centred[i, c] = row[c]
        for c in range(n_channels):
            b = row_bits[c]
            bits[i, c] = np.uint16((b + np.uint32(0x7FFF) + ((b >> 16) & np.uint32(1))) >> 16)


@_jit
def _dot(a, b):
    total = np.float32(0)
    for c in range(a.shape[0]):
        total += a[c] * b[c]
    return total


@_jit
def _drop_smallest(value, node, n, keep):
    """Keep the `keep` largest of the first n entries; of equals the lower node stays."""
    while n > keep:
        worst = 0
        for j in range(1, n):
            if value[j] < value[worst] or (value[j] == value[worst] and node[j] > node[worst]):
                worst = j
        n -= 1
        for j in range(worst, n):
            value[j] = value[j + 1]
            node[j] = node[j + 1]
    return n


@_jit
def _exact_row(y, weight, bias, keep, floor, value, node):
    """Score every node of a row in float32 and keep the largest above `floor`."""
    n = 0
    for j in range(weight.shape[0]):
        h = _dot(weight[j], y) + bias[j]
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


@_jit
def select(
    approximate, centred, weight, bias, weight_norm, keep, floor, by_floor, value, node, count,
    first, last,
):  # fmt: skip
    """The nodes that rows `first ... last` keep, with their activations in float32.

    Parameters
    ----------
    approximate
        (n, n_nodes) int16, bits of the bfloat16 pre-activations: they only rank.
    centred, weight, bias
        (n, n_channels), (n_nodes, n_channels), (n_nodes,) float32: what the exact score is of.
    weight_norm
        Largest Euclidean norm of a row of `weight`; with it the rounding error is bounded.
    keep
        Nodes a row keeps at most.
    floor
        An activation must be above it: 0 for ReLU, the threshold of a batch-wise SAE.
    by_floor
        False: the `keep` largest above floor. True: all above floor, at most `keep`.
    value, node
        (n, >= keep) float32, int32, written in ascending order of node where nothing is tied.
    count
        (n,) int32, entries that a row has.

    Notes
    -----
    Candidates are found without sorting: with the nodes dealt into groups, the keep-th largest
    of the groups' maxima is a lower bound of the keep-th largest value. Everything above it,
    less a margin for bfloat16's rounding, is scored again. Where the observed rounding error
    does not leave the margin room, the row is scored exactly.
    """
    n_nodes, n_channels = weight.shape
    group_size = 1
    while group_size < 16 and n_nodes // (2 * group_size) >= 4 * keep:
        group_size *= 2
    n_groups = n_nodes // group_size
    maxima = np.empty(n_groups, np.int16)
    work = np.empty(n_groups, np.int16)
    capacity = 2 * keep + 64
    candidate = np.empty(capacity, np.int32)
    score = np.empty(capacity, np.float32)
    as_float = np.empty(1, np.float32)
    as_bits = as_float.view(np.uint32)
    root = np.float32(np.sqrt(np.float32(n_channels)))
    for i in range(first, last):
        y = centred[i]
        rounding = np.float32(2**-6) * np.sqrt(_dot(y, y)) * weight_norm / root
        if by_floor:
            bound = floor
        else:
            for g in range(n_groups):
                maxima[g] = -32768
            for m in range(group_size):
                for g in range(n_groups):
                    b = approximate[i, m * n_groups + g]
                    # bits of negative floats ascend downwards; turn them to order as integers
                    maxima[g] = max(maxima[g], b ^ ((b >> 15) & 0x7FFF))
            for g in range(n_groups):
                work[g] = maxima[g]
            key = _nth_largest(work, min(keep, n_groups))
            as_bits[0] = np.uint32(np.uint16(key ^ ((key >> 15) & 0x7FFF))) << 16
            bound = max(as_float[0], floor)
        bound -= np.float32(2**-7) * abs(bound) + rounding
        as_float[0] = bound
        signed = np.int16(as_bits[0] >> 16)
        least = np.int16(signed ^ ((signed >> 15) & 0x7FFF))
        n = 0
        if by_floor:
            for j in range(n_nodes):
                b = approximate[i, j]
                if np.int16(b ^ ((b >> 15) & 0x7FFF)) >= least:
                    if n < capacity:
                        candidate[n] = j
                    n += 1
        else:
            for g in range(n_groups):
                if maxima[g] >= least:
                    for m in range(group_size):
                        b = approximate[i, m * n_groups + g]
                        if np.int16(b ^ ((b >> 15) & 0x7FFF)) >= least:
                            if n < capacity:
                                candidate[n] = m * n_groups + g
                            n += 1
            for j in range(n_groups * group_size, n_nodes):
                b = approximate[i, j]
                if np.int16(b ^ ((b >> 15) & 0x7FFF)) >= least:
                    if n < capacity:
                        candidate[n] = j
                    n += 1
        exact = n <= capacity
        if exact:
            error = np.float32(0)
            kept = 0
            for m in range(n):
                j = candidate[m]
                h = _dot(weight[j], y) + bias[j]
                as_bits[0] = np.uint32(np.uint16(approximate[i, j])) << 16
                error = max(error, abs(h - as_float[0]) - np.float32(2**-8) * abs(h))
                if h > floor:
                    score[kept] = h
                    candidate[kept] = j
                    kept += 1
            n = _drop_smallest(score, candidate, kept, keep)
            # Every node that was passed over has an approximate value below `bound`. Its exact
            # value may be larger by the approximation's error: a part relative to its size, and
            # `error`, the largest that the candidates show beyond that part. Only if even that
            # stays below the smallest value that is kept are the kept nodes the right ones.
            last_kept = floor
            if n == keep:
                last_kept = score[0]
                for m in range(1, n):
                    last_kept = min(last_kept, score[m])
            exact = bound + np.float32(2**-8) * abs(bound) + 2 * error <= last_kept
        if not exact:
            n = _exact_row(y, weight, bias, keep, floor, value[i], node[i])
        else:
            for m in range(n):
                value[i, m] = score[m]
                node[i, m] = candidate[m]
        count[i] = n


@_jit
def _nth_largest(values, n):
    """The n-th largest (n >= 1) of an int16 array, which is reordered."""
    low, high, target = 0, values.shape[0] - 1, n - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if target <= j:
            high = j
        elif target >= i:
            low = i
        else:
            break
    return values[target]


@_jit
def reconstruct(
    value, node, count, decoder, pre_bias, centred, std, group_end, scale, slope, node_slope,
    squared_error, first, last,
):  # fmt: skip
    """Decode rows `first ... last` and differentiate the squared error.

    With `r_m = std * (pre_bias + sum over nodes below group_end[m] of z W_dec) - (x - mean)`, the
    loss is `sum_m scale * |r_m|^2`; one group (all nodes) is the plain SAE, several are the
    nested ones of a Matryoshka SAE.

    Writes slope (n_groups, n, n_channels): derivative with respect to the decoder's output, of
    group m and all larger ones; node_slope (n, k): derivative with respect to each activation;
    squared_error (n,) float32: `|r|^2` of the whole SAE.
    """
    n_channels = decoder.shape[1]
    n_groups = group_end.shape[0]
    output = np.empty(n_channels, np.float32)
    for i in range(first, last):
        n = count[i]
        for c in range(n_channels):
            output[c] = pre_bias[c]
        total = np.float32(0)
        spread = std[i] + np.float32(1e-5)
        factor = np.float32(2) * scale * std[i]
        for g in range(n_groups):
            start = group_end[g - 1] if g > 0 else 0
            for m in range(n):
                if start <= node[i, m] < group_end[g]:
                    z = value[i, m]
                    row = decoder[node[i, m]]
                    for c in range(n_channels):
                        output[c] += z * row[c]
            total = np.float32(0)
            out = slope[g, i]
            for c in range(n_channels):
                r = std[i] * output[c] - (centred[i, c] + pre_bias[c]) * spread
                total += r * r
                out[c] = factor * r
        squared_error[i] = total
        for g in range(n_groups - 2, -1, -1):
            for c in range(n_channels):
                slope[g, i, c] += slope[g + 1, i, c]
        for m in range(n):
            g = 0
            while node[i, m] >= group_end[g]:
                g += 1
            node_slope[i, m] = _dot(slope[g, i], decoder[node[i, m]])


@_jit
def by_node(node, count, n_nodes):
    """Entries of all rows in order of node (CSR): start (n_nodes + 1,), row, column (n,) int32."""
    start = np.zeros(n_nodes + 1, np.int64)
    for i in range(node.shape[0]):
        for m in range(count[i]):
            start[node[i, m] + 1] += 1
    for j in range(n_nodes):
        start[j + 1] += start[j]
    row = np.empty(start[n_nodes], np.int32)
    column = np.empty(start[n_nodes], np.int32)
    place = start[:-1].copy()
    for i in range(node.shape[0]):
        for m in range(count[i]):
            j = node[i, m]
            row[place[j]] = i
            column[place[j]] = m
            place[j] += 1
    return start, row, column


@_jit
def weight_slopes(
    start, row, column, value, node_slope, slope, centred, group_end, encoder_slope, bias_slope,
    decoder_slope, first, last,
):  # fmt: skip
    """Derivatives of the weights of nodes `first ... last`, summed over the rows of each.

    Writes encoder_slope, decoder_slope (n_nodes, n_channels) and bias_slope (n_nodes,).
    """
    n_channels = centred.shape[1]
    for j in range(first, last):
        g = 0
        while j >= group_end[g]:
            g += 1
        encoder_row = encoder_slope[j]
        decoder_row = decoder_slope[j]
        for c in range(n_channels):
            encoder_row[c] = 0
            decoder_row[c] = 0
        bias = np.float32(0)
        for e in range(start[j], start[j + 1]):
            i = row[e]
            z = value[i, column[e]]
            dz = node_slope[i, column[e]]
            bias += dz
            y = centred[i]
            d = slope[g, i]
            for c in range(n_channels):
                encoder_row[c] += dz * y[c]
                decoder_row[c] += z * d[c]
        bias_slope[j] = bias
