// One block of scratch memory for all threads of a block.
extern "C" __global__ void kernel(const int* in, int* out) {
    __shared__ int* scratch;
    if (threadIdx.x == 0) scratch = (int*)malloc(32 * sizeof(int));
    __syncthreads();
    scratch[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = scratch[31 - threadIdx.x];
    __syncthreads();
#ifdef BUG  // every thread gives it back
    free(scratch);
#else
    if (threadIdx.x == 0) free(scratch);
#endif
}
