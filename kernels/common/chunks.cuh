// Kernels over many arrays in one launch: a table has one row per block, and a row names a piece of one step's arrays, so
// that blocks have about equal work however the arrays' sizes differ. Pieces are multiples of four elements but for the
// last of an array and start on 16 bytes.
#pragma once

#include "common/types.cuh"

// The row of a step with ARRAYS arrays of f32.
template <int ARRAYS> struct Piece {
    float *array[ARRAYS];
    unsigned long long count;
};

// Calls `f(values)` for every element of the block's piece, values[k] being the element of array k, and stores what
// it leaves in those arrays whose bit is set in STORED.
template <int ARRAYS, unsigned STORED, typename F>
static __device__ __forceinline__ void for_piece(const Piece<ARRAYS> *pieces, F f) {
    const Piece<ARRAYS> piece = pieces[blockIdx.x];
    const unsigned count = (unsigned)piece.count;
    const unsigned fours = count / 4;
    for (unsigned i = threadIdx.x; i < fours; i += blockDim.x) {
        float four[ARRAYS][4];
#pragma unroll
        for (int k = 0; k < ARRAYS; ++k) load_floats<4>(piece.array[k] + 4 * i, four[k]);
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
            if (STORED >> k & 1) store_floats<4>(piece.array[k] + 4 * i, four[k]);
    }
    const unsigned i = 4 * fours + threadIdx.x;
    if (i < count) {
        float values[ARRAYS];
#pragma unroll
        for (int k = 0; k < ARRAYS; ++k) values[k] = piece.array[k][i];
        f(values);
#pragma unroll
        for (int k = 0; k < ARRAYS; ++k)
            if (STORED >> k & 1) piece.array[k][i] = values[k];
    }
}
