// Smooths an array.
extern "C" __global__ void kernel(const float* in, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i == 0 || i >= n - 1) return;
#ifdef BUG  // reads what the neighbours are writing
    out[i] = (out[i - 1] + out[i] + out[i + 1]) / 3.0f;
#else
    out[i] = (in[i - 1] + in[i] + in[i + 1]) / 3.0f;
#endif
}
