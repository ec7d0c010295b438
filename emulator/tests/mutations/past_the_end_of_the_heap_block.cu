// Reverses four numbers through the device's heap.
extern "C" __global__ void kernel(const int* in, int* out) {
    int* scratch = (int*)malloc(4 * sizeof(int));
#ifdef BUG  // from one to four instead of zero to three
    for (int i = 1; i <= 4; ++i) scratch[i] = in[4 * threadIdx.x + i - 1];
    for (int i = 1; i <= 4; ++i) out[4 * threadIdx.x + 4 - i] = ((volatile int*)scratch)[i];
#else
    for (int i = 0; i < 4; ++i) scratch[i] = in[4 * threadIdx.x + i];
    for (int i = 0; i < 4; ++i) out[4 * threadIdx.x + 3 - i] = ((volatile int*)scratch)[i];
#endif
    free(scratch);
}
