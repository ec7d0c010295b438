// Cross-entropy of class scores and its gradient. The scores are a few thousand numbers, so one block computes the loss.
#include "common/reduce.cuh"
#include "common/sums.cuh"

constexpr int WARPS = 8;

// Largest score of a row and the sum of exponentials relative to it, returned to the whole warp. The largest ignores NaN,
// the sum does not.
static __device__ __forceinline__ void softmax_parts(const float *row, int classes, float &largest, float &sum) {
    const int lane = threadIdx.x & 31;
    largest = __int_as_float(0xff800000);
    for (int k = lane; k < classes; k += 32) largest = fmaxf(largest, row[k]);
    largest = warp_max(largest);
    sum = 0.0f;
    for (int k = lane; k < classes; k += 32) sum += expf(row[k] - largest);
    sum = warp_sum(sum);
}

// The score of the row's label; NaN for a label that is no class.
static __device__ __forceinline__ float picked(const float *row, int classes, int label) {
    return label >= 0 && label < classes ? row[label] : __int_as_float(0x7fc00000);
}

// loss = mean over rows of ln sum_k exp(z_k) - z_label
//
// Shapes      logits: [rows, classes] f32; labels: [rows] i32; loss: a scalar.
// Launch      grid 1, block 256: a warp per row, rows in turns.
// Traffic     reads 4 rows classes bytes (three times, from the cache); overwrites the loss.
// Order       lanes of a row by halves in f32; a warp's rows in order, then warps by halves, in f64.
// Takes       any rows and classes above 0.
// Registers <= 40
struct CrossEntropyParams {
    const float *logits;
    const int *labels;
    float *loss;
    int rows;
    int classes;
};

extern "C" __global__ void __launch_bounds__(WARPS * 32) cross_entropy(const CrossEntropyParams p) {
    __shared__ double scratch[32];
    double total = 0.0;
    for (int n = threadIdx.x >> 5; n < p.rows; n += WARPS) {
        const float *row = p.logits + (long long)n * p.classes;
        float largest, sum;
        softmax_parts(row, p.classes, largest, sum);
        const float loss = largest - picked(row, p.classes, p.labels[n]) + logf(sum);
        if ((threadIdx.x & 31) == 0) total += loss;
    }
    total = block_sum(total, scratch);
    if (threadIdx.x == 0) *p.loss = (float)(total / p.rows);
}

// dz = dy (softmax(z) - onehot(label)) / rows; a label that is no class makes its row NaN
//
// Shapes      logits, dz: [rows, classes] f32; labels: [rows] i32; dy: a scalar.
// Launch      grid ceil(rows / 8), block 256: a warp per row.
// Traffic     reads and writes 4 rows classes bytes each; overwrites dz.
// Order       lanes by halves.
// Takes       any rows and classes above 0.
// Registers <= 40
struct CrossEntropyGradParams {
    const float *logits;
    const int *labels;
    const float *dy;
    float *dz;
    int rows;
    int classes;
};

extern "C" __global__ void __launch_bounds__(WARPS * 32) cross_entropy_grad(const CrossEntropyGradParams p) {
    const int n = blockIdx.x * WARPS + (threadIdx.x >> 5);
    if (n >= p.rows) return;
    const float *row = p.logits + (long long)n * p.classes;
    float *dz = p.dz + (long long)n * p.classes;
    const int label = p.labels[n];
    float largest, sum;
    softmax_parts(row, p.classes, largest, sum);
    const float scale = *p.dy / p.rows;
    const float valid = 0.0f * picked(row, p.classes, label);
    for (int k = threadIdx.x & 31; k < p.classes; k += 32) {
        const float share = expf(row[k] - largest) / sum;
        dz[k] = scale * (share - (k == label ? 1.0f : 0.0f) + valid);
    }
}
