// Differences with the left neighbour.
extern "C" __global__ void kernel(const float* in, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
#ifdef BUG  // the first element has no left neighbour
    float left = in[i - 1];
#else
    float left = i > 0 ? in[i - 1] : 0.0f;
#endif
    out[i] = in[i] - left;
}
