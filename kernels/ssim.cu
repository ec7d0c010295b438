// Structural similarity of two image batches and its gradient with respect to the first.
//
// Windows are separable: a tile of pixels in shared memory is summed down its columns, then along its rows. Compiled with
// -DVERTICAL and -DHORIZONTAL, the taps along both axes: 11, or 1 where the axis is shorter than the window.
//
// Variances are computed in f32. Plain second moments of numbers near 1 would lose the variance of a smooth image, so the
// tile's mean is subtracted first, and the difference of two nearly equal images is summed itself. With d = a - b,
// e = mean d and v = var d the similarity is
//
//     S = r1 r2,   r1 = 1 - e² / den1,   r2 = 1 - v / den2,   den1 = ma² + mb² + C1,   den2 = va + vb + C2,
//
// because 2 ma mb = ma² + mb² - e² and 2 cov = va + vb - v. Its derivative at pixel i under weight w is
//
//     w (M + a_i R - d_i P),   P = 2 r1 / den2,   R = 2 r1 v / den2²,   M = 2 r2 (ma e² / den1 - e) / den1 - ma R + e P
//
// where a_i, d_i, ma and e may have the tile's means subtracted. No term is larger than its contribution.
#include "common/reduce.cuh"
#include "common/sums.cuh"

constexpr float C1 = 0.01f * 0.01f;
constexpr float C2 = 0.03f * 0.03f;
constexpr int THREADS = 256;
// Windows of a forward tile, and pixels of a backward tile.
constexpr int FORWARD_ROWS = 16;
constexpr int FORWARD_COLUMNS = 32;
constexpr int BACKWARD_EDGE = 16;
// Means of a, d, a² + b² and d².
constexpr int MOMENTS = 4;
// A window of one pixel has no variance, and the terms of its derivative cancel; 1 / C2 would magnify their rounding.
constexpr bool WIDE = VERTICAL * HORIZONTAL > 1;

struct SsimParams {
    const float *a;
    const float *b;
    double *partials;  // [N, C, tiles of the forward kernel]
    float *y;          // Result of ssim_mean, [N].
    const float *dy;   // [N]
    float *dx;         // Result of ssim_grad, as a.
    int height;
    int width;
    int channels;
    int tiles;         // Forward tiles of a channel.
    int metric;        // 1: without clamping and cutting.
    float vertical[11];
    float horizontal[11];
};

static __device__ __forceinline__ float mapped(float x, bool clamp) {
    x = (x + 1.0f) / 2.0f;
    // Comparisons, so that NaN stays NaN.
    if (clamp && x < 0.0f) return 0.0f;
    if (clamp && x > 1.0f) return 1.0f;
    return x;
}

// A tile of one channel: a and a - b, less their means over the tile; 0 outside the image.
template <int ROWS, int COLUMNS> struct PixelTile {
    float a[ROWS][COLUMNS];
    float d[ROWS][COLUMNS];

    __device__ void load(const SsimParams &p, int n, int c, int y0, int x0, float &mean_a, float &mean_d, float *scratch) {
        const bool clamp = !p.metric;
        float sum_a = 0.0f, sum_d = 0.0f;
        for (int i = threadIdx.x; i < ROWS * COLUMNS; i += THREADS) {
            const int row = i / COLUMNS, column = i % COLUMNS;
            const int y = y0 + row, x = x0 + column;
            float va = 0.0f, vd = 0.0f;
            if (y >= 0 && y < p.height && x >= 0 && x < p.width) {
                const long long at = (((long long)n * p.height + y) * p.width + x) * p.channels + c;
                va = mapped(p.a[at], clamp);
                vd = va - mapped(p.b[at], false);
            }
            a[row][column] = va;
            d[row][column] = vd;
            sum_a += va;
            sum_d += vd;
        }
        const int rows = min(p.height, y0 + ROWS) - max(0, y0);
        const int columns = min(p.width, x0 + COLUMNS) - max(0, x0);
        const float inverse = 1.0f / (rows * columns);
        mean_a = block_sum(sum_a, scratch) * inverse;
        mean_d = block_sum(sum_d, scratch) * inverse;
        // No window of the image holds a pixel outside, so its value does not matter.
        for (int i = threadIdx.x; i < ROWS * COLUMNS; i += THREADS) {
            a[i / COLUMNS][i % COLUMNS] -= mean_a;
            d[i / COLUMNS][i % COLUMNS] -= mean_d;
        }
        __syncthreads();
    }
};

