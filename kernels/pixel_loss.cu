// Absolute and squared differences of two arrays, summed to a scalar, and their gradient.
#include "common/sums.cuh"
#include "common/types.cuh"

// partials[k] = sum over chunk k of |a - b|, or (a - b)² if `squared`; `sum_partials` then gives the loss.
//
// Shapes      a, b: [count] f32; partials: [ceil(count / 4096)] f64.
// Launch      grid ceil(count / 4096), block 256.
// Traffic     reads 8 count bytes.
// Order       as common/sums.cuh says.
// Takes       any count.
// Registers <= 32
struct PixelLossParams {
    const float *a;
    const float *b;
    double *partials;
    unsigned long long count;
    int squared;
};

extern "C" __global__ void __launch_bounds__(SUM_THREADS) pixel_loss(const PixelLossParams p) {
    const bool squared = p.squared != 0;
    sum_chunk(p.count, blockIdx.x, p.partials + blockIdx.x, [&](unsigned long long i) {
        const float difference = p.a[i] - p.b[i];
        return squared ? difference * difference : fabsf(difference);
    });
}

// da[i] = scale * sign(a - b), or 2 scale (a - b) if `squared`, with scale = factor * dy
//
// Shapes      a, b, da: [count] f32, aligned to 16 bytes; dy: a scalar. da may be a or b.
// Launch      grid ceil(count / 1024), block 256.
// Traffic     reads 8 count bytes, writes 4 count; overwrites da.
// Takes       any count.
// Registers <= 32
struct PixelLossGradParams {
    const float *a;
    const float *b;
    const float *dy;
    float *da;
    unsigned long long count;
    float factor;
    int squared;
};

static __device__ __forceinline__ float pixel_gradient(float difference, float scale, bool squared) {
    if (squared) return 2.0f * scale * difference;
    if (difference > 0.0f) return scale;
    if (difference < 0.0f) return -scale;
    // 0 where the two are equal, NaN where one of them is NaN.
    return difference * scale;
}

extern "C" __global__ void __launch_bounds__(256) pixel_loss_grad(const PixelLossGradParams p) {
    const float scale = p.factor * *p.dy;
    const bool squared = p.squared != 0;
    const unsigned long long i = (blockIdx.x * 256ull + threadIdx.x) * 4;
    if (i + 4 <= p.count) {
        float a[4], b[4];
        load_floats<4>(p.a + i, a);
        load_floats<4>(p.b + i, b);
#pragma unroll
        for (int k = 0; k < 4; ++k) a[k] = pixel_gradient(a[k] - b[k], scale, squared);
        store_floats<4>(p.da + i, a);
    } else {
        for (unsigned long long k = i; k < p.count; ++k) p.da[k] = pixel_gradient(p.a[k] - p.b[k], scale, squared);
    }
}
