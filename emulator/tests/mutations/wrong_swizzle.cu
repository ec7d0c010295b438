// Transposes 32 × 32 words through a swizzled tile.
extern "C" __global__ void kernel(const unsigned* in, unsigned* out) {
    __shared__ unsigned tile[32 * 32];
    for (int row = threadIdx.y; row < 32; row += blockDim.y)
        tile[row * 32 + (threadIdx.x ^ row)] = in[row * 32 + threadIdx.x];
    __syncthreads();
    for (int row = threadIdx.y; row < 32; row += blockDim.y)
#ifdef BUG  // written with one permutation, read with another
        out[row * 32 + threadIdx.x] = tile[threadIdx.x * 32 + (row ^ (threadIdx.x & 15))];
#else
        out[row * 32 + threadIdx.x] = tile[threadIdx.x * 32 + (row ^ threadIdx.x)];
#endif
}
