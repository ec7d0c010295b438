// Sums and maxima over a warp and a block in a fixed order, so that results repeat to the bit.
#pragma once

static __device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) v += __shfl_xor_sync(0xffffffffu, v, offset);
    return v;
}

static __device__ __forceinline__ float warp_max(float v) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, offset));
    return v;
}

// Sum over the block, returned to all its threads. `scratch` holds 32 floats of shared memory. All threads of the block call
// it; blockDim.x is a multiple of 32. It starts with a barrier, so `scratch` may be reused right away.
static __device__ __forceinline__ float block_sum(float v, float *scratch) {
    v = warp_sum(v);
    __syncthreads();
    if ((threadIdx.x & 31) == 0) scratch[threadIdx.x >> 5] = v;
    __syncthreads();
    const int warps = blockDim.x >> 5;
    const int lane = threadIdx.x & 31;
    return warp_sum(lane < warps ? scratch[lane] : 0.0f);
}
