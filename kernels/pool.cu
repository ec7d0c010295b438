// Averages and maxima over windows of an image, and their gradients; T (-DT) is the type of all arrays, sums are f32.
//
// Windows     `kernel` pixels along each axis, `stride` apart, the first one `padding` before the image, cut to the image.
//             With kernel 0, the regions floor(o H / OH) to ceil((o + 1) H / OH), which cover the image.
// Shapes      image [N,H,W,C], result [N,OH,OW,C], NHWC, densely packed, aligned to 16 bytes.
// Launch      one thread for V elements of the array that is written: grid ceil(elements / (256 V)), block 256, no shared
//             memory. V is 16 / sizeof(T) where it divides C, else 1 (the entries that end in `_any`).
// Traffic     reads its operands once from DRAM, and again from L1 where windows overlap; writes once, overwriting.
// Order       windows, and pixels in a window, row by row: results repeat to the bit.
// Takes       below 2^32 elements; H OH and W OW too.
// Registers <= 64
#include "common/types.cuh"

struct PoolParams {
    const void *x;   // the image; null for the gradient of an average
    const void *dy;  // the gradient of the result; null without one
    void *y;         // the result, or the gradient of the image
    unsigned batch;
    unsigned height;  // of the image
    unsigned width;
    unsigned out_height;  // of the result
    unsigned out_width;
    unsigned channels;  // accesses of V elements per pixel
    unsigned kernel;    // side of a window; 0 for regions
    unsigned stride;
    unsigned padding;
    int count_padding;  // 1: the divisor is kernel^2 even where a window is cut
};

struct Span {
    unsigned begin;
    unsigned end;
};

// The pixels of window `o`.
static __device__ __forceinline__ Span window(const PoolParams &p, unsigned o, unsigned length, unsigned windows) {
    if (p.kernel == 0) return {o * length / windows, ((o + 1) * length + windows - 1) / windows};
    const unsigned start = o * p.stride;
    return {start > p.padding ? start - p.padding : 0, min(start + p.kernel - p.padding, length)};
}

// The windows that hold pixel `i`.
static __device__ __forceinline__ Span windows_of(const PoolParams &p, unsigned i, unsigned length, unsigned windows) {
    if (p.kernel == 0) return {i * windows / length, ((i + 1) * windows + length - 1) / length};
    const unsigned at = i + p.padding;
    return {at >= p.kernel ? (at - p.kernel) / p.stride + 1 : 0, min(at / p.stride + 1, windows)};
}

static __device__ __forceinline__ float divisor(const PoolParams &p, Span rows, Span columns) {
    return p.count_padding ? (float)(p.kernel * p.kernel) : (float)((rows.end - rows.begin) * (columns.end - columns.begin));
}

struct PixelIndex {
    unsigned n;
    unsigned row;
    unsigned column;
    unsigned channel;
};

// Coordinates of access `flat` of an array [N,height,width,channels].
static __device__ __forceinline__ PixelIndex place(unsigned flat, unsigned height, unsigned width, unsigned channels) {
    const unsigned pixel = flat / channels, line = pixel / width;
    return {line / height, line % height, pixel - line * width, flat - pixel * channels};
}

template <int N> static __device__ __forceinline__ void load(const void *x, unsigned row, unsigned width, unsigned column, unsigned channels, unsigned channel, float (&v)[N]) {
    const unsigned long long at = (unsigned long long)(row * width + column) * channels + channel;
    load_floats<N>(static_cast<const T *>(x) + at * N, v);
}

// y[n,o,q,c] = sum over the window of x / divisor
template <int N> static __device__ __forceinline__ void average(const PoolParams &p) {
    const unsigned long long flat = blockIdx.x * 256ull + threadIdx.x;
    if (flat >= (unsigned long long)p.batch * p.out_height * p.out_width * p.channels) return;
    const PixelIndex at = place((unsigned)flat, p.out_height, p.out_width, p.channels);
    const Span rows = window(p, at.row, p.height, p.out_height), columns = window(p, at.column, p.width, p.out_width);
    float sum[N] = {};
    for (unsigned i = rows.begin; i < rows.end; ++i) {
        for (unsigned j = columns.begin; j < columns.end; ++j) {
            float v[N];
            load<N>(p.x, at.n * p.height + i, p.width, j, p.channels, at.channel, v);
#pragma unroll
            for (int k = 0; k < N; ++k) sum[k] += v[k];
        }
    }
    const float count = divisor(p, rows, columns);
#pragma unroll
    for (int k = 0; k < N; ++k) sum[k] /= count;
    store_floats<N>(static_cast<T *>(p.y) + flat * N, sum);
}

// dx[n,i,j,c] = sum over the windows that hold the pixel of dy / divisor
template <int N> static __device__ __forceinline__ void average_grad(const PoolParams &p) {
    const unsigned long long flat = blockIdx.x * 256ull + threadIdx.x;
    if (flat >= (unsigned long long)p.batch * p.height * p.width * p.channels) return;
    const PixelIndex at = place((unsigned)flat, p.height, p.width, p.channels);
    const Span os = windows_of(p, at.row, p.height, p.out_height), qs = windows_of(p, at.column, p.width, p.out_width);
    float sum[N] = {};
    for (unsigned o = os.begin; o < os.end; ++o) {
        const Span rows = window(p, o, p.height, p.out_height);
        for (unsigned q = qs.begin; q < qs.end; ++q) {
            const float count = divisor(p, rows, window(p, q, p.width, p.out_width));
            float v[N];
            load<N>(p.dy, at.n * p.out_height + o, p.out_width, q, p.channels, at.channel, v);
#pragma unroll
            for (int k = 0; k < N; ++k) sum[k] += v[k] / count;
        }
    }
    store_floats<N>(static_cast<T *>(p.y) + flat * N, sum);
}

