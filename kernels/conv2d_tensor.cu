// Convolution as implicit GEMM on tensor cores:
//   y[m, o] = sum_{tap, i} x[window(m) + tap, i] w[o, tap, i] (+ bias[o]) (+ residual[m, o])
// with rows m = pixels of the result, columns o = its channels, and k = (tap, i) running over the window. It computes
// Conv2d, and Conv2dInputGrad as a convolution of dy with a transposed filter. An upsampled input and the gradient of a
// stride of 2 have up to four phases: pixels of y whose windows have the same taps. Each phase has a filter of its own, and
// all phases are computed side by side in one grid. src/ops/conv2d/geometry.rs derives phases and taps.
//
// Shapes      x [batch, height, width, channels] of T, channels % 8 == 0; y and residual
//             [batch, out_height, out_width, out_channels] of T; w packed by conv2d_tensor_pack: per phase
//             [out_channels, k rounded up to 64] of T; bias f32. At most 32 taps; fewer than 2^31 elements each.
// Launch      grid (tiles of the largest phase, splits, phases), block 32 WARPS_M WARPS_N,
//             shared STAGES * (TILE_M + TILE_N) * TILE_K * 2 bytes.
// Pipeline    cp.async of 16 bytes into STAGES stages, zeros for what lies outside x; ldmatrix; mma.m16n8k16 with f32
//             sums. FAST: f16 sums over FAST_K of k, then added to f32 registers.
// Split-K     With gridDim.y > 1 each split sums a fixed range of k and stores its sums in `partial`; the block that arrives
//             last at a tile adds the splits in the order of k. The tile's counter in `arrived` starts at 0 and is 0 again
//             afterwards. Which block arrives last changes no bit.
// Concat      CONCAT: the last concat_channels of x's channels are an array of their own, concat
//             [batch, height, width, concat_channels]; both counts are multiples of 8. k runs over all taps of x, then over
//             all taps of concat, in the order of w's rows, so that a thread switches arrays once in the whole sum. One
//             phase only; at most 16 taps.
// Moments     MOMENTS: each block also stores the Moments of each group of channels, over its rows as they are stored, for
//             group_norm_stats_merge. A group that is wider than a tile has one slice per tile. The tiles of a sample lie
//             side by side: moments [batch, groups, tiles of a sample * slices]. Only without split-K and with one phase;
//             a sample's pixels are a multiple of TILE_M; group_channels is a multiple of 8 that divides TILE_N or is a
//             multiple of it.
//             Order: a thread sums its eight channels row after row, about its first number; then a group's threads are
//             merged as in `merge`. Depends on the tile, not on batch or grid.
// Traffic     reads w once per row of tiles and x once per column of tiles and tap, from DRAM the first time and then from
//             L2; writes y once. Split-K moves 4 * splits * y's elements to L2 and back, and discards them there before
//             they go to memory. MOMENTS writes 16 bytes per group and tile; a pass of its own would read y again.
// Not fused   The 1x1 convolution of a block's residual reads the x of its 3x3, but no launch computes both. The second
//             result would double a thread's 64 sums of a 128 x 128 tile. With the registers for operands and addresses,
//             a multiprocessor would have room for one block instead of two, and the second hides barriers, prologue and
//             epilogue. Tiles of 128 x 64 would move w and x half as often again per product. There is little to save: the
//             1x1 has a ninth of the products, its x is in L2 (32^2 pixels of 512 channels are 1 MiB of 6) and read once
//             where the 3x3 reads it nine times, and its w is its own. The fused kernel would also have to store the 1x1's
//             result for another pass to add; alone, the 1x1 adds the normalised 3x3 in its epilogue.
// Overwrites  y, and moments.
// Registers   <= 176 (tiles of 128 x 64, and FAST; 128 x 128 without it keeps to 128 for two blocks per multiprocessor)
// Main loop   of 128 x 128 x 32, per warp and step, as nvdisasm shows it: 32 HMMA.16816.F32, 12 LDSM.16.M88.4,
//             4 LDGSTS.E.BYPASS.128, 1 BAR, 49 for addresses, predicates and branches, 3 idle; no local memory. At 32
//             clocks an HMMA, four warps of a sub-core fill its tensor unit for 4096 clocks and issue for 410.
//             With CONCAT 118 and with MOMENTS 119 instructions instead of 102: addresses of shared memory are computed
//             again in each step, because no registers are left to keep them.
//             FAST, per two steps: 64 HMMA.16816.F16 of 16 clocks, and 64 HADD2.F32 + 64 FADD for the promotion.
#include "common/types.cuh"
#include "common/group_moments.cuh"
#include "common/mma.cuh"
#include "common/split_sums.cuh"
#include "common/tile.cuh"

