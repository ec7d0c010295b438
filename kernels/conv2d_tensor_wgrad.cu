// Gradient of a convolution's filter as GEMM over pixels on tensor cores:
//   partial[split][o, tap, i] = sum over the split's pixels m of dy[m, o] x[window(m) + tap, i]
//   dw[o, i, tap] = sum over splits of partial[split][o, tap, i]
//
// Both operands lie in memory with the sum's index m outermost, so tiles are [pixel, channel] and ldmatrix transposes.
//
// Shapes      x [batch, height, width, channels], dy [batch, out_height, out_width, out_channels] of T, both channel
//             counts multiples of 8; partial and dw [out_channels, channels, taps] f32. Fewer than 2^31 elements each.
// Overwrites  partial, dw.
#include "common/types.cuh"
#include "common/mma.cuh"
#include "common/tile.cuh"

struct Conv2dTensorWgradParams {
    const void *x;
    const void *dy;
    float *partial;
    float *dw;
    int batch;
    int height;  // of x, before the upsample
    int width;
    int channels;
    int out_height;
    int out_width;
    int out_channels;
    int taps;
    int kernel_width;
    int stride;
    int pad_top;
    int pad_left;
    int upsample;  // 1 if every pixel of x stands for 2 x 2
    int splits;
};

constexpr int WARPS = WARPS_M * WARPS_N;
constexpr int THREADS = 32 * WARPS;
constexpr int WARP_M = TILE_M / WARPS_M;
constexpr int WARP_N = TILE_N / WARPS_N;
constexpr int FRAGMENTS_M = WARP_M / 16;
constexpr int FRAGMENTS_N = WARP_N / 8;
constexpr int A_BYTES = TILE_M * TILE_K * 2;
constexpr int STAGE_BYTES = (TILE_M + TILE_N) * TILE_K * 2;
using ATile = Tile<TILE_M / 8>;
using BTile = Tile<TILE_N / 8>;
// Pixels that all threads together load at once.
constexpr int A_PASS = THREADS / (TILE_M / 8);
constexpr int B_PASS = THREADS / (TILE_N / 8);
constexpr int A_PASSES = TILE_K / A_PASS;
constexpr int B_PASSES = TILE_K / B_PASS;
// Channels whose taps a block of the last sum gathers.
constexpr int SUM_CHANNELS = 64;
constexpr int SUM_TAPS = 32;

static_assert(WARP_M % 16 == 0 && WARP_N % 16 == 0, "ldmatrix.x4 takes 16 columns of A and 16 of B");
static_assert(TILE_M >= 64 && TILE_N >= 64, "rows of at least 128 bytes");
static_assert(TILE_K % A_PASS == 0 && TILE_K % B_PASS == 0 && A_PASS % 8 == 0 && B_PASS % 8 == 0, "full passes");
static_assert(TILE_K % 16 == 0 && STAGES >= 2, "pipeline");

// Copies the pixels of one channel chunk, thread t the chunk t % CHUNKS of pixels t / CHUNKS + j PASS.
struct Gradients {
    const T *dy;
    bool present;
    unsigned target;

    __device__ __forceinline__ void load(int stage, int pixel, int end, int channels) const {
#pragma unroll
        for (int j = 0; j < A_PASSES; ++j) {
            const int m = pixel + threadIdx.x / (TILE_M / 8) + j * A_PASS;
            cp_async_16(target + stage + j * (A_PASS * ATile::ROW_BYTES), dy + m * channels, present && m < end);
        }
    }
};

struct Windows {
    const T *x;
    bool present;
    int tap_y;  // less the padding
    int tap_x;
    unsigned target;

    __device__ __forceinline__ void load(int stage, int pixel, int end, const Conv2dTensorWgradParams &p) const {
#pragma unroll
        for (int j = 0; j < B_PASSES; ++j) {
            const int m = pixel + threadIdx.x / (TILE_N / 8) + j * B_PASS;
            const int line = m / p.out_width, n = line / p.out_height;
            const int left = (m - line * p.out_width) * p.stride + tap_x, top = (line - n * p.out_height) * p.stride + tap_y;
            const bool inside = (unsigned)top < (unsigned)(p.height << p.upsample) &&
                                (unsigned)left < (unsigned)(p.width << p.upsample);
            const int at = ((n * p.height + (top >> p.upsample)) * p.width + (left >> p.upsample)) * p.channels;
            cp_async_16(target + stage + j * (B_PASS * BTile::ROW_BYTES), x + at, present && inside && m < end);
        }
    }
};

