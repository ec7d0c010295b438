// Sums a block as a tree.
extern "C" __global__ void kernel(const float* in, float* out) {
    __shared__ float sum[128];
    sum[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    for (int half = 64; half > 0; half /= 2) {
        if (threadIdx.x < half) sum[threadIdx.x] += sum[threadIdx.x + half];
#ifdef BUG  // the barrier stops where one warp is left
        if (half > 32)
#endif
            __syncthreads();
    }
    if (threadIdx.x == 0) *out = sum[0];
}
