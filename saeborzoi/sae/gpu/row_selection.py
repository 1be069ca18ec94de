"""The k largest of each row, in CUDA C++.

PyTorch's CUDA wheels bring the compiler for it (NVRTC), so that neither nvcc nor headers are
needed. One warp a row; the result is that of `kernels.select`, in a fraction of its instructions:

1. Read the row once, 16 bytes a lane; keep the maximum of every 4 entries (even and odd entries of
   each 8, by packed 16-bit maxima).
2. Bisect a bound that between k and about 1.25 k of the maxima reach; counting is a packed
   subtraction whose sign bits say "reaches it".
3. Lanes go through their groups that reach the bound (about one each), read those entries again
   (they are in the cache) and push what reaches it into shared memory: some 32 to 64 candidates for
   k = 30.
4. Each candidate counts the larger ones; below k, that rank is its place. Keys are
   (bits << 16 | 65535 - node): of equals the lower node wins, and no two are equal.

More candidates than the list holds (many equals) take an exact, slower way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

_WARPS = 4
"""Rows of a block."""
LARGEST_ROW = 8192
"""Nodes whose reaching groups fit one 64-bit word a lane."""

SOURCE = r"""
typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned long long u64;
#define FULL 0xFFFFFFFFu
#define VECTORS (N / 8)
#define EACH ((VECTORS + 31) / 32)
#define ENOUGH (K + K / 4 + 4)
#define CAPACITY (((ENOUGH + 16 + 31) / 32) * 32 + 32)

__device__ __forceinline__ int warp_sum(int x) { return __reduce_add_sync(FULL, x); }

