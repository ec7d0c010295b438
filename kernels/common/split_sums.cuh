// Sums of fragments over the splits of a product, in one launch: the grid is (tiles, splits, phases).
#pragma once
#include "common/last_block.cuh"

// Which split and tile a block has. Blocks start in the order of x, then y: the splits of a tile come one behind the other,
// so that its sums are added while they are in L2, before much else passes through. Read anew where it is used: kept beside
// all sums, it would cost registers that there are not.
static __device__ __forceinline__ unsigned number_of_block() {
    unsigned x, y;
    asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(x));
    asm volatile("mov.u32 %0, %%ctaid.y;" : "=r"(y));
    return y * gridDim.x + x;
}

static __device__ __forceinline__ unsigned split_of_block() { return number_of_block() % gridDim.y; }

// Of the phase.
static __device__ __forceinline__ unsigned tile_of_block() { return number_of_block() / gridDim.y; }

// Of all phases.
static __device__ __forceinline__ size_t sum_of_block() {
    unsigned z;
    asm volatile("mov.u32 %0, %%ctaid.z;" : "=r"(z));
    return z * gridDim.x + tile_of_block();
}

// Stores this block's sums of its tile, and for the block that comes last at it replaces them by the sums over all
// splits, added in their order. False for the others. `partial` is [tile, split, sum] and aligned to 128 bytes; `arrived`
// holds a counter for each tile, which starts at 0 and comes back to it. The first word of `shared` is overwritten, and
// free again for the last block.
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
        // From the last value it goes back to 0, ready for the next launch.
        *last = atomicInc(arrived + sum_of_block(), splits - 1) == splits - 1;
        __threadfence();
    }
    __syncthreads();
    if (!*last) return false;
    // Nobody reads `last` any more when others write over it.
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

// For the last block at its tile of `SUMS` sums, once it needs them no more: throws away what all splits stored. At the end
// of a kernel, where the loop finds free registers.
template <int SUMS> static __device__ __forceinline__ void discard_splits(const float *partial) {
    discard(partial + sum_of_block() * gridDim.y * SUMS, (size_t)gridDim.y * SUMS * 4);
}