struct Conv2dTensorParams {
    const void *x;         // T [batch, height, width, channels], without the concatenated channels
    const void *w;         // T, per phase [out_channels, k rounded up to 64]
    const float *bias;     // f32 [out_channels] or null
    const void *residual;  // T like y, or null
    void *y;               // T [batch, out_height, out_width, out_channels]
    float *partial;        // with split-K: f32 [tile, split, TILE_M * TILE_N], aligned to 128 bytes
    unsigned *arrived;     // with split-K: [tile] counters, 0 between launches
    void *moments;         // with MOMENTS: [sample, group, tile of the sample * slice] of Moments
    const void *concat;    // with CONCAT: T [batch, height, width, concat_channels]
    int group_channels;    // with MOMENTS: channels of a group
    int concat_channels;   // with CONCAT: how many of `channels` are in `concat`
    int batch;
    int height;
    int width;
    int channels;  // of x and concat together
    int out_height;
    int out_width;
    int out_channels;
    int stride;   // pixels of x from one window of a phase to the next
    int scatter;  // pixels of y from one result of a phase to the next
    int rows[4];           // for each phase: rows of its results in a sample
    int columns[4];        // for each phase: columns of its results in a sample
    int kernel_height[4];  // for each phase: rows of taps
    int kernel_width[4];   // for each phase: columns of taps
    int pad_top[4];        // for each phase: rows from the first tap to the window's pixel of x
    int pad_left[4];       // for each phase: columns from the first tap to the window's pixel of x
    int filter_at[4];      // for each phase: the element of w at which its filter starts
};

constexpr int WARPS = WARPS_M * WARPS_N;
constexpr int THREADS = 32 * WARPS;
constexpr int WARP_M = TILE_M / WARPS_M;
constexpr int WARP_N = TILE_N / WARPS_N;
constexpr int FRAGMENTS_M = WARP_M / 16;
constexpr int FRAGMENTS_N = WARP_N / 8;
constexpr int CHUNKS = TILE_K / 8;
constexpr int A_BYTES = TILE_M * TILE_K * 2;
constexpr int STAGE_BYTES = (TILE_M + TILE_N) * TILE_K * 2;
// Rows that all threads together load at once.
constexpr int PASS = THREADS / CHUNKS;
constexpr int A_PASSES = TILE_M / PASS;
constexpr int B_PASSES = TILE_N / PASS;
// f16 sums are promoted to f32 after each FAST_K of k: long enough to hide the additions, short enough for 11 bits.
constexpr int FAST_K = 64;
// Room for 16 rows of a warp's results on their way to 16-byte stores; the pitch spreads fragments over the banks.
constexpr int STAGING_PITCH = WARP_N + 8;
// Each lane stores eight channels of a row; as many lanes as it takes share a row.
constexpr int LANES_PER_ROW = WARP_N / 8;
constexpr int ROWS = 32 / LANES_PER_ROW;
using KTile = Tile<CHUNKS>;

static_assert(TILE_K == 32 || TILE_K == 64, "swizzled rows of 64 or 128 bytes; filters are padded to 64");
static_assert(WARP_M % 16 == 0 && WARP_N % 16 == 0, "ldmatrix.x4 takes 16 rows of A and 16 of B");
static_assert(TILE_M % PASS == 0 && TILE_N % PASS == 0 && PASS % 8 == 0, "every pass is full and keeps its swizzle");
static_assert(STAGES >= 2 && FAST_K % TILE_K == 0, "pipeline");
static_assert(WARP_N == 16 || WARP_N == 32, "an even number of rows, at most 16, at once from staging");
static_assert(WARPS * 16 * STAGING_PITCH * 4 <= STAGES * STAGE_BYTES, "results are staged where the operands were");
#if MOMENTS
// Moments of each thread for eight channels, behind the staging; the pitch keeps a warp's writes in different banks.
constexpr int MOMENTS_AT = WARPS * 16 * STAGING_PITCH * 4;
constexpr int MOMENTS_ROWS = WARPS_M * ROWS;
constexpr int MOMENTS_PITCH = MOMENTS_ROWS + ROWS / 4;
static_assert(MOMENTS_AT + TILE_N / 8 * MOMENTS_PITCH * 16 <= STAGES * STAGE_BYTES, "moments lie behind the staging");
#endif