extern "C" __global__ void __launch_bounds__(32 * WARPS)
select_rows(const u16* __restrict__ h, int* kept, u16* z, u16* slope, int n_rows)
{
    __shared__ __align__(16) u32 shared[WARPS][CAPACITY + 4];
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const long long row = (long long)blockIdx.x * WARPS + warp;
    if (row >= n_rows) return;
    u32* candidate = shared[warp];
    int* own = kept + row * K;
#if CLEAR
    for (int e = lane; e < K; e += 32) {
        const int old = own[e] & 0xFFFF;
        z[row * N + old] = 0;
        slope[row * N + old] = 0;
    }
#endif
    const uint4* vector = (const uint4*)(h + row * N);
    u32 group[EACH];  // two maxima of 4 entries, their top bits set
    int top = 0, second = 0;  // a lane's largest and second largest maximum
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int at = i * 32 + lane;
        uint4 v = make_uint4(0, 0, 0, 0);
        if (at < VECTORS) v = vector[at];
        const u32 m = __vmaxs2(__vmaxs2(__vmaxs2(v.x, v.y), __vmaxs2(v.z, v.w)), 0);
        const int a = m & 0xFFFF, b = m >> 16, large = max(a, b), small = min(a, b);
        second = max(max(second, small), min(top, large));
        top = max(top, large);
        group[i] = m | 0x80008000u;
    }
    // each lane has a maximum that reaches the least of the lanes' maxima, and so on: 32 or 64 do
    int lo = K <= 32 ? __reduce_min_sync(FULL, top) : K <= 64 ? __reduce_min_sync(FULL, second) : 1;
    lo = max(lo, 1);
    top = __reduce_max_sync(FULL, top);
    // lo: at least K groups reach it (or it is 1); hi: fewer do
    int hi = top + 1, at_lo = 1 << 20;
    while (hi - lo > 1 && at_lo > ENOUGH) {
        const int middle = (lo + hi) >> 1;
        const u32 bound = middle * 0x10001u;
        int n = 0;
#pragma unroll
        for (int first = 0; first < EACH; first += 16) {
            u32 bits = 0;  // 16 registers' sign bits side by side
#pragma unroll
            for (int i = first; i < EACH && i < first + 16; i++)
                bits = (bits >> 1) | ((group[i] - bound) & 0x80008000u);
            n += __popc(bits);
        }
        n = warp_sum(n);
        if (n >= K) { lo = middle; at_lo = n; } else hi = middle;
    }
    int least = lo, n = 0;
    {
        const u32 bound = least * 0x10001u;
        u64 reach = 0;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const u32 f = (group[i] - bound) & 0x80008000u;
            reach |= (u64)((f >> 15 | f >> 30) & 3u) << (2 * i);
        }
        while (__any_sync(FULL, reach != 0)) {
            const bool have = reach != 0;
            const int bit = have ? __ffsll((long long)reach) - 1 : 0;
            reach &= reach - 1;
            const int at = (bit >> 1) * 32 + lane, odd = bit & 1;
            uint4 v = make_uint4(0, 0, 0, 0);
            if (have) v = vector[at];
            const u32 word[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (int q = 0; q < 4; q++) {
                const u32 entry = (word[q] >> (16 * odd)) & 0xFFFF;
                const bool in = have && (int)(short)entry >= least;
                const u32 who = __ballot_sync(FULL, in);
                const int place = n + __popc(who & ((1u << lane) - 1));
                if (in && place < CAPACITY)
                    candidate[place] = entry << 16 | (0xFFFFu - (at * 8 + 2 * q + odd));
                n += __popc(who);
            }
        }
    }
    if (n > CAPACITY) {
        // the K-th largest entry exactly; what is above it first, then equals until K are there
        int below = top + 1;
        while (below - least > 1) {
            const int middle = (least + below) >> 1;
            int reached = 0;
            for (int at = lane; at < VECTORS; at += 32) {
                const uint4 v = vector[at];
                const u32 word[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
                for (int q = 0; q < 4; q++)
                    reached += ((int)(short)(word[q] & 0xFFFF) >= middle)
                             + ((int)(short)(word[q] >> 16) >= middle);
            }
            if (warp_sum(reached) >= K) least = middle; else below = middle;
        }
        n = 0;
        for (int equal = 0; equal < 2; equal++)
            for (int i = 0; i < EACH; i++) {
                const int at = i * 32 + lane;
                for (int j = 0; j < 8; j++) {
                    const int entry = at < VECTORS ? (int)(short)h[row * N + at * 8 + j] : -1;
                    const bool in = equal ? entry == least : entry > least;
                    const u32 who = __ballot_sync(FULL, in);
                    const int place = n + __popc(who & ((1u << lane) - 1));
                    if (in && place < K)
                        candidate[place] = (u32)entry << 16 | (0xFFFFu - (at * 8 + j));
                    n += __popc(who);
                }
            }
        n = min(n, K);
    }
    if (lane < 4) candidate[n + lane] = 0;
    __syncwarp();
    for (int e = lane; e < n; e += 32) {
        const u32 key = candidate[e];
        int rank = 0;
        for (int o = 0; o < n; o += 4) {
            const uint4 other = *(const uint4*)(candidate + o);
            rank += (other.x > key) + (other.y > key) + (other.z > key) + (other.w > key);
        }
        if (rank < K) own[rank] = (int)((key & 0xFFFF0000u) | (0xFFFFu - (key & 0xFFFFu)));
    }
    for (int e = n + lane; e < K; e += 32) own[e] = 0;
}
"""


def source(n_nodes: int, k: int, clear: bool, warps: int = _WARPS) -> str:
    """Source for one shape; with `clear`, entries of z and slope that the old list names become
    0 first."""
    defined = {"N": n_nodes, "K": k, "WARPS": warps, "CLEAR": int(clear)}
    return "".join(f"#define {name} {value}\n" for name, value in defined.items()) + SOURCE


def fits(h: Tensor, k: int) -> bool:
    """Whether `select` does (rows, n_nodes) half pre-activations on this card."""
    n_nodes = h.shape[1]
    if h.device.type != "cuda" or n_nodes % 8 or n_nodes > LARGEST_ROW:
        return False
    return _compiled(n_nodes, k, True) is not None


def select(h: Tensor, kept: Tensor, z: Tensor | None = None, slope: Tensor | None = None) -> None:
    """As `fused.select`; `fits` must hold."""
    n_rows, n_nodes = h.shape
    kernel = _compiled(n_nodes, kept.shape[1], z is not None)
    assert kernel is not None, "`fits` is asked first"
    kernel(
        grid=(-(-n_rows // _WARPS), 1, 1),
        block=(32 * _WARPS, 1, 1),
        args=[h, kept, h if z is None else z, h if slope is None else slope, n_rows],
    )


@cache
def _compiled(n_nodes: int, k: int, clear: bool) -> Callable[..., None] | None:
    """The kernel, or None where this PyTorch (before 2.9) or card (before Ampere) cannot."""
    compile_kernel: Any = getattr(torch.cuda, "_compile_kernel", None)
    if compile_kernel is None or torch.cuda.get_device_capability() < (8, 0):
        return None
    try:
        kernel: Callable[..., None] = compile_kernel(source(n_nodes, k, clear), "select_rows")
    except (RuntimeError, OSError) as error:
        logger.warning("selection is left to Triton: NVRTC did not compile its kernel (%s)", error)
        return None
    return kernel
