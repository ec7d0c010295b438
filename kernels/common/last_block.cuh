// Sums over several blocks in one launch: each block stores its part, and the last to arrive adds the parts in an order
// that does not depend on which block that is.
#pragma once

// True for all threads of the last of `blocks` blocks that come here with one counter, which starts at 0 and is back at
// 0 when the launch is over. The last block may read, past L1, what the others stored before.
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

// Throws `bytes` bytes at `parts` away, both multiples of 128, once all threads of the block have read what they want of
// them: lines that hold nothing need not go from L2 to memory. The next to touch them is a launch that writes them.
static __device__ __forceinline__ void discard(const void *parts, size_t bytes) {
    __syncthreads();
    const char *line = static_cast<const char *>(parts) + threadIdx.x * 128;
    for (size_t at = threadIdx.x * 128; at < bytes; at += blockDim.x * 128, line += blockDim.x * 128)
        asm volatile("discard.L2 [%0], 128;" ::"l"(line) : "memory");
}
