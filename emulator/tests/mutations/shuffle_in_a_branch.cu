// A shuffle over all lanes that only half of them come to.
extern "C" __global__ void kernel(const int* in, int* out) {
    int v = in[threadIdx.x];
#ifdef BUG  // the mask names lanes that are not here
    if (threadIdx.x < 16) v += __shfl_down_sync(0xffffffffu, v, 8);
#else
    int other = __shfl_down_sync(0xffffffffu, v, 8);
    if (threadIdx.x < 16) v += other;
#endif
    out[threadIdx.x] = v;
}
