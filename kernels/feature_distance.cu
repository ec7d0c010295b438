// The distance of two feature maps in LPIPS, normalised pixel by pixel, and its gradient. A warp takes a pixel; a pixel's
// features (a few KiB at most) are read again from the L1 cache.
#include "common/reduce.cuh"
#include "common/sums.cuh"

constexpr int WARPS = 8;
constexpr int PIXELS = 64;
constexpr float EPSILON = 1e-10f;

// Norms of a pixel's features in both maps, returned to the whole warp.
static __device__ __forceinline__ void norms(const float *a, const float *b, int channels, float &ra, float &rb) {
    float sa = 0.0f, sb = 0.0f;
    for (int c = threadIdx.x & 31; c < channels; c += 32) {
        sa += a[c] * a[c];
        sb += b[c] * b[c];
    }
    ra = sqrtf(warp_sum(sa));
    rb = sqrtf(warp_sum(sb));
}

// partials[n, k] = sum over pixels 64 k … of sample n of |a / (|a| + 1e-10) - b / (|b| + 1e-10)|²;
// `sum_partials` then gives the distances.
//
// Shapes      a, b: [N, pixels, channels] f32; partials: [N, ceil(pixels / 64)] f64.
// Launch      grid (ceil(pixels / 64), N), block 256.
// Traffic     reads 8 N pixels channels bytes.
// Order       lanes by halves in f32; pixels of a warp in order, then warps by halves, in f64.
// Takes       any extents, N below 65536.
// Registers <= 40
struct FeatureDistanceParams {
    const float *a;
    const float *b;
    double *partials;
    int pixels;
    int channels;
};

extern "C" __global__ void __launch_bounds__(WARPS * 32) feature_distance(const FeatureDistanceParams p) {
    __shared__ double scratch[32];
    double total = 0.0;
    for (int k = threadIdx.x >> 5; k < PIXELS; k += WARPS) {
        const int pixel = blockIdx.x * PIXELS + k;
        if (pixel >= p.pixels) break;
        const long long at = ((long long)blockIdx.y * p.pixels + pixel) * p.channels;
        const float *a = p.a + at, *b = p.b + at;
        float ra, rb;
        norms(a, b, p.channels, ra, rb);
        ra = 1.0f / (ra + EPSILON);
        rb = 1.0f / (rb + EPSILON);
        float sum = 0.0f;
        for (int c = threadIdx.x & 31; c < p.channels; c += 32) {
            const float difference = a[c] * ra - b[c] * rb;
            sum += difference * difference;
        }
        sum = warp_sum(sum);
        if ((threadIdx.x & 31) == 0) total += sum;
    }
    total = block_sum(total, scratch);
    if (threadIdx.x == 0) p.partials[(long long)blockIdx.y * gridDim.x + blockIdx.x] = total;
}

// da = s ra (a ra - b rb - a (sum_c (a ra - b rb) a) ra / |a|), s = 2 dy[n] / pixels, ra = 1 / (|a| + 1e-10);
// where |a| = 0 the last part is left out
//
// Shapes      a, b, da: [N, pixels, channels] f32; dy: [N] f32.
// Launch      grid (ceil(pixels / 8), N), block 256.
// Traffic     reads 8 N pixels channels bytes, writes 4 N pixels channels; overwrites da.
// Order       lanes by halves.
// Takes       any extents, N below 65536.
// Registers <= 40
struct FeatureDistanceGradParams {
    const float *a;
    const float *b;
    const float *dy;
    float *da;
    int pixels;
    int channels;
};

extern "C" __global__ void __launch_bounds__(WARPS * 32) feature_distance_grad(const FeatureDistanceGradParams p) {
    const int pixel = blockIdx.x * WARPS + (threadIdx.x >> 5);
    if (pixel >= p.pixels) return;
    const long long at = ((long long)blockIdx.y * p.pixels + pixel) * p.channels;
    const float *a = p.a + at, *b = p.b + at;
    float *da = p.da + at;
    float norm, rb;
    norms(a, b, p.channels, norm, rb);
    const float ra = 1.0f / (norm + EPSILON);
    rb = 1.0f / (rb + EPSILON);
    // The component along a, which the normalisation of a takes out.
    float along = 0.0f;
    for (int c = threadIdx.x & 31; c < p.channels; c += 32) along += (a[c] * ra - b[c] * rb) * a[c];
    along = warp_sum(along);
    // A pixel without features has 0 here, or NaN.
    if (norm > 0.0f) along = along * ra / norm;
    const float scale = 2.0f * p.dy[blockIdx.y] / p.pixels * ra;
    for (int c = threadIdx.x & 31; c < p.channels; c += 32) da[c] = scale * (a[c] * ra - b[c] * rb - along * a[c]);
}
