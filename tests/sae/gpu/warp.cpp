// One warp of a CUDA kernel on a CPU: 32 lanes as coroutines, which wait for each other where the
// kernel's lanes exchange values. `kernel.inc` is the kernel's source with one warp a block.
#include <ucontext.h>
#include <algorithm>
#include <cstdint>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(n)
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))
using std::max;
using std::min;

struct Index { int x; };
static Index threadIdx, blockIdx;
struct uint4 { unsigned x, y, z, w; };
static uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static int __popc(unsigned x) { return __builtin_popcount(x); }
static int __ffsll(long long x) { return __builtin_ffsll(x); }
static unsigned __vmaxs2(unsigned a, unsigned b) {
    auto pick = [](unsigned a, unsigned b) {
        return (unsigned)(uint16_t)std::max((int16_t)a, (int16_t)b);
    };
    return pick(a, b) | pick(a >> 16, b >> 16) << 16;
}

static ucontext_t lanes[32], scheduler;
static int lane_now, turn[32];
static unsigned slots[2][32];
static bool ended[32];

static void wait_for_lanes() { swapcontext(&lanes[lane_now], &scheduler); threadIdx.x = lane_now; }

// what every lane gave; two sets take turns, as a fast lane may already give the next value
static const unsigned* exchange(unsigned value) {
    unsigned* all = slots[turn[lane_now]++ & 1];
    all[lane_now] = value;
    wait_for_lanes();
    return all;
}
static int __reduce_add_sync(unsigned, int x) {
    const unsigned* all = exchange(x);
    int sum = 0;
    for (int i = 0; i < 32; i++) sum += (int)all[i];
    return sum;
}
static int __reduce_max_sync(unsigned, int x) {
    const unsigned* all = exchange(x);
    int most = (int)all[0];
    for (int i = 1; i < 32; i++) most = max(most, (int)all[i]);
    return most;
}
static int __reduce_min_sync(unsigned mask, int x) { return -__reduce_max_sync(mask, -x); }
static unsigned __ballot_sync(unsigned, bool x) {
    const unsigned* all = exchange(x);
    unsigned bits = 0;
    for (int i = 0; i < 32; i++) bits |= all[i] << i;
    return bits;
}
static bool __any_sync(unsigned mask, bool x) { return __ballot_sync(mask, x) != 0; }
static void __syncwarp() { exchange(0); }

#include "kernel.inc"

static const u16* h_;
static int *kept_, n_rows_;
static u16 *z_, *slope_;
static void lane() {
    threadIdx.x = lane_now;
    select_rows(h_, kept_, z_, slope_, n_rows_);
    ended[lane_now] = true;
}

extern "C" void run(const u16* h, int* kept, u16* z, u16* slope, int n_rows) {
    static std::vector<char> stacks(32 * 65536);
    h_ = h, kept_ = kept, z_ = z, slope_ = slope, n_rows_ = n_rows;
    for (blockIdx.x = 0; blockIdx.x < n_rows; blockIdx.x++) {
        for (int i = 0; i < 32; i++) {
            getcontext(&lanes[i]);
            lanes[i].uc_stack.ss_sp = &stacks[i * 65536];
            lanes[i].uc_stack.ss_size = 65536;
            lanes[i].uc_link = &scheduler;
            turn[i] = 0;
            ended[i] = false;
            makecontext(&lanes[i], lane, 0);
        }
        for (bool running = true; running;) {
            running = false;
            for (lane_now = 0; lane_now < 32; lane_now++) {
                if (ended[lane_now]) continue;
                swapcontext(&scheduler, &lanes[lane_now]);
                running = true;
            }
        }
    }
}
