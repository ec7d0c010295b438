// y = f(x), and its gradient dx = f'(x) dy. -DFUNCTION names f, -DT the type of all arrays; computed in f32.
//
// Shapes      x, dy, y of `count` elements of T, densely packed, aligned to 16 bytes.
// Launch      grid ceil(count / (256 VECTOR)), block 256, no shared memory.
// Traffic     16-byte accesses: reads x (and dy) once, writes y once; overwrites y.
// In place    y may be x or dy: each thread reads its elements before it writes them.
// Takes       any count.
// Registers <= 48
#include "common/functions.cuh"
#include "common/types.cuh"

struct UnaryParams {
    const void *x;
    const void *dy;  // for the gradient alone
    void *y;         // dx for the gradient
    unsigned long long count;
    float constants[2];  // `scale` and `shift` of affine, `low` and `high` of clamp
};

static constexpr int VECTOR = 16 / sizeof(T);

// `value` is f(x), `grad` is f'(x) dy. They compare: fminf and fmaxf would replace NaN by the other operand.
struct Swish {
    static __device__ float value(float x, const float *) { return swish(x); }
    static __device__ float grad(float x, float dy, const float *) { return swish_derivative(x) * dy; }
};
struct Gelu {
    static __device__ float value(float x, const float *) { return gelu(x); }
    static __device__ float grad(float x, float dy, const float *) { return gelu_derivative(x) * dy; }
};
struct Relu {
    static __device__ float value(float x, const float *) { return x < 0.0f ? 0.0f : x; }
    static __device__ float grad(float x, float dy, const float *) { return x > 0.0f ? dy : 0.0f; }
};
struct Exp {
    static __device__ float value(float x, const float *) { return expf(x); }
    static __device__ float grad(float x, float dy, const float *) { return expf(x) * dy; }
};
struct Abs {
    static __device__ float value(float x, const float *) { return fabsf(x); }
    static __device__ float grad(float x, float dy, const float *) { return x > 0.0f ? dy : x < 0.0f ? -dy : 0.0f; }
};
struct Square {
    static __device__ float value(float x, const float *) { return x * x; }
    static __device__ float grad(float x, float dy, const float *) { return 2.0f * x * dy; }
};
struct Affine {
    static __device__ float value(float x, const float *c) { return c[0] * x + c[1]; }
    static __device__ float grad(float, float dy, const float *c) { return c[0] * dy; }
};
struct Clamp {
    static __device__ float value(float x, const float *c) { return x < c[0] ? c[0] : x > c[1] ? c[1] : x; }
    static __device__ float grad(float x, float dy, const float *c) { return x >= c[0] && x <= c[1] ? dy : 0.0f; }
};

extern "C" __global__ void __launch_bounds__(256) unary(const UnaryParams p) {
    const T *x = static_cast<const T *>(p.x);
    T *y = static_cast<T *>(p.y);
    const unsigned long long first = (blockIdx.x * 256ull + threadIdx.x) * VECTOR;
    if (first + VECTOR <= p.count) {
        float v[VECTOR];
        load_floats<VECTOR>(x + first, v);
#pragma unroll
        for (int i = 0; i < VECTOR; ++i) v[i] = FUNCTION::value(v[i], p.constants);
        store_floats<VECTOR>(y + first, v);
    } else {
        for (unsigned long long i = first; i < p.count; ++i)
            y[i] = from_float<T>(FUNCTION::value(to_float(x[i]), p.constants));
    }
}

extern "C" __global__ void __launch_bounds__(256) unary_grad(const UnaryParams p) {
    const T *x = static_cast<const T *>(p.x);
    const T *dy = static_cast<const T *>(p.dy);
    T *dx = static_cast<T *>(p.y);
    const unsigned long long first = (blockIdx.x * 256ull + threadIdx.x) * VECTOR;
    if (first + VECTOR <= p.count) {
        float v[VECTOR], d[VECTOR];
        load_floats<VECTOR>(x + first, v);
        load_floats<VECTOR>(dy + first, d);
#pragma unroll
        for (int i = 0; i < VECTOR; ++i) d[i] = FUNCTION::grad(v[i], d[i], p.constants);
        store_floats<VECTOR>(dx + first, d);
    } else {
        for (unsigned long long i = first; i < p.count; ++i)
            dx[i] = from_float<T>(FUNCTION::grad(to_float(x[i]), to_float(dy[i]), p.constants));
    }
}