static __device__ __forceinline__ int of_phase(const int (&values)[4], int phase) {
    const int even = phase & 2 ? values[2] : values[0];
    const int odd = phase & 2 ? values[3] : values[1];
    return phase & 1 ? odd : even;
}

// The first pixel and the first channel of this block's tile. Without split-K neighbouring blocks share their pixels. With
// it they share their channels, so that the filter, which is the large operand there, is read once. Computed again where it
// is used: a value kept from the start to the end of the kernel would cost the main loop its last register.
struct TileOrigin {
    int row;
    int channel;

    __device__ __forceinline__ TileOrigin(int out_channels) {
        const unsigned tile = tile_of_block(), tiles_n = (out_channels + TILE_N - 1) / TILE_N;
        const unsigned tiles_m = gridDim.x / tiles_n;
        row = (gridDim.y > 1 ? tile % tiles_m : tile / tiles_n) * TILE_M;
        channel = (gridDim.y > 1 ? tile / tiles_m : tile % tiles_n) * TILE_N;
    }
};

// Copies windows of x to shared memory: thread t copies chunk t % CHUNKS of rows t / CHUNKS + j PASS. It steps along k, and
// a row's mask tells which taps lie inside x. CONCAT: it steps through the taps of x, then through those of concat.
struct Windows {
    const T *x;
    int at[A_PASSES];         // first element of the window
    unsigned inside[A_PASSES];
    int offset;               // of this thread's chunk, from the window's first element
    int channel;
    int tap;
    int tap_x;
    int channels;
    int kernel_width;
    int skipped;  // pixels from the end of a window's row to the next
    unsigned target;
#if CONCAT
    // Switches to the concatenated operand, whose windows lie as those of x.
    __device__ __forceinline__ void switch_array(const Conv2dTensorParams &p) {
#pragma unroll
        for (int j = 0; j < A_PASSES; ++j) at[j] = at[j] / channels * p.concat_channels;
        x = static_cast<const T *>(p.concat);
        channels = p.concat_channels;
    }
#endif

    __device__ __forceinline__ void start(const Conv2dTensorParams &p, int phase, int first_row, int k, unsigned shared) {
        const int rows = of_phase(p.rows, phase), columns = of_phase(p.columns, phase);
        const int kernel_height = of_phase(p.kernel_height, phase);
        const int pad_top = of_phase(p.pad_top, phase), pad_left = of_phase(p.pad_left, phase);
        kernel_width = of_phase(p.kernel_width, phase);
#if CONCAT
        const int taps = kernel_height * kernel_width;
        channels = p.channels - p.concat_channels;
#else
        channels = p.channels;
#endif
        skipped = p.width - kernel_width;
        const int row = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
        target = shared + KTile::at(row, chunk);
        x = static_cast<const T *>(p.x);
#pragma unroll
        for (int j = 0; j < A_PASSES; ++j) {
            const int m = first_row + row + j * PASS;
            const int line = m / columns;
            const int left = (m - line * columns) * p.stride - pad_left;
            const int n = line / rows;
            const int top = (line - n * rows) * p.stride - pad_top;
            at[j] = ((n * p.height + top) * p.width + left) * channels;
            inside[j] = 0;
            if (n < p.batch) {
                unsigned bit = 1;
                for (int ty = 0; ty < kernel_height; ++ty)
                    for (int tx = 0; tx < kernel_width; ++tx, bit <<= 1)
                        if ((unsigned)(top + ty) < (unsigned)p.height && (unsigned)(left + tx) < (unsigned)p.width)
                            inside[j] |= bit;
            }
#if CONCAT
            inside[j] |= inside[j] << taps;
#endif
        }
        k += chunk * 8;
#if CONCAT
        const bool switched = k >= taps * channels;
        if (switched) {
            k -= taps * channels;
            switch_array(p);
        }
#endif
        tap = k / channels;
        channel = k - tap * channels;
        const int tap_y = kernel_width > 0 ? tap / kernel_width : 0;
        tap_x = tap - tap_y * kernel_width;
        offset = k + tap_y * skipped * channels;
#if CONCAT
        if (switched) tap += taps;
#endif
    }

