// Every block fills its own chunk.
extern "C" __global__ void kernel(int* out, int n) {
    int chunk = (n + gridDim.x - 1) / gridDim.x;
#ifdef BUG  // the end of a chunk is the start of the next
    for (int i = threadIdx.x; i <= chunk; i += blockDim.x) {
#else
    for (int i = threadIdx.x; i < chunk; i += blockDim.x) {
#endif
        int at = blockIdx.x * chunk + i;
        if (at < n) out[at] = blockIdx.x;
    }
}
