// Updates weights, any number of arrays in one launch: Adam and AdamW, and the moving average.
#include "common/chunks.cuh"

// x to the power n >= 0 by squaring.
static __device__ double power(double x, int n) {
    double y = 1.0;
    for (; n > 0; n >>= 1) {
        if (n & 1) y *= x;
        x *= x;
    }
    return y;
}

// One Adam step (src/ops/optimizer/mod.rs has the formula) on every array of the table; nothing if *gate is 0.
//
// Shapes      a chunk is p, grad, m, v of `count` f32; learning_rate, clip, gate: scalars; step: [1] i32. clip and gate
//             may be null.
// Launch      grid chunks, block 256.
// Traffic     reads 16 bytes per element, writes 12; updates p, m and v in place.
// Order       elements are independent. One thread of a block computes the bias corrections in f64.
// Takes       any counts below 2^32 per chunk.
// Registers <= 64
struct AdamParams {
    const Chunk<4> *chunks;  // one per block
    const float *learning_rate;
    const int *step;
    const float *clip;
    const float *gate;
    double beta1;
    double beta2;
    double weight_decay;
    float eps;
    int decoupled;  // 1: AdamW
};

extern "C" __global__ void __launch_bounds__(256) adam(const AdamParams q) {
    if (q.gate && *q.gate == 0.0f) return;
    __shared__ float keep, step_size, root;
    if (threadIdx.x == 0) {
        const double lr = *q.learning_rate;
        const int done = *q.step;
        const int n = done == 0x7fffffff ? done : done + 1;
        keep = q.decoupled ? (float)(1.0 - lr * q.weight_decay) : 1.0f;
        step_size = (float)(lr / (1.0 - power(q.beta1, n)));
        root = (float)sqrt(1.0 - power(q.beta2, n));
    }
    __syncthreads();
    const float clip = q.clip ? *q.clip : 1.0f;
    const float couple = q.decoupled ? 0.0f : (float)q.weight_decay;
    const float toward = (float)(1.0 - q.beta1);
    const float beta2 = (float)q.beta2, square = (float)(1.0 - q.beta2);
    for_chunk<4, 0b1101>(q.chunks, [&](float (&values)[4]) {
        const float p = values[0];
        const float g = clip * values[1] + couple * p;
        const float m = values[2] + toward * (g - values[2]);
        const float v = beta2 * values[3] + square * g * g;
        values[0] = keep * p - step_size * (m / (sqrtf(v) / root + q.eps));
        values[2] = m;
        values[3] = v;
    });
}

// For every pair (average, p) of the table: average = decay average + (1 - decay) p; nothing if *gate is 0. s = max(0, n - 1)
// is the number of averages before: decay = 0 for s = 0, else clamp(1 - (1 + s)^-power, 0, max_decay).
//
// Shapes      a chunk is average, p of `count` f32; gate: a scalar or null; step: [1] i32, holding n.
// Launch      grid chunks, block 256.
// Traffic     reads 8 bytes per element, writes 4; updates the average in place.
// Order       elements are independent. One thread of a block computes the decay in f64.
// Takes       any counts below 2^32 per chunk.
// Registers <= 64
struct EmaParams {
    const Chunk<2> *chunks;  // one per block
    const int *step;
    const float *gate;
    double max_decay;
    double power;
};

extern "C" __global__ void __launch_bounds__(256) ema(const EmaParams q) {
    if (q.gate && *q.gate == 0.0f) return;
    __shared__ float decay, share;
    if (threadIdx.x == 0) {
        const double s = (double)*q.step - 1.0;
        const double d = s > 0.0 ? fmin(fmax(1.0 - pow(1.0 + s, -q.power), 0.0), q.max_decay) : 0.0;
        decay = (float)d;
        share = (float)(1.0 - d);
    }
    __syncthreads();
    for_chunk<2, 0b01>(q.chunks, [&](float (&values)[2]) {
        // The first average may find anything in its memory, even NaN.
        values[0] = decay == 0.0f ? values[1] : decay * values[0] + share * values[1];
    });
}
