# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="call-arg, var-annotated"
# numba infers the types; each docstring states them
"""Compiled loops of the sparse training step and of inference on a CPU.

A position keeps k of n_nodes, so nearly all of a dense step is spent on zeros. Here only the
encoder's product is dense, in bfloat16 and by the caller; what it ranks highest (`selection.py`) is
scored again in float32, and everything after that touches the kept nodes alone. What a position
keeps lies anywhere in the weights, so that reading them from memory would take most of the time:
a tile of channels of all rows is worked on at a time, which fits a core's cache. Every function
works on a range of rows or nodes, releases the interpreter's lock, and gives the same numbers for
any division into ranges.
"""

from __future__ import annotations

import numba
import numpy as np

from saeborzoi.sae.vectors import TILE, add_dots, residual, sum_rows

# sums may be vectorized; NaN and infinity stay what they are
_jit = numba.njit(nogil=True, fastmath={"reassoc", "contract", "nsz"}, cache=True)


@_jit
def prepare(x, channel_max, pre_bias, centred, bits, std, length, first, last):
    """Layer norm of rows `first ... last`: `centred = (x/max - mean) / (std + 1e-5) - pre_bias`.

    x (n, n_channels) float32; channel_max, pre_bias (n_channels,) float32. Writes centred
    (n, n_channels) float32, bits (n, n_channels) uint16 (its bfloat16, rounded to nearest even),
    std (n,) float32 and length (n,) float32, the Euclidean norm of each row of `centred`. The
    standard deviation has n_channels - 1 degrees of freedom.
    """
    n_channels = x.shape[1]
    row = np.empty(n_channels, np.float32)
    row_bits = row.view(np.uint32)
    reciprocal = np.empty(n_channels, np.float32)
    for c in range(n_channels):
        reciprocal[c] = np.float32(1) / channel_max[c]
    for i in range(first, last):
        total = np.float32(0)
        for c in range(n_channels):
            row[c] = x[i, c] * reciprocal[c]
            total += row[c]
        mean = total / np.float32(n_channels)
        squares = np.float32(0)
        for c in range(n_channels):
            row[c] -= mean
            squares += row[c] * row[c]
        deviation = np.sqrt(squares / np.float32(n_channels - 1))
        std[i] = deviation
        factor = np.float32(1) / (deviation + np.float32(1e-5))
        squares = np.float32(0)
        for c in range(n_channels):
            row[c] = row[c] * factor - pre_bias[c]
            centred[i, c] = row[c]
            squares += row[c] * row[c]
        length[i] = np.sqrt(squares)
        for c in range(n_channels):
            b = row_bits[c]
            bits[i, c] = np.uint16((b + np.uint32(0x7FFF) + ((b >> 16) & np.uint32(1))) >> 16)


@_jit
def moments(x, reciprocal, mean, squares):
    """Mean and sum of squared deviations of each channel of `x * reciprocal`.

    x (n, n_channels), reciprocal (n_channels,) float32, at least one row. Writes mean, squares
    (n_channels,) float64.
    """
    n, n_channels = x.shape
    first = np.empty(n_channels, np.float32)  # taken off, so that squares do not cancel
    mean[:] = 0
    squares[:] = 0
    for c in range(n_channels):
        first[c] = x[0, c] * reciprocal[c]
    for i in range(n):
        for c in range(n_channels):
            deviation = np.float64(x[i, c] * reciprocal[c] - first[c])
            mean[c] += deviation
            squares[c] += deviation * deviation
    for c in range(n_channels):
        squares[c] = max(squares[c] - mean[c] * mean[c] * (1 / n), 0.0)
        mean[c] = first[c] + mean[c] * (1 / n)


