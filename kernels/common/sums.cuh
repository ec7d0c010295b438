// Sums of many terms in two passes of fixed order: one block per 4096 terms stores an f64 partial sum, then one block adds
// the partial sums of a row. Terms are f32; a thread adds 16 of them in f32, and everything after that is f64.
#pragma once

constexpr int SUM_THREADS = 256;
constexpr int SUM_TERMS = 16;
constexpr int SUM_CHUNK = SUM_THREADS * SUM_TERMS;

// Sum over the block, returned to all its threads; `scratch` holds 32 doubles of shared memory. Like `block_sum` of floats.
static __device__ __forceinline__ double block_sum(double v, double *scratch) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) v += __shfl_xor_sync(0xffffffffu, v, offset);
    __syncthreads();
    if ((threadIdx.x & 31) == 0) scratch[threadIdx.x >> 5] = v;
    __syncthreads();
    const int warps = blockDim.x >> 5;
    const int lane = threadIdx.x & 31;
    v = lane < warps ? scratch[lane] : 0.0;
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) v += __shfl_xor_sync(0xffffffffu, v, offset);
    return v;
}

// The sum of `term(i)` over chunk `chunk` of 0..count, written to `partial` by SUM_THREADS threads.
template <typename Term>
static __device__ __forceinline__ void sum_chunk(unsigned long long count, unsigned chunk, double *partial, Term term) {
    __shared__ double scratch[32];
    const unsigned long long first = (unsigned long long)chunk * SUM_CHUNK + threadIdx.x;
    float sum = 0.0f;
#pragma unroll 4
    for (int k = 0; k < SUM_TERMS; ++k) {
        const unsigned long long i = first + k * SUM_THREADS;
        if (i < count) sum += term(i);
    }
    const double total = block_sum((double)sum, scratch);
    if (threadIdx.x == 0) *partial = total;
}

// y[r] = factor * sum of partials[r, :]
//
// Shapes      partials: [rows, count] f64; y: [rows] f32.
// Launch      grid rows, block 256.
// Traffic     reads 8 rows count bytes, writes 4 rows; overwrites y.
// Order       thread t adds partials t, t + 256, …; then lanes and warps by halves.
// Takes       any count.
// Registers <= 32
struct SumPartialsParams {
    const double *partials;  // [rows, count]
    float *y;                // [rows]
    double factor;
    unsigned count;  // partial sums of a row
};

extern "C" __global__ void __launch_bounds__(SUM_THREADS) sum_partials(const SumPartialsParams p) {
    __shared__ double scratch[32];
    const double *row = p.partials + (unsigned long long)blockIdx.x * p.count;
    double sum = 0.0;
    for (unsigned i = threadIdx.x; i < p.count; i += SUM_THREADS) sum += row[i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) p.y[blockIdx.x] = (float)(p.factor * sum);
}
