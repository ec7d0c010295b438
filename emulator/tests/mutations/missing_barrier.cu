// Reverses a block through shared memory.
extern "C" __global__ void kernel(const float* in, float* out) {
    __shared__ float tile[64];
    tile[threadIdx.x] = in[threadIdx.x];
#ifndef BUG  // the tile is read before all of it is written
    __syncthreads();
#endif
    out[threadIdx.x] = tile[63 - threadIdx.x];
}