    // Loads the next TILE_K of k into the stage at `stage` bytes.
    __device__ __forceinline__ void load(const Conv2dTensorParams &p, unsigned stage) {
#pragma unroll
        for (int j = 0; j < A_PASSES; ++j) {
            cp_async_16(target + stage + j * (PASS * KTile::ROW_BYTES), x + (at[j] + offset), inside[j] >> tap & 1);
        }
        // The next pixel of a window's row follows in memory; only the end of the row needs a jump.
        offset += TILE_K;
        channel += TILE_K;
        while (channel >= channels) {
            channel -= channels;
            ++tap;
            if (++tap_x == kernel_width) {
                tap_x = 0;
                offset += skipped * channels;
#if CONCAT
                if (tap == p.kernel_height[0] * p.kernel_width[0]) {
                    switch_array(p);
                    offset = channel;
                }
#endif
            }
        }
    }
};

// Copies rows of the packed filter in the same way; rows past the last channel are zeros.
struct Filter {
    const T *w;
    int pass_length;
    unsigned present;
    unsigned target;

    __device__ __forceinline__ void start(const T *filter, int row_length, int first, int count, int k, unsigned shared) {
        const int row = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
        target = shared + KTile::at(row, chunk);
        w = filter + (size_t)(first + row) * row_length + k + chunk * 8;
        pass_length = PASS * row_length;
        present = 0;
#pragma unroll
        for (int j = 0; j < B_PASSES; ++j)
            if (first + row + j * PASS < count) present |= 1u << j;
    }

    __device__ __forceinline__ void load(unsigned stage) {
#pragma unroll
        for (int j = 0; j < B_PASSES; ++j)
            cp_async_16(target + stage + j * (PASS * KTile::ROW_BYTES), w + j * pass_length, present >> j & 1);
        w += TILE_K;
    }
};

typedef float Sums[FRAGMENTS_M][FRAGMENTS_N][4];

// sums += the tile's products over k steps `first` to `last`.
static __device__ __forceinline__ void multiply(Sums &sums, Windows &windows, Filter &filter,
                                                const Conv2dTensorParams &p, unsigned shared, int steps) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int warp_m = warp / WARPS_N, warp_n = warp % WARPS_N;
    // Addresses of the first 16 columns of k; those that follow differ in bits 5 and 6, where the swizzle acts alone.
    const unsigned a_at = shared + KTile::at(warp_m * WARP_M + (lane & 15), lane >> 4);
    const unsigned b_at = shared + A_BYTES + KTile::at(warp_n * WARP_N + (lane & 7) + (lane >> 4 << 3), lane >> 3 & 1);
#if FAST
    unsigned halves[FRAGMENTS_M][FRAGMENTS_N][2] = {};
#endif
    unsigned load_stage = 0, stage = 0;
    const auto next = [](unsigned s) { return s == (STAGES - 1) * STAGE_BYTES ? 0 : s + STAGE_BYTES; };
#pragma unroll
    for (int ahead = 0; ahead < STAGES - 1; ++ahead) {
        if (ahead < steps) {
            windows.load(p, load_stage);
            filter.load(load_stage);
        }
        cp_async_commit();
        load_stage = next(load_stage);
    }
    for (int step = 0; step < steps; ++step) {
        cp_async_wait<STAGES - 2>();
        // Behind this barrier the stage that was read in the step before may be overwritten.
        __syncthreads();
        if (step + STAGES - 1 < steps) {
            windows.load(p, load_stage);
            filter.load(load_stage);
        }
        cp_async_commit();
        load_stage = next(load_stage);
#pragma unroll
        for (int k = 0; k < TILE_K / 16; ++k) {
            unsigned b[FRAGMENTS_N / 2][4];
#pragma unroll
            for (int j = 0; j < FRAGMENTS_N / 2; ++j)
                ldmatrix(b[j], ((b_at + stage) ^ (k * 32)) + j * (16 * KTile::ROW_BYTES));
#pragma unroll
            for (int i = 0; i < FRAGMENTS_M; ++i) {
                unsigned a[4];
                ldmatrix(a, ((a_at + stage) ^ (k * 32)) + i * (16 * KTile::ROW_BYTES));
#pragma unroll
                for (int j = 0; j < FRAGMENTS_N; ++j) {
                    const unsigned b0 = b[j / 2][j % 2 * 2], b1 = b[j / 2][j % 2 * 2 + 1];
#if FAST
                    mma_half(halves[i][j], a, b0, b1);
#else
                    mma<T>(sums[i][j], a, b0, b1);
#endif
                }
            }
        }
        stage = next(stage);
#if FAST
        if ((step + 1) % (FAST_K / TILE_K) == 0 || step + 1 == steps) {
#pragma unroll
            for (int i = 0; i < FRAGMENTS_M; ++i) {
#pragma unroll
                for (int j = 0; j < FRAGMENTS_N; ++j) promote(sums[i][j], halves[i][j]);
            }
        }
#endif
    }
}