// Whether `a` wins over `b`, which stands before it: the first largest number wins, and NaN wins over all numbers.
static __device__ __forceinline__ bool wins(float a, float b) { return a > b || (a != a && b == b); }

// y[n,o,q,c] = maximum over the window of x
template <int N> static __device__ __forceinline__ void maximum(const PoolParams &p) {
    const unsigned long long flat = blockIdx.x * 256ull + threadIdx.x;
    if (flat >= (unsigned long long)p.batch * p.out_height * p.out_width * p.channels) return;
    const PixelIndex at = place((unsigned)flat, p.out_height, p.out_width, p.channels);
    const Span rows = window(p, at.row, p.height, p.out_height), columns = window(p, at.column, p.width, p.out_width);
    float best[N];
#pragma unroll
    for (int k = 0; k < N; ++k) best[k] = __int_as_float(0xff800000);
    for (unsigned i = rows.begin; i < rows.end; ++i) {
        for (unsigned j = columns.begin; j < columns.end; ++j) {
            float v[N];
            load<N>(p.x, at.n * p.height + i, p.width, j, p.channels, at.channel, v);
#pragma unroll
            for (int k = 0; k < N; ++k) best[k] = wins(v[k], best[k]) ? v[k] : best[k];
        }
    }
    store_floats<N>(static_cast<T *>(p.y) + flat * N, best);
}

// An integer for each float, in the floats' order: both zeros are equal, NaN is above all. Comparing the integers needs no
// test for NaN. With such tests, the results for a thread's elements would need more predicates than there are.
static __device__ __forceinline__ int rank(float v) {
    const int bits = __float_as_int(v + 0.0f);
    return v != v ? 0x7fffffff : bits >= 0 ? bits : bits ^ 0x7fffffff;
}

// dx[n,i,j,c] = sum of dy over the windows whose first largest pixel it is. Each thread searches the windows that hold its
// own pixel, so that no thread adds to another's result.
template <int N> static __device__ __forceinline__ void maximum_grad(const PoolParams &p) {
    const unsigned long long flat = blockIdx.x * 256ull + threadIdx.x;
    if (flat >= (unsigned long long)p.batch * p.height * p.width * p.channels) return;
    const PixelIndex at = place((unsigned)flat, p.height, p.width, p.channels);
    const Span os = windows_of(p, at.row, p.height, p.out_height), qs = windows_of(p, at.column, p.width, p.out_width);
    float value[N], sum[N] = {};
    load<N>(p.x, at.n * p.height + at.row, p.width, at.column, p.channels, at.channel, value);
    int own[N];
#pragma unroll
    for (int k = 0; k < N; ++k) own[k] = rank(value[k]);
    for (unsigned o = os.begin; o < os.end; ++o) {
        const Span rows = window(p, o, p.height, p.out_height);
        for (unsigned q = qs.begin; q < qs.end; ++q) {
            const Span columns = window(p, q, p.width, p.out_width);
            // Bit k: element k is still its window's largest.
            unsigned largest = (1u << N) - 1;
            for (unsigned i = rows.begin; i < rows.end; ++i) {
                // Not unrolled, because the unrolled loop needs more predicates than there are and spills them.
#pragma unroll 1
                for (unsigned j = columns.begin; j < columns.end; ++j) {
                    if (i == at.row && j == at.column) continue;
                    // A pixel that stands before this one beats it with an equal value too.
                    const int before = i < at.row || (i == at.row && j < at.column);
                    float v[N];
                    load<N>(p.x, at.n * p.height + i, p.width, j, p.channels, at.channel, v);
#pragma unroll
                    for (int k = 0; k < N; ++k) {
                        const bool beaten = rank(v[k]) > own[k] - before;
                        largest &= ~((unsigned)beaten << k);
                    }
                }
            }
            float v[N];
            load<N>(p.dy, at.n * p.out_height + o, p.out_width, q, p.channels, at.channel, v);
#pragma unroll
            for (int k = 0; k < N; ++k) sum[k] += (largest >> k & 1) ? v[k] : 0.0f;
        }
    }
    store_floats<N>(static_cast<T *>(p.y) + flat * N, sum);
}

static constexpr int VECTOR = 16 / sizeof(T);

extern "C" __global__ void __launch_bounds__(256) avg_pool(const PoolParams p) { average<VECTOR>(p); }
extern "C" __global__ void __launch_bounds__(256) avg_pool_any(const PoolParams p) { average<1>(p); }
extern "C" __global__ void __launch_bounds__(256) avg_pool_grad(const PoolParams p) { average_grad<VECTOR>(p); }
extern "C" __global__ void __launch_bounds__(256) avg_pool_grad_any(const PoolParams p) { average_grad<1>(p); }
extern "C" __global__ void __launch_bounds__(256) max_pool(const PoolParams p) { maximum<VECTOR>(p); }
extern "C" __global__ void __launch_bounds__(256) max_pool_any(const PoolParams p) { maximum<1>(p); }
extern "C" __global__ void __launch_bounds__(256) max_pool_grad(const PoolParams p) { maximum_grad<VECTOR>(p); }
extern "C" __global__ void __launch_bounds__(256) max_pool_grad_any(const PoolParams p) { maximum_grad<1>(p); }
