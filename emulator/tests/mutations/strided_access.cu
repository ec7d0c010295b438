// Doubles a matrix of 32 columns; right either way, but one way touches a sector per lane.
extern "C" __global__ void kernel(const float* in, float* out) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
#ifdef BUG  // neighbouring threads walk down a column
    i = (i % 32) * 32 + i / 32;
#endif
    out[i] = 2.0f * in[i];
}