@_jit
def score(centred, weight, bias, candidate, count, score, first, last):
    """Pre-activations of the candidates of rows `first ... last` in float32.

    centred (n, n_channels), weight (n_nodes, n_channels), bias (n_nodes,) float32; candidate
    (n, capacity) int32, of which the first count[i] of row i hold. Writes score (n, capacity)
    float32; rows of more candidates than fit are left out.
    """
    n_channels = centred.shape[1]
    width = candidate.shape[1]
    for i in range(first, last):
        for m in range(min(count[i], width)):
            score[i, m] = bias[candidate[i, m]]
    for channel in range(0, n_channels, TILE):
        for i in range(first, last):
            if count[i] <= width:
                start = i * width
                add_dots(
                    score, centred, i, weight, channel, n_channels, candidate,
                    start, start + count[i],
                )  # fmt: skip


@_jit
def reconstruct(
    value, node, count, decoder, pre_bias, centred, std, group_end, scale, slope, node_slope,
    squared_error, first, last,
):  # fmt: skip
    """Decode rows `first ... last` and differentiate the squared error.

    With `r_m = std * (pre_bias + sum over nodes below group_end[m] of z W_dec) - (x - mean)`, the
    loss is `sum_m scale * |r_m|^2`; one group (all nodes) is the plain SAE, several are the
    nested ones of a Matryoshka SAE. Nodes of a row ascend.

    Writes slope (n_groups, n, n_channels): derivative with respect to the decoder's output, of
    group m and all larger ones; node_slope (n, k): derivative with respect to each activation;
    squared_error (n,) float32: `|r|^2` of the whole SAE.
    """
    n_channels = decoder.shape[1]
    n_groups, n = slope.shape[:2]
    k = node.shape[1]
    ends = np.empty((last - first, n_groups + 1), np.int64)  # of each group's entries of a row
    for i in range(first, last):
        m = 0
        ends[i - first, 0] = i * k
        for g in range(n_groups):
            while m < count[i] and node[i, m] < group_end[g]:
                m += 1
            ends[i - first, g + 1] = i * k + m
        squared_error[i] = 0
        for m in range(count[i]):
            node_slope[i, m] = 0
    for channel in range(0, n_channels, TILE):
        for i in range(first, last):
            end = ends[i - first]
            spread = std[i] + np.float32(1e-5)
            factor = np.float32(2) * scale * std[i]
            sum_rows(
                slope, i, pre_bias, 0, decoder, channel, n_channels, node, value, end[0], end[1]
            )
            for g in range(1, n_groups):
                sum_rows(
                    slope, g * n + i, slope, (g - 1) * n + i, decoder, channel, n_channels, node,
                    value, end[g], end[g + 1],
                )  # fmt: skip
            total = np.float32(0)
            for g in range(n_groups):
                total = residual(
                    slope, g * n + i, centred, i, pre_bias, channel, n_channels, std[i], spread,
                    factor,
                )  # fmt: skip
            squared_error[i] += total
            for g in range(n_groups - 2, -1, -1):
                for c in range(channel, min(channel + TILE, n_channels)):
                    slope[g, i, c] += slope[g + 1, i, c]
            for g in range(n_groups):
                add_dots(
                    node_slope, slope, g * n + i, decoder, channel, n_channels, node,
                    end[g], end[g + 1],
                )  # fmt: skip


@_jit
def unexplained(value, node, count, decoder, pre_bias, centred, std, error, first, last):
    """Add the squared error of each channel, over rows `first ... last`, to error (n_channels,)
    float64, as `reconstruct` computes it."""
    n_channels = centred.shape[1]
    k = node.shape[1]
    output = np.empty((1, n_channels), np.float32)
    for channel in range(0, n_channels, TILE):
        for i in range(first, last):
            sum_rows(
                output, 0, pre_bias, 0, decoder, channel, n_channels, node, value,
                i * k, i * k + count[i],
            )  # fmt: skip
            spread = std[i] + np.float32(1e-5)
            residual(
                output, 0, centred, i, pre_bias, channel, n_channels, std[i], spread, np.float32(1)
            )
            for c in range(channel, min(channel + TILE, n_channels)):
                error[c] += output[0, c] * output[0, c]