// Sums of the tile down windows of VERTICAL rows; ROWS is the number of window rows.
template <int ROWS, int COLUMNS>
static __device__ __forceinline__ void sum_columns(const SsimParams &p, const PixelTile<ROWS + VERTICAL - 1, COLUMNS> &tile,
                                                   float (&columns)[MOMENTS][ROWS][COLUMNS]) {
    for (int i = threadIdx.x; i < ROWS * COLUMNS; i += THREADS) {
        const int row = i / COLUMNS, column = i % COLUMNS;
        float m0 = 0.0f, m1 = 0.0f, m2 = 0.0f, m3 = 0.0f;
#pragma unroll
        for (int k = 0; k < VERTICAL; ++k) {
            const float w = p.vertical[k];
            const float a = tile.a[row + k][column], d = tile.d[row + k][column];
            const float b = a - d;
            m0 += w * a;
            m1 += w * d;
            m2 += w * (a * a + b * b);
            m3 += w * (d * d);
        }
        columns[0][row][column] = m0;
        columns[1][row][column] = m1;
        columns[2][row][column] = m2;
        columns[3][row][column] = m3;
    }
    __syncthreads();
}

// A window's similarity and what its gradient needs, from the window's moments. `a` and `e` are less the tile's means.
struct Similarity {
    float a, e;
    float ma, difference, r1, r2, v, den1, den2;

    template <int ROWS, int COLUMNS>
    __device__ Similarity(const SsimParams &p, const float (&columns)[MOMENTS][ROWS][COLUMNS], int row, int column,
                          float mean_a, float mean_d) {
        float m[MOMENTS] = {};
#pragma unroll
        for (int k = 0; k < HORIZONTAL; ++k) {
            const float w = p.horizontal[k];
#pragma unroll
            for (int i = 0; i < MOMENTS; ++i) m[i] += w * columns[i][row][column + k];
        }
        a = m[0];
        e = m[1];
        const float b = a - e;
        ma = mean_a + a;
        difference = mean_d + e;
        const float mb = ma - difference;
        v = WIDE ? m[3] - e * e : 0.0f;
        den1 = ma * ma + mb * mb + C1;
        den2 = (WIDE ? m[2] - a * a - b * b : 0.0f) + C2;
        r1 = 1.0f - difference * difference / den1;
        r2 = 1.0f - v / den2;
    }
};

