// Two-byte stores that a four-byte load reads back.
extern "C" __global__ void kernel(unsigned short* scratch, unsigned* out, int n) {
    int i = threadIdx.x;
    scratch[2 * i] = (unsigned short)i;
#ifdef BUG  // the upper half of the last word is missing
    if (2 * i + 1 < n - 1)
#else
    if (2 * i + 1 < n)
#endif
        scratch[2 * i + 1] = 7;
    out[i] = *(volatile unsigned*)&scratch[2 * i];
}
