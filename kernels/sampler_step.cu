// One step of a sampler: guidance, estimates of x_0 and of the noise, clipping, and the DDIM or ancestral update of x_t.
//
//   p   = u + guidance (c - u)                    c, u: prediction with and without the condition
//   noise predicted:   eps = p,  x_0 = clip(recip x_t - recip_m1 eps)
//   sample predicted:  x_0 = clip(p),  eps = (recip x_t - x_0) / recip_m1
//   std = noise + learned exp((v log_beta + (1 - v) log_posterior) / 2),  v = (variance + 1) / 2
//   x_t <- sample x_0 + direction eps + keep x_t + std z
//
// The coefficients stand in row clamp(counter, 0, rows - 1) of a table, so that a captured graph replays every step.
//
// Shapes      x_t, x_0, eps, z: `count` elements of f32, [N, .., channels]. Prediction of T (-DT): [N, .., wide], the
//             variance behind the channels, under guidance the unconditional half `half` elements behind.
// Launch      grid ceil(count / (256 V)), block 256, no shared memory; V elements per thread.
// Traffic     reads x_t, z and the prediction once, writes x_t, x_0 and eps once; updates x_t in place.
// Takes       count and the prediction below 2^32 elements.
// Registers <= 64
#include "common/types.cuh"

struct SamplerStepParams {
    float *x;
    const void *prediction;
    // [rows, 10]: see `Coefficient`.
    const float *table;
    const int *counter;
    // Null for a step without fresh noise.
    const float *z;
    float *x_0;
    float *eps;
    unsigned count;
    unsigned rows;
    unsigned channels;
    unsigned wide;
    unsigned half;
    int predicts_sample;
    int clip;
    int guidance;
    int learned_variance;
};

// Comparisons, so that NaN stays NaN.
static __device__ __forceinline__ float clipped(float v, int clip) {
    return clip && v < -1.0f ? -1.0f : clip && v > 1.0f ? 1.0f : v;
}

template <int N> static __device__ __forceinline__ void sampler_step(const SamplerStepParams &p) {
    const unsigned long long first = (blockIdx.x * 256ull + threadIdx.x) * N;
    if (first >= p.count) return;
    const float *row = p.table + 10 * (unsigned long long)min((unsigned)max(*p.counter, 0), p.rows - 1);
    const float recip = row[0], recip_m1 = row[1], sample = row[2], direction = row[3], keep = row[4], noise = row[5];
    const float guidance = row[6], learned = row[7], log_posterior = row[8], log_beta = row[9];

    const unsigned pixel = (unsigned)first / p.channels;
    const T *prediction = static_cast<const T *>(p.prediction) + (unsigned long long)pixel * p.wide + ((unsigned)first - pixel * p.channels);
    float x[N], guess[N], x_0[N], eps[N];
    load_floats<N>(p.x + first, x);
    load_floats<N>(prediction, guess);
    if (p.guidance) {
        float without[N];
        load_floats<N>(prediction + p.half, without);
#pragma unroll
        for (int i = 0; i < N; ++i) guess[i] = without[i] + guidance * (guess[i] - without[i]);
    }
#pragma unroll
    for (int i = 0; i < N; ++i) {
        if (p.predicts_sample) {
            x_0[i] = clipped(guess[i], p.clip);
            eps[i] = (recip * x[i] - x_0[i]) / recip_m1;
        } else {
            x_0[i] = clipped(recip * x[i] - recip_m1 * guess[i], p.clip);
            eps[i] = guess[i];
        }
        x[i] = sample * x_0[i] + direction * eps[i] + keep * x[i];
    }
    if (p.z != nullptr) {
        float z[N];
        load_floats<N>(p.z + first, z);
        if (p.learned_variance && learned != 0.0f) {
            float variance[N];
            load_floats<N>(prediction + p.channels, variance);
#pragma unroll
            for (int i = 0; i < N; ++i) {
                const float v = 0.5f * (variance[i] + 1.0f);
                const float log = v * log_beta + (1.0f - v) * log_posterior;
                x[i] += (noise + learned * expf(0.5f * log)) * z[i];
            }
        } else {
#pragma unroll
            for (int i = 0; i < N; ++i) x[i] += noise * z[i];
        }
    }
    store_floats<N>(p.x_0 + first, x_0);
    store_floats<N>(p.eps + first, eps);
    store_floats<N>(p.x + first, x);
}

// channels, wide and half divide by 4.
extern "C" __global__ void __launch_bounds__(256) sampler_step_4(const SamplerStepParams p) { sampler_step<4>(p); }
// Any extents.
extern "C" __global__ void __launch_bounds__(256) sampler_step_any(const SamplerStepParams p) { sampler_step<1>(p); }
