// Adds noise to training samples by time step, and the loss of a learned variance.
#include "common/sums.cuh"

// y[n] = table[t, 0] x_0[n] + table[t, 1] noise[n] with t = t[n]; x_0[n] for t < 0, noise[n] for t >= rows.
//
// Shapes      x_0, noise, y: [N, len] f32; table: [rows, 2] f32; t: [N] i32.
// Launch      grid (ceil(len / 1024), N), block 256.
// Traffic     reads 8 N len bytes, writes 4 N len; overwrites y.
// Takes       any len, N below 65536.
// Registers <= 32
struct AddNoiseParams {
    const float *x_0;
    const float *noise;
    const float *table;
    const int *t;
    float *y;
    unsigned long long len;
    int rows;
};

extern "C" __global__ void __launch_bounds__(256) add_noise(const AddNoiseParams p) {
    const int t = p.t[blockIdx.y];
    const bool clean = t < 0, pure = t >= p.rows;
    const float signal = clean || pure ? 0.0f : p.table[2 * t];
    const float share = clean || pure ? 0.0f : p.table[2 * t + 1];
    const unsigned long long sample = blockIdx.y * p.len;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        const unsigned long long i = blockIdx.x * 1024ull + k * 256 + threadIdx.x;
        if (i >= p.len) break;
        const float x_0 = p.x_0[sample + i], noise = p.noise[sample + i];
        p.y[sample + i] = clean ? x_0 : pure ? noise : signal * x_0 + share * noise;
    }
}

// One row of the schedule and whether it is time step 0; NaN outside the table.
struct ScheduleRow {
    bool first;
    float log_posterior, log_beta, coef1;

    __device__ ScheduleRow(const float *table, int rows, int t) {
        const bool inside = t >= 0 && t < rows;
        const float nan = __int_as_float(0x7fc00000);
        first = t == 0;
        log_posterior = inside ? table[3 * t] : nan;
        log_beta = inside ? table[3 * t + 1] : nan;
        coef1 = inside ? table[3 * t + 2] : nan;
    }

    __device__ float logvar(float variance) const {
        const float v = 0.5f * (variance + 1.0f);
        return v * log_beta + (1.0f - v) * log_posterior;
    }
};

// ln max(exp(l), 1e-6) = max(l, ln 1e-6); NaN stays NaN.
static __device__ __forceinline__ float floored(float logvar) {
    const float least = -13.815510558f;
    return logvar < least ? least : logvar;
}

// partials[n, k] = sum over chunk k of sample n of the loss (src/ops/forward_process/mod.rs has the formula);
// `sum_partials` then gives the mean.
//
// Shapes      variance, x_0, estimate: [N, len] f32; table: [rows, 3] f32; t: [N] i32;
//             partials: [N, ceil(len / 4096)] f64.
// Launch      grid (ceil(len / 4096), N), block 256.
// Traffic     reads 12 N len bytes.
// Order       as common/sums.cuh says, sample after sample.
// Takes       any len, N below 65536.
// Registers <= 40
struct VarianceLossParams {
    const float *variance;
    const float *x_0;
    const float *estimate;
    const float *table;
    const int *t;
    double *partials;
    unsigned long long len;
    int rows;
};

extern "C" __global__ void __launch_bounds__(SUM_THREADS) variance_loss(const VarianceLossParams p) {
    const ScheduleRow row(p.table, p.rows, p.t[blockIdx.y]);
    const unsigned long long sample = blockIdx.y * p.len;
    double *partial = p.partials + (unsigned long long)blockIdx.y * gridDim.x + blockIdx.x;
    sum_chunk(p.len, blockIdx.x, partial, [&](unsigned long long i) {
        const float logvar = row.logvar(p.variance[sample + i]);
        const float difference = p.estimate[sample + i] - p.x_0[sample + i];
        if (row.first) {
            const float log = floored(logvar);
            return 0.5f * (log + difference * difference * expf(-log));
        }
        const float mean = row.coef1 * difference;
        const float ratio = row.log_posterior - logvar;
        return 0.5f * (expf(ratio) - ratio - 1.0f + mean * mean * expf(-logvar));
    });
}

// Derivatives of the mean loss with respect to variance and estimate, times dy.
//
// Shapes      as variance_loss; dvariance, destimate: [N, len] f32; dy: a scalar; inverse_count = 1 / (N len).
// Launch      grid (ceil(len / 256), N), block 256.
// Traffic     reads 12 N len bytes, writes 8 N len; overwrites both results.
// Takes       any len, N below 65536.
// Registers <= 40
struct VarianceLossGradParams {
    const float *variance;
    const float *x_0;
    const float *estimate;
    const float *table;
    const int *t;
    const float *dy;
    float *dvariance;
    float *destimate;
    unsigned long long len;
    int rows;
    float inverse_count;
};

extern "C" __global__ void __launch_bounds__(256) variance_loss_grad(const VarianceLossGradParams p) {
    const unsigned long long i = blockIdx.x * 256ull + threadIdx.x;
    if (i >= p.len) return;
    const ScheduleRow row(p.table, p.rows, p.t[blockIdx.y]);
    const unsigned long long at = blockIdx.y * p.len + i;
    const float scale = *p.dy * p.inverse_count;
    const float logvar = row.logvar(p.variance[at]);
    const float difference = p.estimate[at] - p.x_0[at];
    float by_log, by_estimate;
    if (row.first) {
        const float log = floored(logvar);
        const float inverse = expf(-log);
        by_log = 0.5f * expf(logvar - log) * (1.0f - difference * difference * inverse);
        by_estimate = difference * inverse;
    } else {
        const float mean = row.coef1 * difference;
        by_log = 0.5f * (1.0f - expf(row.log_posterior - logvar) - mean * mean * expf(-logvar));
        by_estimate = 0.0f;
    }
    p.dvariance[at] = scale * by_log * (0.5f * (row.log_beta - row.log_posterior));
    p.destimate[at] = scale * by_estimate;
}
