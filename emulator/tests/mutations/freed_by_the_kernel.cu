// A scratch list on the device's heap.
extern "C" __global__ void kernel(const int* in, int* out) {
    int* scratch = (int*)malloc(4 * sizeof(int));
    for (int i = 0; i < 4; ++i) scratch[i] = in[4 * threadIdx.x + i];
#ifdef BUG  // given back before the last use
    free(scratch);
#endif
    volatile int* list = scratch;
    out[threadIdx.x] = list[0] + list[1] + list[2] + list[3];
#ifndef BUG
    free(scratch);
#endif
}