// Launch      grid (ceil(out_channels / TILE_M) * ceil(taps * channels / TILE_N), splits), block 32 WARPS_M WARPS_N,
//             shared STAGES * (TILE_M + TILE_N) * TILE_K * 2 bytes.
// Traffic     reads dy once per column of tiles and x once per row of tiles and tap, from L2 but for the first time;
//             writes partial once.
// Registers   <= 128 for two blocks of 256 threads per multiprocessor.
extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS) conv2d_tensor_wgrad(const Conv2dTensorWgradParams p) {
    extern __shared__ __align__(128) unsigned char shared[];
    const int length = p.taps * p.channels;
    const int tiles_n = (length + TILE_N - 1) / TILE_N;
    const int first_row = blockIdx.x / tiles_n * TILE_M, first_column = blockIdx.x % tiles_n * TILE_N;
    const int pixels = p.batch * p.out_height * p.out_width;
    const int steps = (pixels + TILE_K - 1) / TILE_K;
    const int first = steps * blockIdx.y / gridDim.y, last = steps * (blockIdx.y + 1) / gridDim.y;
    const unsigned base = shared_address(shared);

    Gradients gradients;
    {
        const int chunk = threadIdx.x % (TILE_M / 8), o = first_row + chunk * 8;
        gradients.present = o < p.out_channels;
        gradients.dy = static_cast<const T *>(p.dy) + o;
        gradients.target = base + ATile::at(threadIdx.x / (TILE_M / 8), chunk);
    }
    Windows windows;
    {
        const int chunk = threadIdx.x % (TILE_N / 8), column = first_column + chunk * 8;
        const int tap = column / p.channels;
        windows.present = column < length;
        windows.x = static_cast<const T *>(p.x) + (column - tap * p.channels);
        windows.tap_y = tap / p.kernel_width;
        windows.tap_x = tap - windows.tap_y * p.kernel_width - p.pad_left;
        windows.tap_y -= p.pad_top;
        windows.target = base + A_BYTES + BTile::at(threadIdx.x / (TILE_N / 8), chunk);
    }

    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int warp_m = warp / WARPS_N, warp_n = warp % WARPS_N;
    float sums[FRAGMENTS_M][FRAGMENTS_N][4] = {};
    // Row and chunk of this lane's address within a 16 x 16 piece; the swizzle depends on the row alone.
    const int a_row = (lane & 7) + (lane >> 4 << 3), a_chunk = warp_m * (WARP_M / 8) + (lane >> 3 & 1);
    const int b_row = lane & 15, b_chunk = warp_n * (WARP_N / 8) + (lane >> 4);
    int load_stage = 0, stage = 0;
    const auto next = [](int s) { return s == (STAGES - 1) * STAGE_BYTES ? 0 : s + STAGE_BYTES; };
    const int end = min(last * TILE_K, pixels);
    int pixel = first * TILE_K;
#pragma unroll
    for (int ahead = 0; ahead < STAGES - 1; ++ahead) {
        if (pixel < end) {
            gradients.load(load_stage, pixel, end, p.out_channels);
            windows.load(load_stage, pixel, end, p);
        }
        pixel += TILE_K;
        cp_async_commit();
        load_stage = next(load_stage);
    }
    for (int step = first; step < last; ++step) {
        cp_async_wait<STAGES - 2>();
        // Behind it the stage read in the step before may be overwritten.
        __syncthreads();
        if (pixel < end) {
            gradients.load(load_stage, pixel, end, p.out_channels);
            windows.load(load_stage, pixel, end, p);
        }
        pixel += TILE_K;
        cp_async_commit();
        load_stage = next(load_stage);
#pragma unroll
        for (int k = 0; k < TILE_K; k += 16) {
            unsigned b[FRAGMENTS_N / 2][4];
#pragma unroll
            for (int j = 0; j < FRAGMENTS_N / 2; ++j)
                ldmatrix_transposed(b[j], base + stage + A_BYTES + k * BTile::ROW_BYTES + BTile::at(b_row, b_chunk + 2 * j));
#pragma unroll
            for (int i = 0; i < FRAGMENTS_M; ++i) {
                unsigned a[4];
                ldmatrix_transposed(a, base + stage + k * ATile::ROW_BYTES + ATile::at(a_row, a_chunk + 2 * i));
#pragma unroll
                for (int j = 0; j < FRAGMENTS_N; ++j) mma<T>(sums[i][j], a, b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
            }
        }
        stage = next(stage);
    }
    cp_async_wait<0>();

    float *partial = p.partial + (size_t)blockIdx.y * p.out_channels * length;
#pragma unroll
    for (int i = 0; i < FRAGMENTS_M; ++i) {
#pragma unroll
        for (int j = 0; j < FRAGMENTS_N; ++j) {
            const int column = first_column + warp_n * WARP_N + j * 8 + (lane & 3) * 2;
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int o = first_row + warp_m * WARP_M + i * 16 + half * 8 + (lane >> 2);
                if (o < p.out_channels && column < length)
                    *reinterpret_cast<float2 *>(partial + (size_t)o * length + column) =
                        make_float2(sums[i][j][half * 2], sums[i][j][half * 2 + 1]);
            }
        }
    }
}

// dw[o, i, tap] = sum over splits, in their order, of partial[split][o, tap, i].
//
// Launch      grid (ceil(channels / 64), out_channels), block 256, no dynamic shared memory; at most 32 taps.
// Traffic     reads partial once, writes dw once, both in runs of at least 64 floats.
// Registers   <= 32
extern "C" __global__ void __launch_bounds__(256) conv2d_tensor_wgrad_sum(const Conv2dTensorWgradParams p) {
    __shared__ float sums[SUM_CHANNELS * SUM_TAPS];
    const int first = blockIdx.x * SUM_CHANNELS, count = min(SUM_CHANNELS, p.channels - first);
    const size_t row = (size_t)blockIdx.y * p.taps * p.channels;
    const size_t stride = (size_t)p.out_channels * p.taps * p.channels;
    for (int e = threadIdx.x; e < p.taps * SUM_CHANNELS; e += 256) {
        const int tap = e / SUM_CHANNELS, i = e % SUM_CHANNELS;
        if (i >= count) continue;
        const float *partial = p.partial + row + tap * p.channels + first + i;
        float sum = 0.0f;
        for (int split = 0; split < p.splits; ++split) sum += partial[split * stride];
        sums[i * p.taps + tap] = sum;
    }
    __syncthreads();
    float *dw = p.dw + row + (size_t)first * p.taps;
    for (int e = threadIdx.x; e < count * p.taps; e += 256) dw[e] = sums[e];
}
