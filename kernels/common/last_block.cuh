// Sums over several blocks in one launch: each block stores its part, and the block that arrives last adds the parts in an
// order that does not depend on which block that is.
#pragma once

// True for all threads of the last of the `blocks` blocks that call it with one counter. The counter starts at 0 and is 0
// again when the launch is over. The last block may read what the others stored before, past L1.
static __device__ __forceinline__ bool arrives_last(unsigned *counter, unsigned blocks) {
    __shared__ bool last;
    __syncthreads();
    if (threadIdx.x == 0) {
        // The barrier and this fence publish the block's part; the fence behind the counter fetches the others'.
        __threadfence();
        last = atomicInc(counter, blocks - 1) == blocks - 1;
        __threadfence();
    }
    __syncthreads();
    return last;
}

// Discards `bytes` bytes at `parts`, both multiples of 128, once all threads of the block have read them: discarded lines
// need not go from L2 to memory. The next access to them is a launch that writes them.
static __device__ __forceinline__ void discard(const void *parts, size_t bytes) {
    __syncthreads();
    const char *line = static_cast<const char *>(parts) + threadIdx.x * 128;
    for (size_t at = threadIdx.x * 128; at < bytes; at += blockDim.x * 128, line += blockDim.x * 128)
        asm volatile("discard.L2 [%0], 128;" ::"l"(line) : "memory");
}
