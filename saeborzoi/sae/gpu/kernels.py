# mypy: allow-untyped-defs, allow-untyped-calls
# Triton infers the types; each docstring states them
"""Triton kernels of a training step: what stands between its matrix products.

Shapes and words are those of `buffers.py`: B positions, N nodes, C channels, CP padded columns, K
entries a position. Each computes what the part of its name in `plain.py` computes.
"""

from __future__ import annotations

import triton
import triton.language as tl

_LARGEST = tl.constexpr(65504.0)


@triton.jit
def prepare(
    RAW, SCALE, PRE_BIAS, Y, MEAN, STD,
    C: tl.constexpr, CP: tl.constexpr, BLOCK: tl.constexpr, EPS: tl.constexpr,
):  # fmt: skip
    """Layer norm, one position a program."""
    row = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, BLOCK)
    inside = c < C
    x = tl.load(RAW + row * C + c, mask=inside, other=0.0).to(tl.float32)
    x = x * tl.load(SCALE + c, mask=inside, other=0.0)
    mean = tl.sum(x, axis=0) / C
    d = tl.where(inside, x - mean, 0.0)
    std = tl.sqrt(tl.sum(d * d, axis=0) / (C - 1))
    y = d / (std + EPS) - tl.load(PRE_BIAS + c, mask=inside, other=0.0)
    y = tl.where(inside, tl.minimum(tl.maximum(y, -_LARGEST), _LARGEST), 0.0)
    y = tl.where(c == C, 1.0, y)
    tl.store(Y + row * CP + c, y.to(Y.dtype.element_ty), mask=c < CP)
    tl.store(MEAN + row, mean)
    tl.store(STD + row, std)


@triton.jit
def _count(a, b):
    return tl.sum(a.to(tl.int32)) + tl.sum(b.to(tl.int32))


@triton.jit
def _places(chosen, first):
    """Where each chosen element of a (R, 32, 8) tile goes in the list, and how many there are: a
    lane's elements follow each other, so that one scan over 32 lanes does."""
    one = chosen.to(tl.int32)
    of_eight = tl.sum(one, axis=2)
    before_eight = tl.cumsum(of_eight, axis=0) - of_eight
    of_lane = tl.sum(of_eight, axis=0)
    before_lane = tl.cumsum(of_lane, axis=0) - of_lane
    start = first + before_lane[None, :] + before_eight
    return start[:, :, None] + tl.cumsum(one, axis=2) - one, tl.sum(of_lane)


@triton.jit
def select(
    H, KEPT, Z, SLOPE,
    N: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, R1: tl.constexpr, R2: tl.constexpr,
    CLEAR: tl.constexpr,
):  # fmt: skip
    """The K largest of a row that are above 0, one row a program.

    Bits of half floats above 0 are ordered as integers. With the row dealt into groups of 8, the
    K-th largest of the groups' maxima (bisected over 15 bits) is a lower bound that few entries
    reach beyond the K largest; those are taken away smallest first. Of equals at the limit some
    stay, the same ones every time. The row is held as tiles of 256 R1 <= N and 256 R2 entries.

    CLEAR: first make 0 the entries of Z and SLOPE that the list of the last step names.
    """
    row = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, KP)
    if CLEAR:
        old = tl.load(KEPT + row * K + k, mask=k < K, other=0) & 0xFFFF
        nothing = tl.zeros([KP], dtype=Z.dtype.element_ty)
        tl.store(Z + row * N + old, nothing, mask=k < K)
        tl.store(SLOPE + row * N + old, nothing, mask=k < K)
    place = tl.arange(0, 32)[None, :, None] * 8 + tl.arange(0, 8)[None, None, :]
    at1 = tl.arange(0, R1)[:, None, None] * 256 + place
    at2 = R1 * 256 + tl.arange(0, R2)[:, None, None] * 256 + place
    h1 = tl.load(H + row * N + at1, mask=at1 < N, other=0.0)
    h2 = tl.load(H + row * N + at2, mask=at2 < N, other=0.0)
    b1 = tl.maximum(h1.to(tl.int16, bitcast=True).to(tl.int32), 0)
    b2 = tl.maximum(h2.to(tl.int16, bitcast=True).to(tl.int32), 0)
    m1 = tl.max(b1, axis=2)
    m2 = tl.max(b2, axis=2)
    bound = tl.min(m1) * 0
    for bit in tl.static_range(15):
        higher = bound | (1 << (14 - bit))
        bound = tl.where(_count(m1 >= higher, m2 >= higher) >= K, higher, bound)
    bound = tl.maximum(bound, 1)
    n = _count(b1 >= bound, b2 >= bound)
    least = bound
    n_least = n * 0
    go_on = n > K
    while go_on:
        least = tl.minimum(
            tl.min(tl.where(b1 >= bound, b1, 32767)), tl.min(tl.where(b2 >= bound, b2, 32767))
        )
        n_least = _count(b1 == least, b2 == least)
        if n - n_least >= K:
            bound = least + 1
            n = n - n_least
            go_on = n > K
        else:
            go_on = n < 0
    if n > K:  # equals at the limit: 0 is no one's entry
        stay = K - (n - n_least)
        rank1, n1 = _places(b1 == least, 0)
        rank2, _ = _places(b2 == least, n1)
        b1 = tl.where((b1 == least) & (rank1 >= stay), 0, b1)
        b2 = tl.where((b2 == least) & (rank2 >= stay), 0, b2)
        n = n * 0 + K
    place1, first = _places(b1 >= bound, 0)
    place2, _ = _places(b2 >= bound, first)
    tl.store(KEPT + row * K + place1, (b1 << 16) | at1, mask=b1 >= bound)
    tl.store(KEPT + row * K + place2, (b2 << 16) | at2, mask=b2 >= bound)
    tl.store(KEPT + row * K + k, tl.zeros([KP], dtype=tl.int32), mask=(k >= n) & (k < K))


