// A histogram whose bins every thread of the first half-warp clears.
extern "C" __global__ void kernel(const unsigned* in, unsigned* out) {
    __shared__ unsigned bins[16];
    if (threadIdx.x < 16) bins[threadIdx.x] = 0;
#ifndef BUG  // a bin may be counted in before it is cleared
    __syncthreads();
#endif
    atomicAdd(&bins[in[threadIdx.x] & 15], 1u);
    __syncthreads();
    if (threadIdx.x < 16) out[threadIdx.x] = bins[threadIdx.x];
}
