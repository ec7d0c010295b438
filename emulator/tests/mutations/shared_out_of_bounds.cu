// Pads rows in dynamic shared memory.
extern "C" __global__ void kernel(const float* in, float* out) {
    extern __shared__ float tile[];
#ifdef BUG  // the padding was not counted when the size was asked for
    int at = threadIdx.x / 8 * 9 + threadIdx.x % 8;
#else
    int at = threadIdx.x;
#endif
    tile[at] = in[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = tile[at];
}
