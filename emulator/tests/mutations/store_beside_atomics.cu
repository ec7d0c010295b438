// A maximum over blocks.
extern "C" __global__ void kernel(const int* in, int* out) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
#ifdef BUG  // the first block takes its value for the first
    if (blockIdx.x == 0) {
        if (threadIdx.x == 0) *out = in[i];
        return;
    }
#endif
    atomicMax(out, in[i]);
}
