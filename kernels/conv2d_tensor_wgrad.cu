// Gradient of a convolution's filter as GEMM over pixels on tensor cores:
//   dw[o, i, tap] = sum over pixels m of dy[m, o] x[window(m) + tap, i]
//
// Both operands lie in memory with the sum's index m outermost, so tiles are [pixel, channel] and ldmatrix transposes.
// The product's columns are ordered by group of 16 channels, then by tap, then by channel: 32 bytes of x are loaded
// together, and the columns of a tile of whole groups are consecutive elements of dw for each o.
//
// Shapes      x [batch, height, width, channels], dy [batch, out_height, out_width, out_channels] of T, both channel
//             counts multiples of 8; dw [out_channels, channels, TAPS] f32. Fewer than 2^31 elements each.
// Split-K     With gridDim.y > 1 each split sums a range of pixels and stores its sums in `partial`; the block that arrives
//             last at a tile adds the splits in order. The tile's counter in `arrived` starts at 0 and is 0 again afterwards.
// Overwrites  dw.
#include "common/types.cuh"
#include "common/mma.cuh"
#include "common/split_sums.cuh"
#include "common/tile.cuh"

struct Conv2dTensorWgradParams {
    const void *x;      // T [batch, height, width, channels]
    const void *dy;     // T [batch, out_height, out_width, out_channels]
    float *dw;          // f32 [out_channels, channels, TAPS]
    float *partial;     // with split-K: f32 [tile, split, TILE_M * TILE_N], aligned to 128 bytes
    unsigned *arrived;  // with split-K: [tile] counters, 0 between launches
    int batch;
    int height;  // of x, before the upsample
    int width;   // of x, before the upsample
    int channels;
    int out_height;
    int out_width;
    int out_channels;
    int kernel_width;
    int stride;
    int pad_top;
    int pad_left;
    int upsample;  // 1 if every pixel of x stands for 2 x 2
};

constexpr int WARPS = WARPS_M * WARPS_N;
constexpr int THREADS = 32 * WARPS;
constexpr int WARP_M = TILE_M / WARPS_M;
constexpr int WARP_N = TILE_N / WARPS_N;
constexpr int FRAGMENTS_M = WARP_M / 16;
constexpr int FRAGMENTS_N = WARP_N / 8;
constexpr int A_CHUNKS = TILE_M / 8;
constexpr int B_CHUNKS = TILE_N / 8;
constexpr int A_BYTES = TILE_M * TILE_K * 2;
constexpr int STAGE_BYTES = (TILE_M + TILE_N) * TILE_K * 2;
using ATile = Tile<A_CHUNKS>;
using BTile = Tile<B_CHUNKS>;
// Chunks that a thread copies in each step; the last of them may be copied by some threads only.
constexpr int A_COPIES = (A_CHUNKS * TILE_K + THREADS - 1) / THREADS;
constexpr int B_COPIES = (B_CHUNKS * TILE_K + THREADS - 1) / THREADS;
constexpr int GROUP = 16 * TAPS;
// A tile's columns are whole groups, so that a row of it is one run of dw.
constexpr bool WHOLE = TILE_N % GROUP == 0;
// Sums of 16 rows per warp are staged in shared memory, in dw's order where the tile's columns are whole groups. `shift`
// says where a row starts: the lanes' writes to eight rows then lie in different banks, and so do the end of a row and the
// start of the next.
constexpr int STAGING_PITCH = (TILE_N + 16 + 31) / 32 * 32;

// Rows of warps whose sums fit at once, and that are staged at once.
constexpr int ROOM = STAGES * STAGE_BYTES / (16 * STAGING_PITCH * 4);
constexpr int STAGED = ROOM >= WARPS_M ? WARPS_M : ROOM >= 4 ? 4 : ROOM >= 2 ? 2 : 1;

static_assert(WARP_M % 16 == 0 && WARP_N % 16 == 0, "ldmatrix.x4 takes 16 columns of A and 16 of B");
static_assert(TILE_K % 16 == 0 && STAGES >= 2, "pipeline");
static_assert(ROOM >= 1 && WARPS_M % STAGED == 0, "sums are staged where the operands were");

// The element of a filter [channels, TAPS] of dw that column n of the product is.
static __device__ __forceinline__ int element_of(int n) {
    const int group = n / GROUP, rest = n % GROUP;
    return (group * 16 + rest % 16) * TAPS + rest / 16;
}

// This block's tile: its first row and column. Computed again where it is used, as the block's number is.
struct TileOrigin {
    int row;
    int column;

