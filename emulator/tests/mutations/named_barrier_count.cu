// A producer warp and a consumer warp meet at a named barrier.
extern "C" __global__ void kernel(const int* in, int* out) {
    __shared__ int slot[32];
    int lane = threadIdx.x % 32;
    if (threadIdx.x < 32) {
        slot[lane] = in[lane];
        asm volatile("barrier.cta.arrive 1, 64;" ::: "memory");
    } else {
#ifdef BUG  // the consumer waits for one warp: itself
        asm volatile("barrier.cta.sync 2, 32;" ::: "memory");
#else
        asm volatile("barrier.cta.sync 1, 64;" ::: "memory");
#endif
        out[lane] = slot[31 - lane];
    }
}
