// Split-K in one launch: sums of fragments over the splits of a product. The grid is (tiles, splits, phases).
#pragma once
#include "common/last_block.cuh"

// Which split and tile a block has. Blocks start in the order of x, then y, and the splits of a tile follow each other, so
// that their sums are added while they are in L2, before much else passes through it. The number is read again where it is
// used: keeping it beside all sums would take more registers than there are.
static __device__ __forceinline__ unsigned number_of_block() {
    unsigned x, y;
    asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(x));
    asm volatile("mov.u32 %0, %%ctaid.y;" : "=r"(y));
    return y * gridDim.x + x;
}

static __device__ __forceinline__ unsigned split_of_block() { return number_of_block() % gridDim.y; }

// The block's tile within its phase.
static __device__ __forceinline__ unsigned tile_of_block() { return number_of_block() / gridDim.y; }

// The block's tile among those of all phases.
static __device__ __forceinline__ size_t sum_of_block() {
    unsigned z;
    asm volatile("mov.u32 %0, %%ctaid.z;" : "=r"(z));
    return z * gridDim.x + tile_of_block();
}

// Stores this block's sums of its tile. The block that arrives last at the tile gets true, and its sums become those over
// all splits, added in the order of the splits; other blocks get false. `partial` is [tile, split, sum] and aligned to 128
// bytes; `arrived` holds a counter for each tile, which starts at 0 and is 0 again afterwards. The first word of `shared` is
// overwritten, and free again for the last block.
template <int THREADS, int M, int N>
static __device__ __forceinline__ bool combine(float (&sums)[M][N][4], float *partial, unsigned *arrived,
                                               unsigned char *shared) {
    const int splits = gridDim.y;
    constexpr int VECTORS = M * N * THREADS;
    static_assert(VECTORS % 8 == 0, "whole lines are discarded");
    const auto parts = [&] {
        return reinterpret_cast<float4 *>(partial) + sum_of_block() * gridDim.y * VECTORS + threadIdx.x;
    };
    float4 *own = parts() + (size_t)split_of_block() * VECTORS;
#pragma unroll
    for (int i = 0; i < M; ++i) {
#pragma unroll
        for (int j = 0; j < N; ++j) {
            const float(&s)[4] = sums[i][j];
            own[(i * N + j) * THREADS] = make_float4(s[0], s[1], s[2], s[3]);
        }
    }
    __syncthreads();
    int *last = reinterpret_cast<int *>(shared);
    if (threadIdx.x == 0) {
        // The barrier and this fence publish the block's sums; the fence behind the counter fetches the others'.
        __threadfence();
        // atomicInc wraps from the last value to 0, ready for the next launch.
        *last = atomicInc(arrived + sum_of_block(), splits - 1) == splits - 1;
        __threadfence();
    }
    __syncthreads();
    if (!*last) return false;
    // Behind this barrier all have read `last`, and it may be overwritten.
    __syncthreads();
    const float4 *of_split = parts();
    for (int split = 0; split < splits; ++split, of_split += VECTORS) {
#pragma unroll
        for (int i = 0; i < M; ++i) {
#pragma unroll
            for (int j = 0; j < N; ++j) {
                const float4 v = __ldcg(of_split + (i * N + j) * THREADS);
                float(&s)[4] = sums[i][j];
                s[0] = split ? s[0] + v.x : v.x;
                s[1] = split ? s[1] + v.y : v.y;
                s[2] = split ? s[2] + v.z : v.z;
                s[3] = split ? s[3] + v.w : v.w;
            }
        }
    }
    return true;
}

// The last block at its tile of `SUMS` sums discards what all splits stored, once it needs it no more. Called at the end of a
// kernel, where registers are free for the loop.
template <int SUMS> static __device__ __forceinline__ void discard_splits(const float *partial) {
    discard(partial + sum_of_block() * gridDim.y * SUMS, (size_t)gridDim.y * SUMS * 4);
}