    __device__ __forceinline__ TileOrigin(int channels) {
        const int tile = tile_of_block();
        const int columns = (channels + 15) / 16 * GROUP, tiles_n = (columns + TILE_N - 1) / TILE_N;
        row = tile / tiles_n * TILE_M;
        column = tile % tiles_n * TILE_N;
    }
};

// Where row r is staged, less r pitches: of eight rows one starts at each multiple of 8 and one right behind each.
static __device__ __forceinline__ int shift(int row) {
    return ((row & 1) * 16 + (row & 2) * 4) ^ (row & 4 ? 25 : 0);
}

// Copies TILE_K pixels of the tile's channels of dy.
struct Gradients {
    const T *dy;
    int channels;
    int first;
    unsigned shared;

    __device__ __forceinline__ void load(unsigned stage, int pixel, int end) const {
#pragma unroll
        for (int j = 0; j < A_COPIES; ++j) {
            const int e = threadIdx.x + j * THREADS, row = e / A_CHUNKS, chunk = e % A_CHUNKS;
            if ((j + 1) * THREADS > A_CHUNKS * TILE_K && row >= TILE_K) break;
            const int m = pixel + row, o = first + chunk * 8;
            cp_async_16(shared + stage + ATile::at(row, chunk), dy + m * channels + o, o < channels && m < end);
        }
    }
};

// Copies the pixels of x that the windows of TILE_K results have at the tile's taps, in the tile's channels.
struct Windows {
    // For each copy: the tap's row and column less the padding, and the first channel, which is beyond the last for columns
    // past the end.
    int top[B_COPIES];
    int left[B_COPIES];
    int channel[B_COPIES];
    unsigned shared;

    __device__ __forceinline__ void start(const Conv2dTensorWgradParams &p, int first, unsigned at) {
        shared = at;
#pragma unroll
        for (int j = 0; j < B_COPIES; ++j) {
            const int n = first + (threadIdx.x + j * THREADS) % B_CHUNKS * 8;
            const int group = n / GROUP, rest = n % GROUP, tap = rest / 16;
            channel[j] = group * 16 + rest % 16;
            top[j] = tap / p.kernel_width - p.pad_top;
            left[j] = tap % p.kernel_width - p.pad_left;
        }
    }

    __device__ __forceinline__ void load(unsigned stage, int pixel, int end, const Conv2dTensorWgradParams &p) const {
#pragma unroll
        for (int j = 0; j < B_COPIES; ++j) {
            const int e = threadIdx.x + j * THREADS, row = e / B_CHUNKS, chunk = e % B_CHUNKS;
            if ((j + 1) * THREADS > B_CHUNKS * TILE_K && row >= TILE_K) break;
            const int m = pixel + row;
            const int line = m / p.out_width, n = line / p.out_height;
            const int x = (m - line * p.out_width) * p.stride + left[j], y = (line - n * p.out_height) * p.stride + top[j];
            const bool inside = (unsigned)y < (unsigned)(p.height << p.upsample) &&
                                (unsigned)x < (unsigned)(p.width << p.upsample);
            const int at = ((n * p.height + (y >> p.upsample)) * p.width + (x >> p.upsample)) * p.channels + channel[j];
            cp_async_16(shared + stage + BTile::at(row, chunk), static_cast<const T *>(p.x) + at,
                        inside && channel[j] < p.channels && m < end);
        }
    }
};

