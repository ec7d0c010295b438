// Shared by attention on tensor cores and its gradient: tiles of a head's rows in shared memory, and fragments in
// registers. Compiled with T, and D = the head's channels rounded up to 16; blocks of 128 threads.
//
// Rows in shared memory are D + 8 elements apart, an odd number of 16-byte chunks, so that the 8 rows of an ldmatrix use
// every bank once.
#pragma once
#include "common/mma.cuh"
#include "common/types.cuh"

constexpr int STRIDE = D + 8;
constexpr float LOG2_E = 1.4426950408889634f;

// Starts an asynchronous copy of ROWS rows of a head. `rows` of them exist; the others, and channels from d on, become zeros.
template <int ROWS>
__device__ __forceinline__ void copy_rows(T *tile, const T *from, int rows, int channels, int d) {
    constexpr int CHUNKS = D / 8; // of 16 bytes in a row
#pragma unroll
    for (int i = threadIdx.x; i < ROWS * CHUNKS; i += 128) {
        const int row = i / CHUNKS, c = i % CHUNKS * 8;
        const bool present = row < rows && c < d;
        const T *source = present ? from + static_cast<long long>(row) * channels + c : from;
        cp_async_16(shared_address(tile + row * STRIDE + c), source, present);
    }
    cp_async_commit();
}

// The address that this lane passes to an ldmatrix of the 16 x 16 elements at `row`, `column`: matrices 0 and 1 are rows 0-7
// and 8-15 of the low 8 columns, matrices 2 and 3 those of the high columns.
static __device__ __forceinline__ unsigned fragment_address(const T *tile, int row, int column) {
    const int lane = threadIdx.x & 31;
    return shared_address(tile + (row + (lane & 15)) * STRIDE + column + (lane >> 4) * 8);
}

// Two neighbouring elements of a row as one register of a fragment, and back.
static __device__ __forceinline__ unsigned packed(float low, float high) {
    return static_cast<unsigned>(from_float<T>(low).bits) | static_cast<unsigned>(from_float<T>(high).bits) << 16;
}

static __device__ __forceinline__ float2 unpacked(unsigned pair) {
    T low, high;
    low.bits = static_cast<unsigned short>(pair);
    high.bits = static_cast<unsigned short>(pair >> 16);
    return make_float2(to_float(low), to_float(high));
}

static __device__ __forceinline__ float exp2_approx(float v) {
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
    return r;
}

// Sum and maximum over the four lanes that share the rows of an accumulator.
static __device__ __forceinline__ float quad_sum(float v) {
    v += __shfl_xor_sync(0xffffffffu, v, 1);
    return v + __shfl_xor_sync(0xffffffffu, v, 2);
}

static __device__ __forceinline__ float quad_max(float v) {
    v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 1));
    return fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 2));
}

// Clears accumulators.
template <int N> __device__ __forceinline__ void clear(float (&sums)[N][4]) {
#pragma unroll
    for (int n = 0; n < N; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) sums[n][e] = 0.0f;
    }
}

// Stores the two rows that a lane has of its warp's 16, times `factor`. `rows` of the 16 exist.
static __device__ __forceinline__ void store_fragments(T *to, const float (&sums)[D / 8][4], float factor, int rows,
                                                       int channels, int d) {
    const int g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int row = g + 8 * half;
        if (row >= rows) continue;
        unsigned *pairs = reinterpret_cast<unsigned *>(to + static_cast<long long>(row) * channels);
#pragma unroll
        for (int c = 0; c < D / 8; ++c) {
            if (c * 8 < d) pairs[c * 4 + t] = packed(sums[c][2 * half] * factor, sums[c][2 * half + 1] * factor);
        }
    }
}
