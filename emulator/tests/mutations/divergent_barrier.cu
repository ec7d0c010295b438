// A barrier that half of a warp comes to.
extern "C" __global__ void kernel(float* out) {
    __shared__ float sum[64];
    sum[threadIdx.x] = threadIdx.x;
#ifdef BUG  // the others are waited for in vain
    if (threadIdx.x < 16) {
        out[64 + threadIdx.x] = 1.0f;
        __syncthreads();
    }
#else
    if (threadIdx.x < 16) out[64 + threadIdx.x] = 1.0f;
    __syncthreads();
#endif
    out[threadIdx.x] = sum[threadIdx.x];
}
