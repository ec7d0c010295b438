// Linear maps of few rows, such as embeddings, whose time is that of reading the matrix.
//
// Compiled with T, the type of x, y and their gradients; VEC: 4 where 4 divides the inputs, else 1.
#include "common/reduce.cuh"
#include "common/types.cuh"

struct LinearRowsParams {
    const void *x;         // T [rows, inputs]; dy [rows, outputs] for the gradient
    const float *matrix;   // f32 [outputs, inputs]
    const float *bias;     // f32 [outputs] or null
    const void *residual;  // T like y, or null
    void *y;               // T [rows, outputs]; dx [rows, inputs] for the gradient
    int rows;
    int inputs;
    int outputs;
};

// Rows that share one reading of the matrix.
constexpr int ROWS = 8;
constexpr int WARPS = 8;

// y[r, o] = sum_i x[r, i] matrix[o, i] (+ bias[o]) (+ residual[r, o]): one warp per output.
//
// Launch      grid (ceil(outputs / 8), ceil(rows / 8)), block 256, no shared memory.
// Traffic     reads the matrix once per 8 rows, x once per output (from L1 and L2); overwrites y.
// Order       a lane adds its inputs in ascending order, then lanes are added as a tree: the same for any row count.
// Takes       every size.
// Registers <= 64
extern "C" __global__ void __launch_bounds__(32 * WARPS) linear_rows(const LinearRowsParams p) {
    const int output = blockIdx.x * WARPS + threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
    const int first = blockIdx.y * ROWS;
    const int rows = min(ROWS, p.rows - first);
    if (output >= p.outputs) return;

    const T *x = static_cast<const T *>(p.x) + (long long)first * p.inputs;
    const float *matrix = p.matrix + (long long)output * p.inputs;
    float sums[ROWS] = {};
    for (int i = lane * VEC; i < p.inputs; i += 32 * VEC) {
        float w[VEC];
        load_floats<VEC>(matrix + i, w);
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            if (r >= rows) break;
            float v[VEC];
            load_floats<VEC>(x + (long long)r * p.inputs + i, v);
#pragma unroll
            for (int k = 0; k < VEC; ++k) sums[r] = fmaf(v[k], w[k], sums[r]);
        }
    }

    // Lane r ends with row r.
    float mine = 0.0f;
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        if (r >= rows) break;
        const float sum = warp_sum(sums[r]);
        if (lane == r) mine = sum;
    }
    if (lane >= rows) return;
    const long long at = (long long)(first + lane) * p.outputs + output;
    if (p.bias) mine += p.bias[output];
    if (p.residual) mine += to_float(static_cast<const T *>(p.residual)[at]);
    static_cast<T *>(p.y)[at] = from_float<T>(mine);
}

// dx[r, i] = sum_o dy[r, o] matrix[o, i] (+ residual[r, i]): a lane per input; 8 warps share the outputs.
//
// Launch      grid (ceil(inputs / 32), ceil(rows / 8)), block 256, static shared memory 8 KiB.
// Traffic     reads the matrix once per 8 rows, dy once per 32 inputs; overwrites dx.
// Order       a warp adds every eighth output in ascending order, then the warps' sums are added first to last.
// Takes       every size.
// Registers <= 64
extern "C" __global__ void __launch_bounds__(32 * WARPS) linear_rows_input_grad(const LinearRowsParams p) {
    __shared__ float parts[WARPS][ROWS][32];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int input = blockIdx.x * 32 + lane;
    const int first = blockIdx.y * ROWS;
    const int rows = min(ROWS, p.rows - first);
    const T *dy = static_cast<const T *>(p.x) + (long long)first * p.outputs;

    float sums[ROWS] = {};
    if (input < p.inputs) {
        for (int output = warp; output < p.outputs; output += WARPS) {
            const float w = p.matrix[(long long)output * p.inputs + input];
#pragma unroll
            for (int r = 0; r < ROWS; ++r) {
                if (r >= rows) break;
                sums[r] = fmaf(to_float(dy[(long long)r * p.outputs + output]), w, sums[r]);
            }
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; ++r) parts[warp][r][lane] = sums[r];
    __syncthreads();

    // Warp r adds up row r.
    if (warp >= rows || input >= p.inputs) return;
    float sum = 0.0f;
#pragma unroll
    for (int part = 0; part < WARPS; ++part) sum += parts[part][warp][lane];
    const long long at = (long long)(first + warp) * p.inputs + input;
    if (p.residual) sum += to_float(static_cast<const T *>(p.residual)[at]);
    static_cast<T *>(p.y)[at] = from_float<T>(sum);
}