@_jit
def sum_in_blocks(slope, size, total, first, last):
    """Sums over each block of `size` rows of slope (n, width), of rows `first ... last`, which are
    whole blocks; written to total (n_blocks, width) float64."""
    for block in range(first // size, -(-last // size)):
        total[block] = 0
        for i in range(block * size, min(block * size + size, last)):
            for c in range(slope.shape[1]):
                total[block, c] += slope[i, c]


@_jit
def sort_by_node(node, count, start, row, column, first, last):
    """Entries of rows `first ... last` in order of node (CSR).

    node (n, k) int32, of which the first count[i] of row i hold. Writes start (n_nodes + 1,) int64,
    and to row and column (n * k,) int32, from `first * k` on, where start begins, the entries.
    """
    start[:] = 0
    for i in range(first, last):
        for m in range(count[i]):
            start[node[i, m] + 1] += 1
    start[0] = first * node.shape[1]
    for j in range(len(start) - 1):
        start[j + 1] += start[j]
    place = start[:-1].copy()
    for i in range(first, last):
        for m in range(count[i]):
            j = node[i, m]
            row[place[j]] = i
            column[place[j]] = m
            place[j] += 1


def by_node(node, count, n_nodes):
    """Entries of all rows in order of node (CSR): start (n_nodes + 1,), row, column (n,) int32."""
    start = np.empty(n_nodes + 1, np.int64)
    row, column = np.empty((2, node.size), np.int32)
    sort_by_node(node, count, start, row, column, 0, len(node))
    return start, row[: start[-1]], column[: start[-1]]


@_jit
def weight_slopes(
    start, row, column, value, node_slope, slope, centred, group_end, encoder_slope, bias_slope,
    decoder_slope, first, last,
):  # fmt: skip
    """Derivatives of the weights of nodes `first ... last`, summed over the rows of each.

    start (n_parts, n_nodes + 1), row, column from `sort_by_node` of successive rows. Writes
    encoder_slope, decoder_slope (n_nodes, n_channels) and bias_slope (n_nodes,).
    """
    n_channels = centred.shape[1]
    n_entries = 0
    for part in range(len(start)):
        n_entries += start[part, last] - start[part, first]
    rows = np.empty(n_entries, np.int32)
    z = np.empty(n_entries, np.float32)
    dz = np.empty(n_entries, np.float32)
    begin = np.zeros(last - first + 1, np.int64)
    n = 0
    for j in range(first, last):
        bias = np.float32(0)
        for part in range(len(start)):
            for e in range(start[part, j], start[part, j + 1]):
                rows[n] = row[e]
                z[n] = value[row[e], column[e]]
                dz[n] = node_slope[row[e], column[e]]
                bias += dz[n]
                n += 1
        begin[j - first + 1] = n
        bias_slope[j] = bias
    nothing = np.zeros(n_channels, np.float32)
    for channel in range(0, n_channels, TILE):
        for j in range(first, last):
            sum_rows(
                encoder_slope, j, nothing, 0, centred, channel, n_channels, rows, dz,
                begin[j - first], begin[j - first + 1],
            )  # fmt: skip
        g = 0
        for j in range(first, last):
            while j >= group_end[g]:
                g += 1
            sum_rows(
                decoder_slope, j, nothing, 0, slope[g], channel, n_channels, rows, z,
                begin[j - first], begin[j - first + 1],
            )  # fmt: skip


@_jit
def pre_bias_slopes(bias_slope, encoder, size, total, first, last):
    """Derivative with respect to what is taken off the encoder's input, of blocks of `size` nodes.

    bias_slope (n_nodes,), encoder (n_nodes, n_channels) float32; nodes `first ... last` are whole
    blocks. Writes total (n_blocks, n_channels) float32.
    """
    for block in range(first // size, -(-last // size)):
        total[block] = 0
        for j in range(block * size, min(block * size + size, last)):
            for c in range(encoder.shape[1]):
                total[block, c] -= bias_slope[j] * encoder[j, c]
