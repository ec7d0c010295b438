// Accumulates into memory that nobody wrote.
extern "C" __global__ void kernel(const float* in, float* out) {
#ifdef BUG  // the first use should overwrite
    out[threadIdx.x] += in[threadIdx.x];
#else
    out[threadIdx.x] = in[threadIdx.x];
#endif
}
