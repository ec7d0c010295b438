// Transposes 32 × 32 words through a tile; right either way, but one way conflicts in every bank.
extern "C" __global__ void kernel(const unsigned* in, unsigned* out) {
    __shared__ unsigned tile[32 * 32];
#ifdef BUG  // a column lies in one bank
    const unsigned mask = 0;
#else
    const unsigned mask = 31;
#endif
    for (int row = threadIdx.y; row < 32; row += blockDim.y)
        tile[row * 32 + (threadIdx.x ^ (row & mask))] = in[row * 32 + threadIdx.x];
    __syncthreads();
    for (int row = threadIdx.y; row < 32; row += blockDim.y)
        out[row * 32 + threadIdx.x] = tile[threadIdx.x * 32 + (row ^ (threadIdx.x & mask))];
}
