// y = sums of x over some of its axes, in f32; T (-DT) is the type of x.
//
// x is seen as rows of `inner` neighbouring elements. `outer` counts the rows that are kept apart, `rows` those that are
// added up. Each of the two counts is one axis or two (the inner one of extent `*_inner`), with strides in elements.
//
// Splits      block y of a sum adds its part of the rows and stores it to its own `outputs` floats of `partial`; the block of
//             the sum that arrives last adds the parts. Their number depends on the length of the sum alone, so that a
//             sample's sum does not depend on the batch.
// Order       each thread in the order of the rows, then threads by halving; splits likewise: results repeat to the bit.
// Traffic     reads x once, writes y once; with splits writes and reads 4 bytes per split and result.
// Overwrites  y. The counters in `arrived` start at 0 and are 0 again afterwards.
#include "common/jobs.cuh"
#include "common/last_block.cuh"
#include "common/reduce.cuh"
#include "common/types.cuh"

struct SumToParams {
    const void *x;
    float *y;
    float *partial;     // [splits, outputs]; unused with one split
    unsigned *arrived;  // [gridDim.x] counters
    unsigned inner;     // elements of a row
    unsigned outer;     // rows that are kept apart
    unsigned outer_inner;       // extent of the inner one of their two axes
    unsigned outer_strides[2];  // inner axis first
    unsigned rows;              // rows that are added up
    unsigned rows_inner;        // extent of the inner one of their two axes
    unsigned row_strides[2];    // inner axis first
    unsigned per_split;  // sum_columns: rows of a split; sum_rows: accesses of a split
    unsigned outputs;    // results
    unsigned lanes;      // sum_columns: threads along `inner`; sum_rows: threads of a sum; a power of two
};

static constexpr int VECTOR = 16 / sizeof(T);

static __device__ __forceinline__ unsigned long long offset(unsigned index, unsigned inner, const unsigned (&strides)[2]) {
    const unsigned outer = index / inner;
    return (unsigned long long)(index - outer * inner) * strides[0] + (unsigned long long)outer * strides[1];
}

// Stores N floats, 16 bytes at a time where N is a multiple of 4.
template <int N> static __device__ __forceinline__ void store_sums(float *to, const float (&sum)[N]) {
    if constexpr (N % 4 == 0) {
        float4 *fours = reinterpret_cast<float4 *>(to);
#pragma unroll
        for (int i = 0; i < N; i += 4) fours[i / 4] = make_float4(sum[i], sum[i + 1], sum[i + 2], sum[i + 3]);
    } else {
#pragma unroll
        for (int i = 0; i < N; ++i) to[i] = sum[i];
    }
}

// Adds the sums that another block stored to `sum`.
template <int N> static __device__ __forceinline__ void add_part(float (&sum)[N], const float *part) {
    if constexpr (N % 4 == 0) {
        const float4 *fours = reinterpret_cast<const float4 *>(part);
#pragma unroll
        for (int i = 0; i < N; i += 4) {
            const float4 v = __ldcg(fours + i / 4);
            sum[i] += v.x, sum[i + 1] += v.y, sum[i + 2] += v.z, sum[i + 3] += v.w;
        }
    } else {
#pragma unroll
        for (int i = 0; i < N; ++i) sum[i] += __ldcg(part + i);
    }
}

// Adds the sums of all threads of a lane into those of the lane's thread in row 0.
template <int N> static __device__ __forceinline__ void add_rows(float (&sum)[N], const SumToParams &p) {
    __shared__ float shared[N * 256];
    const unsigned row = threadIdx.x / p.lanes;
    for (unsigned half = 128 / p.lanes; half > 0; half /= 2) {
        __syncthreads();
        if (row >= half && row < 2 * half) {
#pragma unroll
            for (int i = 0; i < N; ++i) shared[i * 256 + threadIdx.x] = sum[i];
        }
        __syncthreads();
        if (row < half) {
#pragma unroll
            for (int i = 0; i < N; ++i) sum[i] += shared[i * 256 + threadIdx.x + half * p.lanes];
        }
    }
}

// y[o][c] = sum over rows r of x[o, r, c]: `inner` is kept.
template <int N> static __device__ __forceinline__ void columns(const SumToParams &p) {
    const unsigned lane = threadIdx.x & (p.lanes - 1), row = threadIdx.x / p.lanes, height = 256 / p.lanes;
    const unsigned tiles = (p.inner + p.lanes * N - 1) / (p.lanes * N);
    const unsigned o = blockIdx.x / tiles, column = ((blockIdx.x - o * tiles) * p.lanes + lane) * N;
    const unsigned begin = blockIdx.y * p.per_split;
    const unsigned end = min(begin + p.per_split, p.rows);
    float sum[N] = {};
    if (column < p.inner) {
        const T *x = static_cast<const T *>(p.x) + offset(o, p.outer_inner, p.outer_strides) + column;
        unsigned r = begin + row;
        // Four loads in flight before the first is needed.
        for (; r + 3 * height < end; r += 4 * height) {
            float v[4][N];
#pragma unroll
            for (int k = 0; k < 4; ++k) load_floats<N>(x + offset(r + k * height, p.rows_inner, p.row_strides), v[k]);
#pragma unroll
            for (int i = 0; i < N; ++i) sum[i] += (v[0][i] + v[1][i]) + (v[2][i] + v[3][i]);
        }
        for (; r < end; r += height) {
            float v[N];
            load_floats<N>(x + offset(r, p.rows_inner, p.row_strides), v);
#pragma unroll
            for (int i = 0; i < N; ++i) sum[i] += v[i];
        }
    }
    add_rows<N>(sum, p);
    const unsigned long long at = (unsigned long long)o * p.inner + column;
    if (gridDim.y > 1) {
        if (row == 0 && column < p.inner)
            store_sums<N>(p.partial + (unsigned long long)blockIdx.y * p.outputs + at, sum);
        if (!arrives_last(p.arrived + blockIdx.x, gridDim.y)) return;
#pragma unroll
        for (int i = 0; i < N; ++i) sum[i] = 0.0f;
        if (column < p.inner) {
            for (unsigned split = row; split < gridDim.y; split += height)
                add_part<N>(sum, p.partial + (unsigned long long)split * p.outputs + at);
        }
        add_rows<N>(sum, p);
    }
    if (row == 0 && column < p.inner) store_sums<N>(p.y + at, sum);
}

