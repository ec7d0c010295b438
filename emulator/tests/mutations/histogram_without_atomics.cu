// A histogram of bytes in shared memory.
extern "C" __global__ void kernel(const unsigned* in, unsigned* out, int n) {
    __shared__ unsigned bins[16];
    if (threadIdx.x < 16) bins[threadIdx.x] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x)
#ifdef BUG  // two threads may hit one bin
        bins[in[i] & 15]++;
#else
        atomicAdd(&bins[in[i] & 15], 1u);
#endif
    __syncthreads();
    if (threadIdx.x < 16) out[threadIdx.x] = bins[threadIdx.x];
}
