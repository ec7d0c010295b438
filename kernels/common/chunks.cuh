// Multi-tensor apply: one launch updates many arrays. A table has one row per block, and a row names a chunk of the arrays
// of one step, so that blocks have about equal work however much the arrays' sizes differ. Chunks start on 16 bytes, and all
// but the last of an array are multiples of four elements.
#pragma once

#include "common/types.cuh"

// A row of the table, for steps with ARRAYS arrays of f32.
template <int ARRAYS> struct Chunk {
    float *array[ARRAYS];
    unsigned long long count;
};

// Calls `f(values)` for every element of the block's chunk, where values[k] is the element of array k. Stores the values that
// `f` leaves to the arrays whose bit is set in STORED.
template <int ARRAYS, unsigned STORED, typename F>
static __device__ __forceinline__ void for_chunk(const Chunk<ARRAYS> *chunks, F f) {
    const Chunk<ARRAYS> chunk = chunks[blockIdx.x];
    const unsigned count = (unsigned)chunk.count;
    const unsigned fours = count / 4;
    for (unsigned i = threadIdx.x; i < fours; i += blockDim.x) {
        float four[ARRAYS][4];
#pragma unroll
        for (int k = 0; k < ARRAYS; ++k) load_floats<4>(chunk.array[k] + 4 * i, four[k]);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            float values[ARRAYS];
#pragma unroll
            for (int k = 0; k < ARRAYS; ++k) values[k] = four[k][j];
            f(values);
#pragma unroll
            for (int k = 0; k < ARRAYS; ++k) four[k][j] = values[k];
        }
#pragma unroll
        for (int k = 0; k < ARRAYS; ++k)
            if (STORED >> k & 1) store_floats<4>(chunk.array[k] + 4 * i, four[k]);
    }
    const unsigned i = 4 * fours + threadIdx.x;
    if (i < count) {
        float values[ARRAYS];
#pragma unroll
        for (int k = 0; k < ARRAYS; ++k) values[k] = chunk.array[k][i];
        f(values);
#pragma unroll
        for (int k = 0; k < ARRAYS; ++k)
            if (STORED >> k & 1) chunk.array[k][i] = values[k];
    }
}
