// Softmax over rows of C numbers, and its gradient.
//
// A warp takes a row: lane l sums vectors l, l + 32, ... of V numbers in that order, then a butterfly adds the lanes. A row
// is read several times; after the first time it comes from the L1 cache.
#include "common/reduce.cuh"
#include "common/types.cuh"

// y_i = exp(x_i - max) / sum_j exp(x_j - max). The maximum ignores NaN; the sum does not.
//
// Shapes      x, y [rows,C] of T; y may be the memory of x.
// Launch      grid ceil(rows / 8), block 256; no shared memory.
// Traffic     reads x once from memory, writes y. Overwrites.
// Takes       any rows; V divides C.
// Registers <= 40
struct SoftmaxParams {
    const void *x;
    void *y;
    int rows;
    int channels;
};

extern "C" __global__ void __launch_bounds__(256) softmax(const SoftmaxParams p) {
    const int row = blockIdx.x * 8 + (threadIdx.x >> 5), first = (threadIdx.x & 31) * V;
    if (row >= p.rows) return;
    const T *x = static_cast<const T *>(p.x) + static_cast<long long>(row) * p.channels;
    T *y = static_cast<T *>(p.y) + static_cast<long long>(row) * p.channels;
    float largest = __uint_as_float(0xff800000u);
    for (int c = first; c < p.channels; c += 32 * V) {
        float value[V];
        load_floats<V>(x + c, value);
#pragma unroll
        for (int v = 0; v < V; ++v) largest = fmaxf(largest, value[v]);
    }
    largest = warp_max(largest);
    float sum = 0.0f;
    for (int c = first; c < p.channels; c += 32 * V) {
        float value[V];
        load_floats<V>(x + c, value);
#pragma unroll
        for (int v = 0; v < V; ++v) sum += __expf(value[v] - largest);
    }
    const float share = 1.0f / warp_sum(sum);
    for (int c = first; c < p.channels; c += 32 * V) {
        float value[V];
        load_floats<V>(x + c, value);
#pragma unroll
        for (int v = 0; v < V; ++v) value[v] = __expf(value[v] - largest) * share;
        store_floats<V>(y + c, value);
    }
}

// dx_i = y_i (dy_i - sum_j y_j dy_j).
//
// Shapes      y, dy, dx [rows,C] of T.
// Launch      grid ceil(rows / 8), block 256; no shared memory.
// Traffic     reads y and dy once from memory, writes dx. Overwrites.
// Takes       any rows; V divides C.
// Registers <= 48
struct SoftmaxGradParams {
    const void *y;
    const void *dy;
    void *dx;
    int rows;
    int channels;
};

extern "C" __global__ void __launch_bounds__(256) softmax_grad(const SoftmaxGradParams p) {
    const int row = blockIdx.x * 8 + (threadIdx.x >> 5), first = (threadIdx.x & 31) * V;
    if (row >= p.rows) return;
    const long long start = static_cast<long long>(row) * p.channels;
    const T *y = static_cast<const T *>(p.y) + start;
    const T *dy = static_cast<const T *>(p.dy) + start;
    T *dx = static_cast<T *>(p.dx) + start;
    float sum = 0.0f;
    for (int c = first; c < p.channels; c += 32 * V) {
        float value[V], d[V];
        load_floats<V>(y + c, value);
        load_floats<V>(dy + c, d);
#pragma unroll
        for (int v = 0; v < V; ++v) sum = fmaf(value[v], d[v], sum);
    }
    sum = warp_sum(sum);
    for (int c = first; c < p.channels; c += 32 * V) {
        float value[V], d[V];
        load_floats<V>(y + c, value);
        load_floats<V>(dy + c, d);
#pragma unroll
        for (int v = 0; v < V; ++v) d[v] = value[v] * (d[v] - sum);
        store_floats<V>(dx + c, d);
    }
}
