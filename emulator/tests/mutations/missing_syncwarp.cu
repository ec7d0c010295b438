// Neighbours of a warp exchange through shared memory.
extern "C" __global__ void kernel(const int* in, int* out) {
    __shared__ int slot[32];
    slot[threadIdx.x] = in[threadIdx.x];
#ifndef BUG  // lanes do not run in lockstep by right
    __syncwarp();
#endif
    out[threadIdx.x] = slot[threadIdx.x ^ 1];
}
