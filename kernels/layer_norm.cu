// Layer normalisation over rows of C channels and its gradients. Each kernel recomputes the statistics from x:
// x̂ = (x - mean) rstd with rstd = 1 / sqrt(variance + eps), the biased variance taken about the mean.
//
// A warp takes a row: lane l sums vectors l, l + 32, ... of V channels in that order, then a butterfly adds the lanes. A row
// is read several times; after the first time it comes from the L1 cache.
#include "common/reduce.cuh"
#include "common/types.cuh"
#include "common/channel_tile.cuh"

// Mean and rstd of a row.
__device__ __forceinline__ float2 row_moments(const T *x, int channels, float eps) {
    const int first = (threadIdx.x & 31) * V;
    float sum = 0.0f;
    for (int c = first; c < channels; c += 32 * V) {
        float value[V];
        load_floats<V>(x + c, value);
#pragma unroll
        for (int v = 0; v < V; ++v) sum += value[v];
    }
    const float mean = warp_sum(sum) / channels;
    float squares = 0.0f;
    for (int c = first; c < channels; c += 32 * V) {
        float value[V];
        load_floats<V>(x + c, value);
#pragma unroll
        for (int v = 0; v < V; ++v) squares = fmaf(value[v] - mean, value[v] - mean, squares);
    }
    return make_float2(mean, 1.0f / sqrtf(warp_sum(squares) / channels + eps));
}

// y = gamma x̂ + beta.
//
// Shapes      x, y [rows,C] of T, y may be the memory of x; gamma, beta [C] of f32.
// Launch      grid ceil(rows / 8), block 256; no shared memory.
// Traffic     reads x once from memory, writes y. Overwrites.
// Takes       any rows; V divides C.
// Registers <= 40
struct LayerNormParams {
    const void *x;
    const float *gamma;
    const float *beta;
    void *y;
    int rows;
    int channels;
    float eps;
};

extern "C" __global__ void __launch_bounds__(256) layer_norm(const LayerNormParams p) {
    const int row = blockIdx.x * 8 + (threadIdx.x >> 5);
    if (row >= p.rows) return;
    const T *x = static_cast<const T *>(p.x) + static_cast<long long>(row) * p.channels;
    T *y = static_cast<T *>(p.y) + static_cast<long long>(row) * p.channels;
    const float2 moments = row_moments(x, p.channels, p.eps);
    for (int c = (threadIdx.x & 31) * V; c < p.channels; c += 32 * V) {
        float value[V], gamma[V], beta[V];
        load_floats<V>(x + c, value);
        load_channels<V>(p.gamma + c, gamma);
        load_channels<V>(p.beta + c, beta);
#pragma unroll
        for (int v = 0; v < V; ++v) value[v] = fmaf((value[v] - moments.x) * moments.y, gamma[v], beta[v]);
        store_floats<V>(y + c, value);
    }
}

// dx = rstd (d - mean(d) - x̂ mean(d x̂)) with d = gamma dy.
//
// Shapes      x, dy, dx [rows,C] of T; gamma [C] of f32.
// Launch      grid ceil(rows / 8), block 256; no shared memory.
// Traffic     reads x and dy once from memory, writes dx. Overwrites.
// Takes       any rows; V divides C.
// Registers <= 64
struct LayerNormInputGradParams {
    const void *x;
    const float *gamma;
    const void *dy;
    void *dx;
    int rows;
    int channels;
    float eps;
};

