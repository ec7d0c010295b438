// y = a gelu(b), and its gradient da = dy gelu(b), db = dy a gelu'(b), where x = [a, b] and dx = [da, db] along the channels.
// -DT is the type of all arrays; computed in f32.
//
// Shapes      x, dx [rows, 2 C], y, dy [rows, C] of T, densely packed, aligned to 16 bytes.
// Launch      grid ceil(rows C / (256 V)), block 256, no shared memory; V neighbours per thread.
// Traffic     reads x (and dy) once, writes y (or dx) once; overwrites.
// In place    dx may be x: each thread reads its elements before it writes them.
// Takes       x below 2^32 elements.
// Registers <= 64
#include "common/functions.cuh"
#include "common/types.cuh"

struct GegluParams {
    const void *x;
    const void *dy;    // for the gradient alone
    void *y;           // dx for the gradient
    unsigned vectors;  // rows C / V
    unsigned per_row;  // C / V
};

static constexpr int VECTOR = 16 / sizeof(T);

template <int N> static __device__ __forceinline__ void geglu_forward(const GegluParams &p) {
    const unsigned i = blockIdx.x * 256 + threadIdx.x;
    if (i >= p.vectors) return;
    // Rows of x are twice as long.
    const T *x = static_cast<const T *>(p.x) + (i + (unsigned long long)(i / p.per_row) * p.per_row) * N;
    float a[N], b[N];
    load_floats<N>(x, a);
    load_floats<N>(x + (unsigned long long)p.per_row * N, b);
#pragma unroll
    for (int k = 0; k < N; ++k) a[k] *= gelu(b[k]);
    store_floats<N>(static_cast<T *>(p.y) + (unsigned long long)i * N, a);
}

template <int N> static __device__ __forceinline__ void geglu_backward(const GegluParams &p) {
    const unsigned i = blockIdx.x * 256 + threadIdx.x;
    if (i >= p.vectors) return;
    const unsigned long long first = (i + (unsigned long long)(i / p.per_row) * p.per_row) * N;
    const unsigned long long half = (unsigned long long)p.per_row * N;
    float a[N], b[N], dy[N];
    load_floats<N>(static_cast<const T *>(p.x) + first, a);
    load_floats<N>(static_cast<const T *>(p.x) + first + half, b);
    load_floats<N>(static_cast<const T *>(p.dy) + (unsigned long long)i * N, dy);
#pragma unroll
    for (int k = 0; k < N; ++k) {
        a[k] *= dy[k] * gelu_derivative(b[k]);
        dy[k] *= gelu(b[k]);
    }
    store_floats<N>(static_cast<T *>(p.y) + first, dy);
    store_floats<N>(static_cast<T *>(p.y) + first + half, a);
}

// V = 16 / sizeof(T) divides C.
extern "C" __global__ void __launch_bounds__(256) geglu(const GegluParams p) { geglu_forward<VECTOR>(p); }
extern "C" __global__ void __launch_bounds__(256) geglu_grad(const GegluParams p) { geglu_backward<VECTOR>(p); }
// Any C.
extern "C" __global__ void __launch_bounds__(256) geglu_any(const GegluParams p) { geglu_forward<1>(p); }
extern "C" __global__ void __launch_bounds__(256) geglu_grad_any(const GegluParams p) { geglu_backward<1>(p); }