// Launch      grid (ceil(out_channels / TILE_M) * ceil(columns / TILE_N), splits), columns = ceil(channels / 16) * 16 TAPS,
//             block 32 WARPS_M WARPS_N, shared STAGES * (TILE_M + TILE_N) * TILE_K * 2 bytes.
// Traffic     reads dy once per column of tiles and x once per row of tiles and tap, from DRAM the first time and then from
//             L2; writes dw once, in runs of TILE_N floats where the tile's columns are whole groups. Split-K moves
//             4 * splits * dw's elements to L2 and back, and discards them there before they go to memory.
// Registers   <= 200 (64 x 144; the tiles of 256 threads keep to 128 for two blocks per multiprocessor)
// Main loop   of 128 x 144 x 16, per warp and step: 18 HMMA.16816.F32, 10 LDSM.16.MT88.4, 3 LDGSTS.E.BYPASS.128, 1 BAR,
//             the rest of 190 for the pixels' places. Four warps of a sub-core fill its tensor unit for 2304 clocks and
//             issue for 760.
extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS) conv2d_tensor_wgrad(const Conv2dTensorWgradParams p) {
    extern __shared__ __align__(128) unsigned char shared[];
    const TileOrigin origin(p.channels);
    const int pixels = p.batch * p.out_height * p.out_width;
    const int steps = (pixels + TILE_K - 1) / TILE_K;
    const unsigned split = split_of_block();
    const int first = steps * split / gridDim.y, last = steps * (split + 1) / gridDim.y;
    const int end = min(last * TILE_K, pixels);
    const unsigned base = shared_address(shared);
    const Gradients gradients = {static_cast<const T *>(p.dy), p.out_channels, origin.row, base};
    Windows windows;
    windows.start(p, origin.column, base + A_BYTES);

    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int warp_m = warp / WARPS_N, warp_n = warp % WARPS_N;
    float sums[FRAGMENTS_M][FRAGMENTS_N][4] = {};
    // Row and chunk of this lane's address within a 16 x 16 fragment; the swizzle depends on the row alone.
    const int a_row = (lane & 7) + (lane >> 4 << 3), a_chunk = warp_m * (WARP_M / 8) + (lane >> 3 & 1);
    const int b_row = lane & 15, b_chunk = warp_n * (WARP_N / 8) + (lane >> 4);
    unsigned load_stage = 0, stage = 0;
    const auto next = [](unsigned s) { return s == (STAGES - 1) * STAGE_BYTES ? 0 : s + STAGE_BYTES; };
    int pixel = first * TILE_K;
#pragma unroll
    for (int ahead = 0; ahead < STAGES - 1; ++ahead) {
        if (pixel < end) {
            gradients.load(load_stage, pixel, end);
            windows.load(load_stage, pixel, end, p);
        }
        pixel += TILE_K;
        cp_async_commit();
        load_stage = next(load_stage);
    }
    for (int step = first; step < last; ++step) {
        cp_async_wait<STAGES - 2>();
        // Behind this barrier the stage that was read in the step before may be overwritten.
        __syncthreads();
        if (pixel < end) {
            gradients.load(load_stage, pixel, end);
            windows.load(load_stage, pixel, end, p);
        }
        pixel += TILE_K;
        cp_async_commit();
        load_stage = next(load_stage);
#pragma unroll
        for (int k = 0; k < TILE_K; k += 16) {
            unsigned a[FRAGMENTS_M][4];
#pragma unroll
            for (int i = 0; i < FRAGMENTS_M; ++i)
                ldmatrix_transposed(a[i], base + stage + k * ATile::ROW_BYTES + ATile::at(a_row, a_chunk + 2 * i));
#pragma unroll
            for (int j = 0; j < FRAGMENTS_N; j += 2) {
                unsigned b[4];
                ldmatrix_transposed(b, base + stage + A_BYTES + k * BTile::ROW_BYTES + BTile::at(b_row, b_chunk + j));
#pragma unroll
                for (int i = 0; i < FRAGMENTS_M; ++i) {
                    mma<T>(sums[i][j], a[i], b[0], b[1]);
                    mma<T>(sums[i][j + 1], a[i], b[2], b[3]);
                }
            }
        }
        stage = next(stage);
    }
    cp_async_wait<0>();
    if (gridDim.y > 1) {
        // Others may still read the stages.
        __syncthreads();
        if (!combine<THREADS>(sums, p.partial, p.arrived, shared)) return;
    }

    float *staging = reinterpret_cast<float *>(shared);
    const TileOrigin to_origin(p.channels);
    const int length = p.channels * TAPS;
#pragma unroll
    for (int i = 0; i < FRAGMENTS_M; ++i) {
        for (int first_warp = 0; first_warp < WARPS_M; first_warp += STAGED) {
            __syncthreads();
            if (warp_m / STAGED * STAGED == first_warp) {
#pragma unroll
                for (int j = 0; j < FRAGMENTS_N; ++j) {
                    const int row = warp_m % STAGED * 16 + (lane >> 2), column = warp_n * WARP_N + j * 8 + (lane & 3) * 2;
                    float *to = staging + row * STAGING_PITCH + shift(row) + (WHOLE ? element_of(column) : column);
#pragma unroll
                    for (int e = 0; e < 4; ++e) to[(e >> 1) * 8 * STAGING_PITCH + (e & 1) * (WHOLE ? TAPS : 1)] = sums[i][j][e];
                }
            }
            __syncthreads();
            for (int e = threadIdx.x; e < 16 * STAGED * TILE_N; e += THREADS) {
                const int row = e / TILE_N, n = e % TILE_N;
                const int o = to_origin.row + (first_warp + row / 16) * WARP_M + i * 16 + row % 16;
                const int at = WHOLE ? to_origin.column + n : element_of(to_origin.column + n);
                if (o < p.out_channels && at < length)
                    p.dw[(size_t)o * length + at] = staging[row * STAGING_PITCH + shift(row) + n];
            }
        }
    }
    if (gridDim.y > 1) discard_splits<TILE_M * TILE_N>(p.partial);
}