extern "C" __global__ void __launch_bounds__(256) layer_norm_input_grad(const LayerNormInputGradParams p) {
    const int row = blockIdx.x * 8 + (threadIdx.x >> 5);
    if (row >= p.rows) return;
    const long long start = static_cast<long long>(row) * p.channels;
    const T *x = static_cast<const T *>(p.x) + start;
    const T *dy = static_cast<const T *>(p.dy) + start;
    T *dx = static_cast<T *>(p.dx) + start;
    const float2 moments = row_moments(x, p.channels, p.eps);
    const int first = (threadIdx.x & 31) * V;
    float plain = 0.0f, scaled = 0.0f;
    for (int c = first; c < p.channels; c += 32 * V) {
        float value[V], d[V], gamma[V];
        load_floats<V>(x + c, value);
        load_floats<V>(dy + c, d);
        load_channels<V>(p.gamma + c, gamma);
#pragma unroll
        for (int v = 0; v < V; ++v) {
            plain = fmaf(gamma[v], d[v], plain);
            scaled = fmaf(gamma[v] * d[v], (value[v] - moments.x) * moments.y, scaled);
        }
    }
    plain = warp_sum(plain) / p.channels;
    scaled = warp_sum(scaled) / p.channels;
    for (int c = first; c < p.channels; c += 32 * V) {
        float value[V], d[V], gamma[V];
        load_floats<V>(x + c, value);
        load_floats<V>(dy + c, d);
        load_channels<V>(p.gamma + c, gamma);
#pragma unroll
        for (int v = 0; v < V; ++v) {
            const float hat = (value[v] - moments.x) * moments.y;
            value[v] = moments.y * (fmaf(gamma[v], d[v], -plain) - hat * scaled);
        }
        store_floats<V>(dx + c, value);
    }
}

// moments[row] = mean and rstd, for layer_norm_param_grad.
//
// Shapes      x [rows,C] of T, moments [rows][2] of f32.
// Launch      grid ceil(rows / 8), block 256; no shared memory.
// Traffic     reads x once from memory, writes 8 rows bytes. Overwrites.
// Takes       any rows; V divides C.
// Registers <= 40
struct LayerNormMomentsParams {
    const void *x;
    float *moments;
    int rows;
    int channels;
    float eps;
};

extern "C" __global__ void __launch_bounds__(256) layer_norm_moments(const LayerNormMomentsParams p) {
    const int row = blockIdx.x * 8 + (threadIdx.x >> 5);
    if (row >= p.rows) return;
    const T *x = static_cast<const T *>(p.x) + static_cast<long long>(row) * p.channels;
    const float2 moments = row_moments(x, p.channels, p.eps);
    if ((threadIdx.x & 31) == 0) reinterpret_cast<float2 *>(p.moments)[row] = moments;
}

// sums[c] = sum_rows dy x̂ over the slab's rows.
//
// Shapes      x, dy [rows,C] of T, moments [rows][2] of f32, sums [slabs][C] of f32 (see partial_sums).
// Launch      grid (tiles, slabs), block columns lanes rounded up to 32, at most 256; columns a power of two of at most
//             32; 8 KiB of static shared memory.
// Traffic     reads x, dy and moments once, writes 4 slabs C bytes. Overwrites.
// Order       a thread sums its rows, then lanes as in sum_lanes.
// Takes       any rows; V divides C.
// Registers <= 64
struct LayerNormParamGradParams {
    const void *x;
    const void *dy;
    const float *moments;
    float *sums;
    int rows;
    int channels;
    // How the tiles cut x: see ChannelTile.
    int columns;
    int lanes;
    int slab;  // rows
};

extern "C" __global__ void __launch_bounds__(256) layer_norm_param_grad(const LayerNormParamGradParams p) {
    __shared__ float scratch[1][8][32 * V];
    const ChannelTile tile(p.columns, p.lanes, p.columns, 1, p.slab, p.channels / V, p.rows);
    float sums[1][V];
#pragma unroll
    for (int v = 0; v < V; ++v) sums[0][v] = 0.0f;
    if (tile.active) {
        const T *x = static_cast<const T *>(p.x) + tile.column * V;
        const T *dy = static_cast<const T *>(p.dy) + tile.column * V;
#pragma unroll 2
        for (int row = tile.begin + tile.lane; row < tile.end; row += p.lanes) {
            const long long at = static_cast<long long>(row) * p.channels;
            const float2 moments = reinterpret_cast<const float2 *>(p.moments)[row];
            float value[V], d[V];
            load_floats<V>(x + at, value);
            load_floats<V>(dy + at, d);
#pragma unroll
            for (int v = 0; v < V; ++v) sums[0][v] = fmaf(d[v], (value[v] - moments.x) * moments.y, sums[0][v]);
        }
    }
    const int first = blockIdx.x * p.columns * V;
    sum_lanes(sums, p.columns, scratch, [&](int, int c, float sum) {
        if (first + c < p.channels) p.sums[static_cast<long long>(blockIdx.y) * p.channels + first + c] = sum;
    });
}
