// y = sums of x over some of its axes, in f32; T (-DT) is the type of x.
//
// x is seen as rows of `inner` neighbouring elements. `outer` and `rows` count the rows that are kept apart and those
// that are added up; each of the two is one axis or two (the inner one of extent `*_inner`), with strides in elements.
// With y for x and splits for rows the column kernel also adds up partial sums.
//
// Splits      blockIdx.y takes its part of the sum and writes to its own `outputs` floats of y. Their number depends
//             on the length of the sum alone, so that a sample's sum doesn't depend on the batch.
// Order       each thread in the order of the rows, then threads by halving: repeats to the bit.
// Traffic     reads x once, writes y once; overwrites y. No atomics.
#include "common/reduce.cuh"
#include "common/types.cuh"

struct SumToParams {
    const void *x;
    float *y;
    unsigned inner;
    unsigned outer;
    unsigned outer_inner;
    unsigned outer_strides[2];
    unsigned rows;
    unsigned rows_inner;
    unsigned row_strides[2];
    // Columns: rows of a split. Rows: accesses of a split.
    unsigned per_split;
    unsigned outputs;
    // Threads beside each other along `inner`, or threads of one sum; a power of two.
    unsigned lanes;
};

static constexpr int VECTOR = 16 / sizeof(T);

static __device__ __forceinline__ unsigned long long offset(unsigned index, unsigned inner, const unsigned (&strides)[2]) {
    const unsigned outer = index / inner;
    return (unsigned long long)(index - outer * inner) * strides[0] + (unsigned long long)outer * strides[1];
}

// y[split][o][c] = sum over the split's rows r of x[o, r, c]: `inner` is kept.
template <int N> static __device__ __forceinline__ void columns(const SumToParams &p) {
    __shared__ float shared[N * 256];
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
    for (unsigned half = height / 2; half > 0; half /= 2) {
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
    if (row == 0 && column < p.inner) {
        float *y = p.y + (unsigned long long)blockIdx.y * p.outputs + (unsigned long long)o * p.inner + column;
#pragma unroll
        for (int i = 0; i < N; ++i) y[i] = sum[i];
    }
}

// `inner` and all strides divide by VECTOR.
// Launch      grid (outer * ceil(inner / (lanes VECTOR)), splits), block 256, 256 VECTOR floats of static shared memory.
// Registers <= 64
extern "C" __global__ void __launch_bounds__(256) sum_columns(const SumToParams p) { columns<VECTOR>(p); }

// Any extents.
// Launch      grid (outer * ceil(inner / lanes), splits), block 256, 1 KiB of static shared memory.
// Registers <= 48
extern "C" __global__ void __launch_bounds__(256) sum_columns_any(const SumToParams p) { columns<1>(p); }

// y[split][o] = sum over the split's part of x[o, r, c] for all r and c: `inner` is summed too. `lanes` threads, at most
// a warp or else the whole block, take one sum.
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
    if (lane == 0 && o < p.outputs) p.y[(unsigned long long)blockIdx.y * p.outputs + o] = sum;
}

// Strides divide by VECTOR, or there is one row.
// Launch      grid (ceil(outputs / (256 / lanes)), splits), block 256, 128 bytes of static shared memory.
// Registers <= 48
extern "C" __global__ void __launch_bounds__(256) sum_rows(const SumToParams p) { rows<VECTOR>(p); }

// Any extents.
// Launch      grid (ceil(outputs / (256 / lanes)), splits), block 256, 128 bytes of static shared memory.
// Registers <= 40
extern "C" __global__ void __launch_bounds__(256) sum_rows_any(const SumToParams p) { rows<1>(p); }
