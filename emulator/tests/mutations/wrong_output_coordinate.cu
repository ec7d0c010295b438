// Adds a bias to every column.
extern "C" __global__ void kernel(const float* in, const float* bias, float* out, int columns) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
#ifdef BUG  // the row instead of the column
    out[i] = in[i] + bias[i / columns];
#else
    out[i] = in[i] + bias[i % columns];
#endif
}