// partials[n, c, tile] = sum of the similarity over the windows of a tile
//
// Shapes      a, b: [N, height, width, channels] f32.
// Launch      grid (channels tiles, N), tiles = ceil(window rows / 16) ceil(window columns / 32), channels fastest, so
//             that the blocks that share sectors run together; block 256; shared 19.4 KiB at most, static.
// Traffic     reads 8 N height width channels bytes, and 2.1 times that from the cache for the borders of tiles.
// Order       a thread's windows in f32, then lanes and warps by halves in f64.
// Takes       any extents, N below 65536.
// Registers <= 64
extern "C" __global__ void __launch_bounds__(THREADS) ssim_partial(const SsimParams p) {
    constexpr int COLUMNS = FORWARD_COLUMNS + HORIZONTAL - 1;
    __shared__ PixelTile<FORWARD_ROWS + VERTICAL - 1, COLUMNS> tile;
    __shared__ float columns[MOMENTS][FORWARD_ROWS][COLUMNS];
    __shared__ float scratch[32];
    __shared__ double wide[32];
    const int c = blockIdx.x % p.channels, index = blockIdx.x / p.channels;
    const int rows = p.height + 1 - VERTICAL, width = p.width + 1 - HORIZONTAL;
    const int across = (width + FORWARD_COLUMNS - 1) / FORWARD_COLUMNS;
    const int y0 = index / across * FORWARD_ROWS, x0 = index % across * FORWARD_COLUMNS;
    float mean_a, mean_d;
    tile.load(p, blockIdx.y, c, y0, x0, mean_a, mean_d, scratch);
    sum_columns<FORWARD_ROWS, COLUMNS>(p, tile, columns);
    float sum = 0.0f;
    for (int i = threadIdx.x; i < FORWARD_ROWS * FORWARD_COLUMNS; i += THREADS) {
        const int row = i / FORWARD_COLUMNS, column = i % FORWARD_COLUMNS;
        if (y0 + row >= rows || x0 + column >= width) continue;
        const Similarity s(p, columns, row, column, mean_a, mean_d);
        sum += s.r1 * s.r2;
    }
    const double total = block_sum((double)sum, wide);
    if (threadIdx.x == 0) p.partials[((long long)blockIdx.y * p.channels + c) * p.tiles + index] = total;
}

// Mean similarity of a channel from its tiles, returned to the whole block.
static __device__ __forceinline__ double channel_mean(const SsimParams &p, int n, int c, double *scratch) {
    const double *partials = p.partials + ((long long)n * p.channels + c) * p.tiles;
    double sum = 0.0;
    for (int i = threadIdx.x; i < p.tiles; i += THREADS) sum += partials[i];
    const double windows = (double)(p.height + 1 - VERTICAL) * (p.width + 1 - HORIZONTAL);
    return block_sum(sum, scratch) / windows;
}

// y[n] = mean over channels of the mean similarity, cut at 0 from below unless `metric`
//
// Launch      grid N, block 256.
// Traffic     reads 8 N channels tiles bytes; overwrites y.
// Order       thread t adds tiles t, t + 256, …; lanes and warps by halves; channels in order; all in f64.
// Registers <= 40
extern "C" __global__ void __launch_bounds__(THREADS) ssim_mean(const SsimParams p) {
    __shared__ double scratch[32];
    double sum = 0.0;
    for (int c = 0; c < p.channels; ++c) {
        const double mean = channel_mean(p, blockIdx.x, c, scratch);
        sum += !p.metric && mean < 0.0 ? 0.0 : mean;
    }
    if (threadIdx.x == 0) p.y[blockIdx.x] = (float)(sum / p.channels);
}

