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
