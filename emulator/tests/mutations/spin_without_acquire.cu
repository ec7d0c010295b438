// One thread hands a value to another warp of its block through a flag.
extern "C" __global__ void kernel(const int* in, int* out) {
    __shared__ int value;
    __shared__ int flag;
    if (threadIdx.x == 0) flag = 0;
    __syncthreads();
    if (threadIdx.x == 0) {
        value = in[0];
#ifdef BUG  // volatile orders nothing
        *(volatile int*)&flag = 1;
#else
        __threadfence_block();
        atomicExch(&flag, 1);
#endif
    } else if (threadIdx.x == 32) {
#ifdef BUG
        while (*(volatile int*)&flag == 0) {}
#else
        while (atomicAdd(&flag, 0) == 0) {}
        __threadfence_block();
#endif
        out[0] = *(volatile int*)&value;
    }
}