@triton.jit
def decode(
    RAW, SCALE, PRE_BIAS, MEAN, STD, KEPT, DECODER, ENDS, S, Z, SLOPE, FIRED, ERROR, RESIDUAL,
    gain,
    B: tl.constexpr, N: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, C: tl.constexpr,
    CP: tl.constexpr, CB: tl.constexpr, GROUPS: tl.constexpr, N_AUX: tl.constexpr,
    EPS: tl.constexpr,
):  # fmt: skip
    """Reconstruct one position a program from its K decoder rows, and differentiate.

    Each piece of CB channels of the rows is loaded once, for the reconstruction and for the slopes
    of the activations, which are sums over channels. ENDS (GROUPS + 1,) int32: 0, then the ends of
    the nested dictionaries; the reconstruction by all nodes comes first, and the larger
    dictionaries' rows are taken away again.
    """
    row = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, KP)
    kept = tl.load(KEPT + row * K + k, mask=k < K, other=0)
    node = kept & 0xFFFF
    holds = kept > 0
    z16 = (kept >> 16).to(tl.int16).to(Z.dtype.element_ty, bitcast=True)
    z = z16.to(tl.float32)
    mean = tl.load(MEAN + row)
    std = tl.load(STD + row)
    factor = std * gain
    to_nodes = tl.zeros([KP, CB // 8], dtype=tl.float32)
    error = tl.zeros([CB], dtype=tl.float32)
    for first in range(0, C, CB):
        c = first + tl.arange(0, CB)
        inside = c < C
        w = tl.load(
            DECODER + node[:, None] * C + c[None, :],
            mask=holds[:, None] & inside[None, :], other=0.0,
        ).to(tl.float32)  # fmt: skip
        output = tl.sum(w * z[:, None], axis=0) + tl.load(PRE_BIAS + c, mask=inside, other=0.0)
        x = tl.load(RAW + row * C + c, mask=inside, other=0.0).to(tl.float32)
        x = x * tl.load(SCALE + c, mask=inside, other=0.0) - mean
        r = tl.where(inside, std * output - x, 0.0)
        error += r * r
        if row < N_AUX:
            e = x / (std + EPS) - output
            e = tl.minimum(tl.maximum(e, -_LARGEST), _LARGEST)
            tl.store(RESIDUAL + row * C + c, e.to(RESIDUAL.dtype.element_ty), mask=inside)
        s = r * factor
        for smaller in tl.static_range(GROUPS):
            group = GROUPS - 1 - smaller
            here = S + (group * B + row) * CP + c
            s16 = tl.minimum(tl.maximum(s, -_LARGEST), _LARGEST).to(S.dtype.element_ty)
            tl.store(here, s16, mask=inside)
            if GROUPS == 1:
                to_nodes += tl.sum(tl.reshape(w * s[None, :], [KP, CB // 8, 8]), axis=2)
            else:
                belongs = (node >= tl.load(ENDS + group)) & (node < tl.load(ENDS + group + 1))
                own = tl.where(belongs[:, None], w, 0.0)
                to_nodes += tl.sum(tl.reshape(own * s[None, :], [KP, CB // 8, 8]), axis=2)
                output -= tl.sum(own * z[:, None], axis=0)
                s += tl.where(inside, std * output - x, 0.0) * factor
    slope = tl.sum(to_nodes, axis=1)
    slope = tl.minimum(tl.maximum(slope, -_LARGEST), _LARGEST)
    tl.store(Z + row * N + node, z16, mask=holds)
    tl.store(SLOPE + row * N + node, slope.to(SLOPE.dtype.element_ty), mask=holds)
    tl.store(FIRED + node, tl.full([KP], 1, tl.int32), mask=holds)
    tl.store(ERROR + row, tl.sum(error))


@triton.jit
def score(
    Y, ENCODER, BIAS, KEPT, SCORE,
    K: tl.constexpr, KP: tl.constexpr, C: tl.constexpr, CB: tl.constexpr,
):  # fmt: skip
    """Pre-activations in float32 of the nodes that one position a program keeps; 0 where an entry
    is absent. Y (B, C), ENCODER (N, C), BIAS (N,), SCORE (B, K) float32."""
    row = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, KP)
    kept = tl.load(KEPT + row * K + k, mask=k < K, other=0)
    node = kept & 0xFFFF
    holds = kept > 0
    total = tl.zeros([KP], dtype=tl.float32)
    for first in range(0, C, CB):
        c = first + tl.arange(0, CB)
        inside = c < C
        w = tl.load(
            ENCODER + node[:, None] * C + c[None, :],
            mask=holds[:, None] & inside[None, :], other=0.0,
        )  # fmt: skip
        y = tl.load(Y + row * C + c, mask=inside, other=0.0)
        total += tl.sum(w * y[None, :], axis=1)
    total += tl.load(BIAS + node, mask=holds, other=0.0)
    tl.store(SCORE + row * K + k, tl.where(holds, total, 0.0), mask=k < K)


@triton.jit
def advance(
    DONE, FAILED, SUMS, TOTAL, RATES, peak, n_steps, rise, fall,
    LOG_BETA1: tl.constexpr, LOG_BETA2: tl.constexpr,
    RISES: tl.constexpr, FALLS: tl.constexpr,
):  # fmt: skip
    """Figures, schedule and Adam's corrections, one program."""
    total = tl.load(TOTAL)
    done = tl.load(DONE)
    failed = tl.load(FAILED)
    is_finite = tl.abs(total) < 1e300  # a NaN is not
    if (failed == 0) & (is_finite == 0):
        data_is_finite = tl.abs(tl.load(TOTAL + 2)) < 1e300
        failed = tl.where(data_is_finite, done + 1, -done - 1)
        tl.store(FAILED, failed)
    t = (done + 1).to(tl.float64)
    factor = t * 0.0 + 1.0
    if RISES:
        factor = tl.minimum(factor, t / rise)
    if FALLS:
        factor = tl.minimum(factor, (n_steps - done.to(tl.float64)) / fall)
    first_moment = 1.0 - tl.exp(t * LOG_BETA1)
    second_moment = 1.0 - tl.exp(t * LOG_BETA2)
    tl.store(RATES, (peak * factor / first_moment).to(tl.float32))
    tl.store(RATES + 1, (1.0 / tl.sqrt(second_moment)).to(tl.float32))
    tl.store(RATES + 2, (failed == 0).to(tl.float32))
    if failed == 0:
        tl.store(SUMS, tl.load(SUMS) + total)
        tl.store(SUMS + 1, tl.load(SUMS + 1) + tl.load(TOTAL + 1))
        tl.store(DONE, done + 1)


@triton.jit
def select_dead(
    H, SINCE, FIRED, Z, dead_after, n_positions,
    N: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """AuxK, one position a program: the K largest pre-activations above 0 of dead nodes (of equals
    at the limit all: what matters is the sum over them)."""
    row = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    inside = j < N
    since = tl.load(SINCE + j, mask=inside, other=0)
    fired = tl.load(FIRED + j, mask=inside, other=1)
    dead = (fired == 0) & (since + n_positions >= dead_after)
    h = tl.load(H + row * N + j, mask=inside, other=0.0)
    bits = tl.where(dead, tl.maximum(h.to(tl.int16, bitcast=True).to(tl.int32), 0), 0)
    bound = tl.min(bits) * 0
    for bit in tl.static_range(15):
        higher = bound | (1 << (14 - bit))
        bound = tl.where(tl.sum((bits >= higher).to(tl.int32)) >= K, higher, bound)
    bound = tl.maximum(bound, 1)
    z = tl.where(bits >= bound, h, 0.0)
    tl.store(Z + row * N + j, z.to(Z.dtype.element_ty), mask=inside)


@triton.jit
def _adam(w, g, m, v, rate, root, EPS: tl.constexpr, BETA1: tl.constexpr, BETA2: tl.constexpr):
    m = BETA1 * m + (1.0 - BETA1) * g
    v = BETA2 * v + (1.0 - BETA2) * g * g
    return w - rate * m / (tl.sqrt(v) * root + EPS), m, v


@triton.jit
def update(
    ENCODER, G_ENCODER, A_ENCODER, M_ENCODER, V_ENCODER, ENCODER16,
    DECODER, G_DECODER, A_DECODER, M_DECODER, V_DECODER, DECODER16,
    RATES, SINCE, FIRED, n_positions, scale,
    N: tl.constexpr, C: tl.constexpr, CP: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
    AUX: tl.constexpr, UNIT: tl.constexpr,
    EPS: tl.constexpr, BETA1: tl.constexpr, BETA2: tl.constexpr,
):  # fmt: skip
    """Adam on ROWS nodes a program: encoder and bias, which are one row; decoder, its gradient
    without what is along the row, and the row to norm 1; half-precision copies."""
    if tl.load(RATES + 2) > 0:
        rate = tl.load(RATES)
        root = tl.load(RATES + 1)
        c = tl.arange(0, BLOCK)
        inside = c < C
        with_bias = c < CP  # what pads the row is 0 and stays so
        for r in range(ROWS):
            row = tl.program_id(0).to(tl.int64) * ROWS + r
            if row < N:
                at = row * CP + c
                g = tl.load(G_ENCODER + at, mask=with_bias, other=0.0)
                gd = tl.load(G_DECODER + at, mask=inside, other=0.0)
                if AUX:
                    g += tl.load(A_ENCODER + at, mask=with_bias, other=0.0)
                w = tl.load(ENCODER + at, mask=with_bias, other=0.0)
                m = tl.load(M_ENCODER + at, mask=with_bias, other=0.0)
                v = tl.load(V_ENCODER + at, mask=with_bias, other=0.0)
                w, m, v = _adam(w, g * scale, m, v, rate, root, EPS, BETA1, BETA2)
                tl.store(ENCODER + at, w, mask=with_bias)
                tl.store(M_ENCODER + at, m, mask=with_bias)
                tl.store(V_ENCODER + at, v, mask=with_bias)
                tl.store(ENCODER16 + at, w.to(ENCODER16.dtype.element_ty), mask=with_bias)
                at = row * C + c
                if AUX:
                    gd += tl.load(A_DECODER + at, mask=inside, other=0.0)
                w = tl.load(DECODER + at, mask=inside, other=0.0)
                m = tl.load(M_DECODER + at, mask=inside, other=0.0)
                v = tl.load(V_DECODER + at, mask=inside, other=0.0)
                gd = gd * scale
                if UNIT:
                    gd -= tl.sum(gd * w) * w
                w, m, v = _adam(w, gd, m, v, rate, root, EPS, BETA1, BETA2)
                if UNIT:
                    w = w / tl.maximum(tl.sqrt(tl.sum(w * w)), 1.1754943508222875e-38)
                tl.store(DECODER + at, w, mask=inside)
                tl.store(M_DECODER + at, m, mask=inside)
                tl.store(V_DECODER + at, v, mask=inside)
                tl.store(DECODER16 + at, w.to(DECODER16.dtype.element_ty), mask=inside)
                since = tl.load(SINCE + row) + n_positions
                tl.store(SINCE + row, tl.where(tl.load(FIRED + row) > 0, 0, since))
                tl.store(FIRED + row, 0)


@triton.jit
def update_vector(
    W, G, M, V, RATES, scale, n, BLOCK: tl.constexpr,
    EPS: tl.constexpr, BETA1: tl.constexpr, BETA2: tl.constexpr,
):  # fmt: skip
    """Adam on a vector of n."""
    if tl.load(RATES + 2) > 0:
        c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        inside = c < n
        g = tl.load(G + c, mask=inside, other=0.0) * scale
        w = tl.load(W + c, mask=inside, other=0.0)
        m = tl.load(M + c, mask=inside, other=0.0)
        v = tl.load(V + c, mask=inside, other=0.0)
        w, m, v = _adam(w, g, m, v, tl.load(RATES), tl.load(RATES + 1), EPS, BETA1, BETA2)
        tl.store(W + c, w, mask=inside)
        tl.store(M + c, m, mask=inside)
        tl.store(V + c, v, mask=inside)
