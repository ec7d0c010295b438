// Scales n elements, one per thread of a larger grid.
extern "C" __global__ void kernel(const float* in, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
#ifdef BUG  // one element too many
    if (i <= n)
#else
    if (i < n)
#endif
        out[i] = 2.0f * in[i];
}
