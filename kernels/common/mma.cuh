// Products on tensor cores and the loads that feed them: cp.async, ldmatrix, mma.m16n8k16 (sm_80 and later).
//
// Fragments of mma.m16n8k16, lane = 4 g + t with g in 0..8 and t in 0..4:
//   A (16 x 16)  register r: rows g + 8 (r & 1), columns 2 t + 8 (r >> 1) and the next
//   B (16 x 8)   register r: rows 2 t + 8 r and the next, column g
//   C (16 x 8)   element e: row g + 8 (e >> 1), column 2 t + (e & 1)
#pragma once
#include "common/types.cuh"

static __device__ __forceinline__ unsigned shared_address(const void *p) {
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

// Copies 16 bytes from global `source` to shared `target`, both aligned to 16. Where `present` is false it writes zeros, and
// `source` may be any address.
static __device__ __forceinline__ void cp_async_16(unsigned target, const void *source, bool present) {
    const int bytes = present ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(source), "r"(bytes) : "memory");
}

static __device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until all but the last PENDING of this thread's committed groups have landed.
template <int PENDING> __device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Four 8 x 8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8.
static __device__ __forceinline__ void ldmatrix(unsigned (&m)[4], unsigned row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(row)
                 : "memory");
}

// The same, each matrix transposed.
static __device__ __forceinline__ void ldmatrix_transposed(unsigned (&m)[4], unsigned row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(row)
                 : "memory");
}

// c += a b, summed in f32.
template <typename E> __device__ __forceinline__ void mma(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1);
template <>
__device__ __forceinline__ void mma<f16>(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
__device__ __forceinline__ void mma<bf16>(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// c += a b of f16, summed in f16; register r of c holds row g + 8 r, columns 2 t and 2 t + 1.
static __device__ __forceinline__ void mma_half(unsigned (&c)[2], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0, %1}, {%2, %3, %4, %5}, {%6, %7}, {%0, %1};"
        : "+r"(c[0]), "+r"(c[1])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Adds the sums of `half` to `sum` and clears them.
static __device__ __forceinline__ void promote(float (&sum)[4], unsigned (&half)[2]) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
        f16 v;
        v.bits = static_cast<unsigned short>(half[e >> 1] >> (16 * (e & 1)));
        sum[e] += to_float(v);
    }
    half[0] = half[1] = 0;
}
