// A sum over all blocks in one number.
extern "C" __global__ void kernel(const int* in, int* out) {
#ifdef BUG  // nothing makes the other blocks wait for the reset
    if (blockIdx.x == 0 && threadIdx.x == 0) *out = 0;
    __syncthreads();
#endif
    atomicAdd(out, in[blockIdx.x * blockDim.x + threadIdx.x]);
}