// VECTOR divides `inner` and all strides; y and partial start on 16 bytes.
// Launch      grid (outer * ceil(inner / (lanes VECTOR)), splits), block 256, 256 VECTOR floats of static shared memory.
// Registers <= 64
extern "C" __global__ void __launch_bounds__(256) sum_columns(const SumToParams p) { columns<VECTOR>(p); }

// Any extents.
// Launch      grid (outer * ceil(inner / lanes), splits), block 256, 1 KiB of static shared memory.
// Registers <= 48
extern "C" __global__ void __launch_bounds__(256) sum_columns_any(const SumToParams p) { columns<1>(p); }

// y[o] = sum of x[o, r, c] over all r and c: `inner` is summed too. `lanes` threads take one sum: at most a warp, or the
// whole block. Only sums of whole blocks have splits.
template <int N> static __device__ __forceinline__ void rows(const SumToParams &p) {
    __shared__ float scratch[32];
    const unsigned lane = threadIdx.x & (p.lanes - 1);
    const unsigned o = blockIdx.x * (256 / p.lanes) + threadIdx.x / p.lanes;
    const unsigned per_row = (p.inner + N - 1) / N;
    const unsigned begin = blockIdx.y * p.per_split;
    const unsigned end = min(begin + p.per_split, p.rows * per_row);
    float sum = 0.0f;
    if (o < p.outputs) {
        const T *x = static_cast<const T *>(p.x) + offset(o, p.outer_inner, p.outer_strides);
        for (unsigned i = begin + lane; i < end; i += p.lanes) {
            const unsigned row = i / per_row, at = (i - row * per_row) * N;
            const T *from = x + offset(row, p.rows_inner, p.row_strides) + at;
            if (at + N <= p.inner) {
                float v[N];
                load_floats<N>(from, v);
                float part = v[0];
#pragma unroll
                for (int k = 1; k < N; ++k) part += v[k];
                sum += part;
            } else {
                for (unsigned k = 0; k < p.inner - at; ++k) sum += to_float(from[k]);
            }
        }
    }
    if (p.lanes > 32) {
        sum = block_sum(sum, scratch);
    } else {
        for (unsigned half = p.lanes / 2; half > 0; half /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, half);
    }
    if (gridDim.y > 1) {
        if (lane == 0) p.partial[(unsigned long long)blockIdx.y * p.outputs + o] = sum;
        if (!arrives_last(p.arrived + blockIdx.x, gridDim.y)) return;
        sum = 0.0f;
        for (unsigned split = lane; split < gridDim.y; split += 256)
            sum += __ldcg(p.partial + (unsigned long long)split * p.outputs + o);
        sum = block_sum(sum, scratch);
    }
    if (lane == 0 && o < p.outputs) p.y[o] = sum;
}

// VECTOR divides the strides, or there is one row.
// Launch      grid (ceil(outputs / (256 / lanes)), splits), block 256, 128 bytes of static shared memory.
// Registers <= 48
extern "C" __global__ void __launch_bounds__(256) sum_rows(const SumToParams p) { rows<VECTOR>(p); }

// Any extents.
// Launch      grid (ceil(outputs / (256 / lanes)), splits), block 256, 128 bytes of static shared memory.
// Registers <= 40
extern "C" __global__ void __launch_bounds__(256) sum_rows_any(const SumToParams p) { rows<1>(p); }

// y[c] = sum of x[r, c] over few rows, in their order, for any number of arrays.
//
// Shapes      x [rows, columns] of T, y [columns].
// Launch      ceil(columns / 256) blocks for each array, block 256.
// Registers <= 40
struct SumFewRowsParams {
    const void *x;
    float *y;
    int rows;
    int columns;
};

extern "C" __global__ void __launch_bounds__(256) sum_few_rows(const JobsParams jobs) {
    unsigned block;
    const SumFewRowsParams &p = job_of_block<SumFewRowsParams>(jobs, block);
    const int column = block * 256 + threadIdx.x;
    if (column >= p.columns) return;
    const T *x = static_cast<const T *>(p.x) + column;
    float sum = 0.0f;
#pragma unroll 8
    for (int row = 0; row < p.rows; ++row) sum += to_float(x[(long long)row * p.columns]);
    p.y[column] = sum;
}
