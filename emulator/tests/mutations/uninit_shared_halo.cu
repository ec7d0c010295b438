// A three-point stencil with a halo in shared memory.
extern "C" __global__ void kernel(const float* in, float* out) {
    __shared__ float tile[66];
    tile[threadIdx.x + 1] = in[threadIdx.x];
#ifdef BUG  // the right end of the halo is never written
    if (threadIdx.x == 0) tile[0] = 0.0f;
#else
    if (threadIdx.x == 0) tile[0] = tile[65] = 0.0f;
#endif
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x] + tile[threadIdx.x + 1] + tile[threadIdx.x + 2];
}