#if MOMENTS
// Sums of the numbers that a thread stores, which are all of one group, about the first of them.
struct Stored {
    float base, differences, squares;

    __device__ __forceinline__ void add(const Pack<T, 8> &values) {
#pragma unroll
        for (int e = 0; e < 8; ++e) {
            const float difference = to_float(values.v[e]) - base;
            differences += difference;
            squares = fmaf(difference, difference, squares);
        }
    }
};

// Merges the moments of each group, or slice of a group, of the block's tile, whose rows are all of one sample.
static __device__ __forceinline__ void leave_moments(const Stored &stored, const Conv2dTensorParams &p, unsigned char *shared) {
    constexpr float COUNT = 8 * TILE_M / MOMENTS_ROWS;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    Moments *found = reinterpret_cast<Moments *>(shared + MOMENTS_AT);
    const int chunk = warp % WARPS_N * LANES_PER_ROW + lane % LANES_PER_ROW;
    const int row = warp / WARPS_N * ROWS + lane / LANES_PER_ROW;
    const float offset = stored.differences / COUNT;
    found[chunk * MOMENTS_PITCH + row] = {stored.base, offset, fmaf(-stored.differences, offset, stored.squares), COUNT};
    __syncthreads();
    const TileOrigin origin(p.out_channels);
    const int pixels = p.rows[0] * p.columns[0], sample = origin.row / pixels;
    const int width = min(p.group_channels, TILE_N), slices = p.group_channels / width;
    const int groups = p.out_channels / p.group_channels;
    const int parts = pixels / TILE_M * slices;
    const int part = (origin.row - sample * pixels) / TILE_M * slices;
    for (int first = warp * width; first < TILE_N; first += WARPS * width) {
        const int channel = origin.channel + first;
        if (channel >= p.out_channels) return;
        const Moments *of_group = found + first / 8 * MOMENTS_PITCH;
        const Moments all = merge(of_group->base, width / 8 * MOMENTS_ROWS, [&](int i) {
            return of_group[i / MOMENTS_ROWS * MOMENTS_PITCH + i % MOMENTS_ROWS];
        });
        const int group = channel / p.group_channels, slice = channel % p.group_channels / width;
        if (lane == 0) static_cast<Moments *>(p.moments)[((size_t)sample * groups + group) * parts + part + slice] = all;
    }
}
#endif

// The epilogue: adds bias and residual, rounds and stores. 16 rows of a warp at a time pass through the warp's own part of
// shared memory.
static __device__ __forceinline__ void store(const Sums &sums, const Conv2dTensorParams &p, unsigned char *shared) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int warp_m = warp / WARPS_N, warp_n = warp % WARPS_N;
    float *staging = reinterpret_cast<float *>(shared) + warp * (16 * STAGING_PITCH);
    const TileOrigin origin(p.out_channels);
    const int phase = blockIdx.z;
    const int columns = of_phase(p.columns, phase), rows = of_phase(p.rows, phase);
    const int pixels = p.batch * rows * columns;
    const int first_channel = origin.channel + warp_n * WARP_N;
    const int channel = first_channel + lane % LANES_PER_ROW * 8;
    const int count = p.out_channels - channel < 8 ? p.out_channels - channel : 8;
    const bool vectors = p.out_channels % 8 == 0;
    // In odd rows the two halves of each eight columns are exchanged, so that loads of eight lanes from neighbouring rows lie
    // in different banks.
    const int put = (lane >> 2) * STAGING_PITCH + ((lane & 3) * 2 ^ (lane >> 2 & 1) * 4);
    const int exchanged = lane / LANES_PER_ROW & 1;
    // One number per lane, so that the warp reads whole sectors.
    const bool biased = p.bias && lane < WARP_N && first_channel + lane < p.out_channels;
    const float of_lane = biased ? p.bias[first_channel + lane] : 0.0f;
    float bias[8];