// dx = dy[n] times the derivative of y[n], for a tile of 16 x 16 pixels: the moments of the windows that hold its pixels,
// their derivatives, and the sums of these back down the columns and along the rows. Reads `partials` unless `metric`: a
// channel that the loss cuts at 0 has no gradient.
//
// Shapes      a, b, dx: [N, height, width, channels] f32.
// Launch      grid (channels tiles, N), tiles = ceil(height / 16) ceil(width / 16), channels fastest; block 256;
//             shared 33.1 KiB at most, static: two blocks per multiprocessor.
// Traffic     reads 8 N height width channels bytes, and 5.1 times that from the cache for the borders of tiles; writes
//             4 N height width channels; overwrites dx.
// Order       taps in order, in f32.
// Takes       any extents, N below 65536.
// Registers <= 64
extern "C" __global__ void __launch_bounds__(THREADS) ssim_grad(const SsimParams p) {
    constexpr int ROWS = BACKWARD_EDGE + VERTICAL - 1, COLUMNS = BACKWARD_EDGE + HORIZONTAL - 1;
    constexpr int TILE_COLUMNS = COLUMNS + HORIZONTAL - 1;
    __shared__ PixelTile<ROWS + VERTICAL - 1, TILE_COLUMNS> tile;
    __shared__ union {
        float moments[MOMENTS][ROWS][TILE_COLUMNS];
        float spread[3][BACKWARD_EDGE][COLUMNS];
    } columns;
    __shared__ float maps[3][ROWS][COLUMNS];
    __shared__ float scratch[32];
    __shared__ double wide[32];
    const int n = blockIdx.y, c = blockIdx.x % p.channels, index = blockIdx.x / p.channels;
    const int across = (p.width + BACKWARD_EDGE - 1) / BACKWARD_EDGE;
    const int y0 = index / across * BACKWARD_EDGE, x0 = index % across * BACKWARD_EDGE;
    const int rows = p.height + 1 - VERTICAL, width = p.width + 1 - HORIZONTAL;
    // The first window that holds a pixel of the tile, and so the first pixel.
    const int first_y = y0 - (VERTICAL - 1), first_x = x0 - (HORIZONTAL - 1);

    float scale = 0.5f * p.dy[n] / ((float)p.channels * rows * width);
    if (!p.metric && channel_mean(p, n, c, wide) <= 0.0) scale = 0.0f;

    float mean_a, mean_d;
    tile.load(p, n, c, first_y, first_x, mean_a, mean_d, scratch);
    sum_columns<ROWS, TILE_COLUMNS>(p, tile, columns.moments);
    for (int i = threadIdx.x; i < ROWS * COLUMNS; i += THREADS) {
        const int row = i / COLUMNS, column = i % COLUMNS;
        const int y = first_y + row, x = first_x + column;
        float m = 0.0f, r = 0.0f, by_difference = 0.0f;
        if (y >= 0 && y < rows && x >= 0 && x < width) {
            const Similarity s(p, columns.moments, row, column, mean_a, mean_d);
            if (WIDE) by_difference = 2.0f * s.r1 / s.den2;
            r = by_difference * s.v / s.den2;
            const float mean = 2.0f * s.r2 * (s.ma * s.difference / s.den1 - 1.0f) * s.difference / s.den1;
            m = mean - s.a * r + s.e * by_difference;
        }
        maps[0][row][column] = m;
        maps[1][row][column] = r;
        maps[2][row][column] = by_difference;
    }
    __syncthreads();
    // Pixel y is seen by windows y - k with weight k.
    for (int i = threadIdx.x; i < BACKWARD_EDGE * COLUMNS; i += THREADS) {
        const int row = i / COLUMNS, column = i % COLUMNS;
        float sums[3] = {};
#pragma unroll
        for (int k = 0; k < VERTICAL; ++k)
#pragma unroll
            for (int j = 0; j < 3; ++j) sums[j] += p.vertical[k] * maps[j][row + VERTICAL - 1 - k][column];
#pragma unroll
        for (int j = 0; j < 3; ++j) columns.spread[j][row][column] = sums[j];
    }
    __syncthreads();
    const int row = threadIdx.x / BACKWARD_EDGE, column = threadIdx.x % BACKWARD_EDGE;
    const int y = y0 + row, x = x0 + column;
    if (y >= p.height || x >= p.width) return;
    float sums[3] = {};
#pragma unroll
    for (int k = 0; k < HORIZONTAL; ++k)
#pragma unroll
        for (int j = 0; j < 3; ++j) sums[j] += p.horizontal[k] * columns.spread[j][row][column + HORIZONTAL - 1 - k];
    const long long at = (((long long)n * p.height + y) * p.width + x) * p.channels + c;
    const float a = tile.a[row + VERTICAL - 1][column + HORIZONTAL - 1];
    const float d = tile.d[row + VERTICAL - 1][column + HORIZONTAL - 1];
    const bool outside = !p.metric && fabsf(p.a[at]) > 1.0f;
    p.dx[at] = outside ? 0.0f : scale * (sums[0] + a * sums[1] - d * sums[2]);
}
