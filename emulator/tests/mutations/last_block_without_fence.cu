// Every block leaves a partial sum; the last to finish adds them up.
extern "C" __global__ void kernel(const float* in, float* partial, unsigned* arrived, float* out) {
    __shared__ bool last;
    if (threadIdx.x == 0) {
        float sum = 0.0f;
        for (int i = 0; i < 8; ++i) sum += in[blockIdx.x * 8 + i];
        partial[blockIdx.x] = sum;
#ifndef BUG  // the sum may arrive after the count
        __threadfence();
#endif
        last = atomicAdd(arrived, 1u) == gridDim.x - 1;
#ifndef BUG
        __threadfence();
#endif
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        float sum = 0.0f;
        for (int i = 0; i < gridDim.x; ++i) sum += ((volatile float*)partial)[i];
        *out = sum;
    }
}
