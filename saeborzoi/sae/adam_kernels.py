# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="call-arg"
# numba infers the types; each docstring states them
"""Compiled loops that move an SAE's parameters on a CPU.

A row of parameters is read from memory once a step: what the optimizer, the decoder's unit norm and
the ranking in bfloat16 do to it is done while it lies in a core's first cache. Every function works
on a range of rows, releases the interpreter's lock, and gives the same numbers for any division.
"""

from __future__ import annotations

import numba
import numpy as np

NODES = 32
"""Nodes whose weights and moments stay in a core's second cache."""

# sums may be vectorized, and divisions, as none of them is looked at for a zero; NaN and infinity
# stay what they are
_jit = numba.njit(
    nogil=True, fastmath={"reassoc", "contract", "nsz"}, error_model="numpy", cache=True
)


@_jit
def move(weight, slope, mean, square, rates, has_unit_norm, first, last):
    """One step of Adam (Kingma & Ba 2015, algorithm 1) on rows `first ... last`.

    weight, slope, mean, square (n, width) float32: parameters, derivatives, first and second
    moments; slope stays. rates (7,) float32: what the moments keep of themselves and what they take
    of the slope (beta 1 and the rest of 1, beta 2 and the rest), learning rate over the first
    moment's bias correction, 1 over the root of the second's, eps.
    has_unit_norm: rows have norm 1 and keep it, and what of the slope would change it is left out.
    """
    kept_1, taken_1, kept_2, taken_2 = rates[0], rates[1], rates[2], rates[3]
    rate, root, eps = rates[4], rates[5], rates[6]
    for j in range(first, last):
        w, g, m, v = weight[j], slope[j], mean[j], square[j]
        along = np.float32(0)
        if has_unit_norm:
            for c in range(w.shape[0]):
                along += w[c] * g[c]
        squares = np.float32(0)
        for c in range(w.shape[0]):
            d = g[c] - along * w[c]
            m[c] = kept_1 * m[c] + taken_1 * d
            v[c] = kept_2 * v[c] + taken_2 * (d * d)
            w[c] -= rate * m[c] / (np.sqrt(v[c]) * root + eps)
            squares += w[c] * w[c]
        if has_unit_norm:
            norm = max(np.sqrt(squares), np.float32(1.1754944e-38))
            for c in range(w.shape[0]):
                w[c] /= norm


@_jit
def round_rows(weight, bias, bits, size, first, last):
    """Round rows `first ... last` of weights to bfloat16, to nearest even.

    weight (n, n_channels), bias (n,) float32. Writes bits (n, > n_channels) uint16, the bias after
    the weights, and size (n,) float32, the Euclidean norm of each row of weights.
    """
    n_channels = weight.shape[1]
    row = np.empty(n_channels + 1, np.float32)
    row_bits = row.view(np.uint32)
    for j in range(first, last):
        squares = np.float32(0)
        for c in range(n_channels):
            row[c] = weight[j, c]
            squares += row[c] * row[c]
        row[n_channels] = bias[j]
        size[j] = np.sqrt(squares)
        for c in range(n_channels + 1):
            b = row_bits[c]
            bits[j, c] = np.uint16((b + np.uint32(0x7FFF) + ((b >> 16) & np.uint32(1))) >> 16)


@_jit
def move_nodes(encoder, bias, decoder, rates, has_unit_norm, bits, size, first, last):
    """`move` all that belongs to nodes `first ... last`, and `round_rows` of them.

    encoder, bias, decoder: weight, slope, mean, square of each; those of bias (1, n_nodes). bits
    has no rows where nothing is ranked.
    """
    weight, slope, mean, square = bias
    move(
        weight[:, first:last], slope[:, first:last], mean[:, first:last], square[:, first:last],
        rates, False, 0, 1,
    )  # fmt: skip
    for start in range(first, last, NODES):
        end = min(start + NODES, last)
        move(decoder[0], decoder[1], decoder[2], decoder[3], rates, has_unit_norm, start, end)
        move(encoder[0], encoder[1], encoder[2], encoder[3], rates, False, start, end)
        if len(bits):
            round_rows(encoder[0], weight[0], bits, size, start, end)