#pragma unroll
    for (int e = 0; e < 8; ++e) bias[e] = __shfl_sync(0xffffffffu, of_lane, lane % LANES_PER_ROW * 8 + e);
#if MOMENTS
    Stored stored = {};
#endif
#pragma unroll
    for (int i = 0; i < FRAGMENTS_M; ++i) {
        __syncwarp();
#pragma unroll
        for (int j = 0; j < FRAGMENTS_N; ++j) {
            float *to = staging + put + j * 8;
            *reinterpret_cast<float2 *>(to) = make_float2(sums[i][j][0], sums[i][j][1]);
            *reinterpret_cast<float2 *>(to + 8 * STAGING_PITCH) = make_float2(sums[i][j][2], sums[i][j][3]);
        }
        __syncwarp();
#pragma unroll
        for (int first = 0; first < 16; first += ROWS) {
            const int row = first + lane / LANES_PER_ROW;
            const int m = origin.row + warp_m * WARP_M + i * 16 + row;
            if (m >= pixels || count <= 0) continue;
            size_t pixel = m;
            if (p.scatter > 1) {
                const int line = m / columns, n = line / rows;
                const int y = (line - n * rows) * p.scatter + phase / 2, x = (m - line * columns) * p.scatter + phase % 2;
                pixel = ((size_t)n * p.out_height + y) * p.out_width + x;
            }
            const size_t at = pixel * p.out_channels + channel;
            T *y = static_cast<T *>(p.y) + at;
            const T *residual = static_cast<const T *>(p.residual) + at;
            float v[8];
            const float4 *from = reinterpret_cast<const float4 *>(staging + row * STAGING_PITCH + lane % LANES_PER_ROW * 8);
            const float4 low = from[exchanged], high = from[exchanged ^ 1];
            v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w;
            v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
#pragma unroll
            for (int e = 0; e < 8; ++e) v[e] += bias[e];
            if (vectors) {
                if (p.residual) {
                    float r[8];
                    load_floats<8>(residual, r);
#pragma unroll
                    for (int e = 0; e < 8; ++e) v[e] += r[e];
                }
#if MOMENTS
                Pack<T, 8> rounded;
#pragma unroll
                for (int e = 0; e < 8; ++e) rounded.v[e] = from_float<T>(v[e]);
                *reinterpret_cast<Pack<T, 8> *>(y) = rounded;
                if (i == 0 && first == 0) stored.base = to_float(rounded.v[0]);
                stored.add(rounded);
#else
                store_floats<8>(y, v);
#endif
            } else {
#pragma unroll
                for (int e = 0; e < 8; ++e)
                    if (e < count) y[e] = from_float<T>(p.residual ? v[e] + to_float(residual[e]) : v[e]);
            }
        }
    }
#if MOMENTS
    leave_moments(stored, p, shared);
#endif
}

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS) conv2d_tensor(const Conv2dTensorParams p) {
    extern __shared__ __align__(128) unsigned char shared[];
    const int phase = blockIdx.z;
    const TileOrigin origin(p.out_channels);
    if (origin.row >= p.batch * of_phase(p.rows, phase) * of_phase(p.columns, phase)) return;

    const int k = of_phase(p.kernel_height, phase) * of_phase(p.kernel_width, phase) * p.channels;
    const int steps = (k + TILE_K - 1) / TILE_K;
    // Splits begin at multiples of 64 in every tile, so that a sum depends on split-K alone.
    const int units = (k + 63) / 64;
    const unsigned split = split_of_block();
    const int first = units * split / gridDim.y * (64 / TILE_K);
    const int last = min(steps, (int)(units * (split + 1) / gridDim.y * (64 / TILE_K)));
    const unsigned base = shared_address(shared);
    Windows windows;
    windows.start(p, phase, origin.row, first * TILE_K, base);
    Filter filter;
    filter.start(static_cast<const T *>(p.w) + of_phase(p.filter_at, phase), (k + 63) / 64 * 64, origin.channel,
                 p.out_channels, first * TILE_K, base + A_BYTES);
    Sums sums = {};
    multiply(sums, windows, filter, p, base, last - first);
    // Behind this barrier shared memory is free for other uses.
    cp_async_wait<0>();
    __syncthreads();
    if (gridDim.y > 1 && !combine<THREADS>(sums, p.partial, p.arrived, shared)) return;
    store(sums, p, shared);
    if (gridDim.y > 1) discard_splits<TILE_M * TILE_N>(p.partial);
}
