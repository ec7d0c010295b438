// y = a o b with o one of + - * /, computed in f32 and rounded to T (-DT); shapes broadcast.
//
// Shapes      y has `count` elements of T; a and b have the same shape, or axes that repeat (stride 0).
// Traffic     reads each element of a and b once from DRAM, writes y once; overwrites y.
// In place    y may be a or b where that one has y's shape: each thread reads its elements before it writes them.
// Takes       count < 2^32; up to 5 axes once neighbours that repeat alike are merged.
// Registers <= 48
#include "common/types.cuh"

struct BinaryParams {
    const void *a;
    const void *b;
    void *y;
    unsigned count;
    int operation;  // 0: add, 1: subtract, 2: multiply, 3: divide
    int axes;
    unsigned extents[5];    // innermost axis first
    unsigned a_strides[5];  // innermost axis first; 0 repeats; the first is 0 or 1
    unsigned b_strides[5];  // innermost axis first; 0 repeats; the first is 0 or 1
};

static constexpr int VECTOR = 16 / sizeof(T);

template <int N> static __device__ __forceinline__ void combine(int operation, const float (&a)[N], const float (&b)[N], float (&y)[N]) {
    // All threads branch alike, outside of the loops over elements.
    switch (operation) {
    case 0:
#pragma unroll
        for (int i = 0; i < N; ++i) y[i] = a[i] + b[i];
        break;
    case 1:
#pragma unroll
        for (int i = 0; i < N; ++i) y[i] = a[i] - b[i];
        break;
    case 2:
#pragma unroll
        for (int i = 0; i < N; ++i) y[i] = a[i] * b[i];
        break;
    default:
#pragma unroll
        for (int i = 0; i < N; ++i) y[i] = a[i] / b[i];
        break;
    }
}

// a and b of y's shape. 16-byte accesses; the last count % VECTOR elements one by one.
// Launch      grid ceil(count / (256 VECTOR)), block 256, no shared memory.
extern "C" __global__ void __launch_bounds__(256) binary_same(const BinaryParams p) {
    const T *a = static_cast<const T *>(p.a);
    const T *b = static_cast<const T *>(p.b);
    T *y = static_cast<T *>(p.y);
    const unsigned long long first = (blockIdx.x * 256ull + threadIdx.x) * VECTOR;
    if (first + VECTOR <= p.count) {
        float u[VECTOR], v[VECTOR], w[VECTOR];
        load_floats<VECTOR>(a + first, u);
        load_floats<VECTOR>(b + first, v);
        combine(p.operation, u, v, w);
        store_floats<VECTOR>(y + first, w);
    } else {
        for (unsigned long long i = first; i < p.count; ++i) {
            const float u[1] = {to_float(a[i])}, v[1] = {to_float(b[i])};
            float w[1];
            combine(p.operation, u, v, w);
            y[i] = from_float<T>(w[0]);
        }
    }
}

// N elements of one row of the innermost axis; an operand that repeats along it is read once.
template <int N> static __device__ __forceinline__ void broadcast(const BinaryParams &p) {
    const unsigned long long first = (blockIdx.x * 256ull + threadIdx.x) * N;
    if (first >= p.count) return;
    unsigned rest = (unsigned)first, a_at = 0, b_at = 0;
#pragma unroll
    for (int axis = 0; axis < 5; ++axis) {
        if (axis < p.axes) {
            const unsigned outer = rest / p.extents[axis], index = rest - outer * p.extents[axis];
            a_at += index * p.a_strides[axis];
            b_at += index * p.b_strides[axis];
            rest = outer;
        }
    }
    const T *a = static_cast<const T *>(p.a) + a_at;
    const T *b = static_cast<const T *>(p.b) + b_at;
    float u[N], v[N], w[N];
    if (p.a_strides[0]) {
        load_floats<N>(a, u);
    } else {
#pragma unroll
        for (int i = 0; i < N; ++i) u[i] = to_float(*a);
    }
    if (p.b_strides[0]) {
        load_floats<N>(b, v);
    } else {
#pragma unroll
        for (int i = 0; i < N; ++i) v[i] = to_float(*b);
    }
    combine(p.operation, u, v, w);
    store_floats<N>(static_cast<T *>(p.y) + first, w);
}

// VECTOR divides the innermost extent.
// Launch      grid ceil(count / (256 VECTOR)), block 256, no shared memory.
extern "C" __global__ void __launch_bounds__(256) binary_broadcast(const BinaryParams p) { broadcast<VECTOR>(p); }

// Any extents.
// Launch      grid ceil(count / 256), block 256, no shared memory.
extern "C" __global__ void __launch_bounds__(256) binary_broadcast_any(const BinaryParams p) { broadcast<1>(p); }
