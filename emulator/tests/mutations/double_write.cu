// Two threads per pair, both of which write its sum.
extern "C" __global__ void kernel(const int* in, int* out) {
    int i = threadIdx.x;
#ifdef BUG  // the second writer may win or lose
    out[i / 2] = in[i];
#else
    if (i % 2 == 0) out[i / 2] = in[i];
#endif
}
