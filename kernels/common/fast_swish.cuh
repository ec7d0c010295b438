// Swish and its derivative with the hardware's exponential and division, right to a few ulp. With the precise ones of
// functions.cuh, group normalisation of maps that lie in the L2 cache would be bound by arithmetic.
#pragma once

// u / (1 + exp(-u)); 0 where the exponential overflows, NaN for NaN.
static __device__ __forceinline__ float fast_swish(float u) { return __fdividef(u, 1.0f + __expf(-u)); }

static __device__ __forceinline__ float fast_swish_derivative(float u) {
    const float sigmoid = __fdividef(1.0f, 1.0f + __expf(-u));
    return sigmoid * fmaf(u, 1.0f - sigmoid, 1.0f);
}
