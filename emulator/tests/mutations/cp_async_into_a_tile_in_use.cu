// One buffer, refilled in a loop.
__device__ void copy_async_16(void* to, const void* from) {
    unsigned address = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
}
__device__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ void wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

extern "C" __global__ void kernel(const float4* in, float* out, int steps) {
    __shared__ float4 tile[64];
    float sum = 0.0f;
    for (int k = 0; k < steps; ++k) {
        copy_async_16(&tile[threadIdx.x], &in[k * 64 + threadIdx.x]);
        commit();
        wait<0>();
        __syncthreads();
        float4 v = tile[63 - threadIdx.x];
        sum += v.x + v.y + v.z + v.w;
#ifndef BUG  // the next copy starts while others still read
        __syncthreads();
#endif
    }
    out[threadIdx.x] = sum;
}
