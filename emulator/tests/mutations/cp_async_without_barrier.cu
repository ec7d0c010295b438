// Every thread waits for its own copy only.
__device__ void copy_async_16(void* to, const void* from) {
    unsigned address = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
}
__device__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ void wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

extern "C" __global__ void kernel(const float4* in, float* out) {
    __shared__ float4 tile[64];
    copy_async_16(&tile[threadIdx.x], &in[threadIdx.x]);
    commit();
    wait<0>();
#ifndef BUG  // the copies of other threads are not waited for
    __syncthreads();
#endif
    float4 v = tile[63 - threadIdx.x];
    out[threadIdx.x] = v.x + v.y + v.z + v.w;
}
