// A butterfly whose mask leaves half of the callers out.
extern "C" __global__ void kernel(const int* in, int* out) {
#ifdef BUG
    const unsigned mask = 0x0000ffffu;
#else
    const unsigned mask = 0xffffffffu;
#endif
    out[threadIdx.x] = in[threadIdx.x] + __shfl_xor_sync(mask, in[threadIdx.x], 1);
}
