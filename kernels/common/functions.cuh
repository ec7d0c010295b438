// Elementary functions of activations, precise over the whole range of f32; NaN stays NaN.
#pragma once

static __device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// x sigmoid(x)
static __device__ __forceinline__ float swish(float x) { return x / (1.0f + expf(-x)); }

// d swish / dx = s (1 + x (1 - s))
static __device__ __forceinline__ float swish_derivative(float x) {
    const float s = sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}

// Distribution function of the normal distribution. erfc keeps the digits of the lower tail, which 1 + erf would lose.
static __device__ __forceinline__ float normal_cdf(float x) { return 0.5f * erfcf(-0.70710678118654752f * x); }

// x Phi(x)
static __device__ __forceinline__ float gelu(float x) { return x * normal_cdf(x); }

// d gelu / dx = Phi(x) + x phi(x)
static __device__ __forceinline__ float gelu_derivative(float x) {
    return normal_cdf(x) + x * 0.39894228040143268f * expf(-0.5f * x * x);
}
