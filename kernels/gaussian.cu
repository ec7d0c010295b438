// Diagonal Gaussians given by mean and log-variance: a sample, and the divergence from the standard normal.
#include "common/sums.cuh"
#include "common/types.cuh"

// y = a + exp(b / 2) c           (reparameterize: a mean, b logvar, c noise)
// y = c b exp(a / 2) / 2         (reparameterize_grad: a logvar, b noise, c dy)
//
// Shapes      a, b, c, y: [count] f32, aligned to 16 bytes.
// Launch      grid ceil(count / 1024), block 256.
// Traffic     reads 12 count bytes, writes 4 count; overwrites y.
// Takes       any count.
// Registers <= 32
struct ReparameterizeParams {
    const float *a;
    const float *b;
    const float *c;
    float *y;
    unsigned long long count;
};

template <typename F> static __device__ __forceinline__ void ternary(const ReparameterizeParams &p, F f) {
    const unsigned long long i = (blockIdx.x * 256ull + threadIdx.x) * 4;
    if (i + 4 <= p.count) {
        float a[4], b[4], c[4];
        load_floats<4>(p.a + i, a);
        load_floats<4>(p.b + i, b);
        load_floats<4>(p.c + i, c);
#pragma unroll
        for (int k = 0; k < 4; ++k) a[k] = f(a[k], b[k], c[k]);
        store_floats<4>(p.y + i, a);
    } else {
        for (unsigned long long k = i; k < p.count; ++k) p.y[k] = f(p.a[k], p.b[k], p.c[k]);
    }
}

extern "C" __global__ void __launch_bounds__(256) reparameterize(const ReparameterizeParams p) {
    ternary(p, [](float mean, float logvar, float noise) { return mean + expf(0.5f * logvar) * noise; });
}

extern "C" __global__ void __launch_bounds__(256) reparameterize_grad(const ReparameterizeParams p) {
    ternary(p, [](float logvar, float noise, float dy) { return 0.5f * expf(0.5f * logvar) * noise * dy; });
}

// partials[k] = sum over chunk k of mean² + exp(logvar) - 1 - logvar; `sum_partials` then gives the divergence.
//
// Shapes      mean, logvar: [count] f32; partials: [ceil(count / 4096)] f64.
// Launch      grid ceil(count / 4096), block 256.
// Traffic     reads 8 count bytes.
// Order       as common/sums.cuh says.
// Takes       any count.
// Registers <= 32
struct GaussianKlParams {
    const float *mean;
    const float *logvar;
    double *partials;
    unsigned long long count;
};

extern "C" __global__ void __launch_bounds__(SUM_THREADS) gaussian_kl(const GaussianKlParams p) {
    sum_chunk(p.count, blockIdx.x, p.partials + blockIdx.x, [&](unsigned long long i) {
        const float m = p.mean[i], l = p.logvar[i];
        // e^l - 1 - l cancels for small l; its series does not.
        const float rest = fabsf(l) < 0.03f ? l * l * (0.5f + l * (1.0f / 6.0f + l * (1.0f / 24.0f))) : expf(l) - 1.0f - l;
        return m * m + rest;
    });
}

// dmean = dy mean / N, dlogvar = dy (exp(logvar) - 1) / (2 N), with inverse_batch = 1 / N
//
// Shapes      mean, logvar, dmean, dlogvar: [count] f32; dy: a scalar.
// Launch      grid ceil(count / 256), block 256.
// Traffic     reads 8 count bytes, writes 8 count; overwrites both results.
// Takes       any count.
// Registers <= 32
struct GaussianKlGradParams {
    const float *mean;
    const float *logvar;
    const float *dy;
    float *dmean;
    float *dlogvar;
    unsigned long long count;
    float inverse_batch;
};

extern "C" __global__ void __launch_bounds__(256) gaussian_kl_grad(const GaussianKlGradParams p) {
    const float scale = *p.dy * p.inverse_batch;
    const unsigned long long i = blockIdx.x * 256ull + threadIdx.x;
    if (i >= p.count) return;
    p.dmean[i] = scale * p.mean[i];
    p.dlogvar[i] = 0.5f * scale * expm1f(p.logvar[i]);
}
