// A maximum over blocks that one thread initialises.
extern "C" __global__ void kernel(const int* in, int* out) {
#ifdef BUG  // other blocks may have been here before the plain store
    if (blockIdx.x == 0 && threadIdx.x == 0) *out = in[0];
    __syncthreads();
#endif
    atomicMax(out, in[blockIdx.x * blockDim.x + threadIdx.x]);
}
