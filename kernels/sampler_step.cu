// One step of a sampler: guidance, estimates of x_0 and of the noise, clipping, and the DDIM or ancestral update of x_t.
//
//   p   = u + guidance (c - u)                    c, u: prediction with and without the condition
//   noise predicted:   eps = p,  x_0 = clip(recip x_t - recip_m1 eps)
//   sample predicted:  x_0 = clip(p),  eps = (recip x_t - x_0) / recip_m1
//   std = noise + learned exp((v log_beta + (1 - v) log_posterior) / 2),  v = (variance + 1) / 2
//   x_t <- sample x_0 + direction eps + keep x_t + std z
//
// The coefficients are row clamp(counter, 0, rows - 1) of a table, so that one captured graph replays every step. The block
// that arrives last adds 1 to the counter, which all blocks have read by then. z is given, or drawn: the normals of the
// stream (seed, purpose) at (images[n], counter), with the bits of philox_normal.cu.
//
// Shapes      x_t, x_0, eps, z: `count` elements of f32, [N, .., channels]. Prediction of T (-DT): [N, .., wide], the
//             variance behind the channels, under guidance the unconditional half `half` elements behind. seed: two ints
//             (low, high word), images: N ints; counter: one int.
// Launch      grid max(1, ceil(count / (256 V))), block 256, no shared memory; V elements per thread.
// Traffic     reads x_t, z and the prediction once, writes x_t, x_0 and eps once; updates x_t and counter in place.
// Takes       count and the prediction below 2^32 elements.
// Registers <= 64
#include "common/last_block.cuh"
#include "common/philox.cuh"
#include "common/types.cuh"

struct SamplerStepParams {
    float *x;
    const void *prediction;
    const float *table;  // [rows, 10]: see `Coefficient` in src/ops/sampler
    int *counter;        // the step
    unsigned *arrived;   // blocks that have read the counter; 0 between launches
    const float *z;      // null unless fresh noise is given
    const unsigned *seed;    // null unless fresh noise is drawn here
    const unsigned *images;  // number of each sample's image; null unless fresh noise is drawn here
    float *x_0;
    float *eps;
    unsigned count;     // elements of x_t
    unsigned rows;      // steps of the table
    unsigned channels;  // of x_t
    unsigned wide;      // channels of the prediction
    unsigned half;      // elements from the conditional to the unconditional prediction
    unsigned length;    // elements of one sample
    unsigned purpose;   // of the stream of noise
    int predicts_sample;   // 1: the prediction is x_0, else the noise
    int clip;              // 1: x_0 is clipped to [-1, 1]
    int guidance;          // 1: the prediction has a conditional and an unconditional half
    int learned_variance;  // 1: the prediction has the variance behind its channels
};

// Comparisons, so that NaN stays NaN.
static __device__ __forceinline__ float clipped(float v, int clip) {
    return clip && v < -1.0f ? -1.0f : clip && v > 1.0f ? 1.0f : v;
}

// Fresh noise for N elements from `first` on: the given numbers, or a block of four of the generator, of which N = 1 uses
// one.
template <int N> static __device__ __forceinline__ void fresh_noise(const SamplerStepParams &p, unsigned first, int step, float (&z)[N]) {
    if (p.z != nullptr) {
        load_floats<N>(p.z + first, z);
        return;
    }
    const unsigned n = first / p.length, element = first - n * p.length;
    float block[4];
    philox_normals(philox_stream_key(p.seed[0], p.seed[1], p.purpose), p.images[n], (unsigned)step, element / 4, block);
    if (N == 4) {
#pragma unroll
        for (int i = 0; i < N; ++i) z[i] = block[i];
    } else {
        const unsigned at = element % 4;
        z[0] = at < 2 ? (at == 0 ? block[0] : block[1]) : (at == 2 ? block[2] : block[3]);
    }
}

template <int N> static __device__ __forceinline__ void update(const SamplerStepParams &p, unsigned first, int step) {
    const float *row = p.table + 10 * (unsigned long long)min((unsigned)max(step, 0), p.rows - 1);
    const float recip = row[0], recip_m1 = row[1], sample = row[2], direction = row[3], keep = row[4], noise = row[5];
    const float guidance = row[6], learned = row[7], log_posterior = row[8], log_beta = row[9];

    const unsigned pixel = first / p.channels;
    const T *prediction = static_cast<const T *>(p.prediction) + (unsigned long long)pixel * p.wide + (first - pixel * p.channels);
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
    if (p.z != nullptr || p.seed != nullptr) {
        float z[N];
        fresh_noise<N>(p, first, step, z);
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

template <int N> static __device__ __forceinline__ void sampler_step(const SamplerStepParams &p) {
    const unsigned long long first = (blockIdx.x * 256ull + threadIdx.x) * N;
    const int step = *p.counter;
    if (first < p.count) update<N>(p, (unsigned)first, step);
    if (arrives_last(p.arrived, gridDim.x) && threadIdx.x == 0) *p.counter = (int)((unsigned)step + 1u);
}

// 4 divides channels, wide and half, and length where fresh noise is drawn here.
extern "C" __global__ void __launch_bounds__(256) sampler_step_4(const SamplerStepParams p) { sampler_step<4>(p); }
// Any extents.
extern "C" __global__ void __launch_bounds__(256) sampler_step_any(const SamplerStepParams p) { sampler_step<1>(p); }
