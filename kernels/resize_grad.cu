// Gradient of nearest-neighbour resizing: dx[n,i,j,c] = sum of dy over the pixels of the result that are copies of pixel
// (i, j).
//
// Shapes      dy [N,h,w,C], dx [N,H,W,C], of T (-DT), NHWC, densely packed, aligned to 16 bytes.
// Launch      grid ceil(N H W C / (256 V)), block 256, no shared memory; V elements per thread.
// Traffic     reads dy once, writes dx once; overwrites dx.
// Order       f32 sums, row by row: results repeat to the bit.
// Takes       below 2^32 elements each; (2 h + 1) H and (2 w + 1) W below 2^32.
// Registers <= 48
#include "common/types.cuh"

struct ResizeGradParams {
    const void *dy;
    void *dx;
    unsigned batch;
    unsigned height;          // of dx
    unsigned width;           // of dx
    unsigned resized_height;  // of dy
    unsigned resized_width;   // of dy
    unsigned channels;        // accesses of V elements per pixel
};

// The first of the `to` pixels of the result that is a copy of pixel `i` or a later one of the `from` pixels of the image.
static __device__ __forceinline__ unsigned first_copy(unsigned i, unsigned from, unsigned to) {
    return (2 * to * i + from - 1) / (2 * from);
}

template <int N> static __device__ __forceinline__ void resize_sums(const ResizeGradParams &p) {
    const unsigned long long flat = blockIdx.x * 256ull + threadIdx.x;
    if (flat >= (unsigned long long)p.batch * p.height * p.width * p.channels) return;
    const unsigned pixel = (unsigned)flat / p.channels, channel = (unsigned)flat - pixel * p.channels;
    const unsigned line = pixel / p.width, column = pixel - line * p.width;
    const unsigned n = line / p.height, row = line - n * p.height;
    const unsigned i_end = first_copy(row + 1, p.height, p.resized_height);
    const unsigned j_begin = first_copy(column, p.width, p.resized_width);
    const unsigned j_end = first_copy(column + 1, p.width, p.resized_width);
    const T *dy = static_cast<const T *>(p.dy);
    float sum[N] = {};
    for (unsigned i = first_copy(row, p.height, p.resized_height); i < i_end; ++i) {
        for (unsigned j = j_begin; j < j_end; ++j) {
            const unsigned at = ((n * p.resized_height + i) * p.resized_width + j) * p.channels + channel;
            float v[N];
            load_floats<N>(dy + (unsigned long long)at * N, v);
#pragma unroll
            for (int k = 0; k < N; ++k) sum[k] += v[k];
        }
    }
    store_floats<N>(static_cast<T *>(p.dx) + flat * N, sum);
}

// 16 / sizeof(T) divides C.
extern "C" __global__ void __launch_bounds__(256) resize_grad(const ResizeGradParams p) { resize_sums<16 / sizeof(T)>(p); }
// Any C.
extern "C" __global__ void __launch_bounds__(256) resize_grad_any(const ResizeGradParams p) { resize_sums<1>(p); }
