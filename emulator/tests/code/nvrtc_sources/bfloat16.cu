// The arithmetic and conversion intrinsics of cuda_bf16.h, one kernel each, on arrays of bit patterns.
#include <cuda_bf16.h>

typedef unsigned short u16;
typedef unsigned int u32;

#define INDEX blockIdx.x * blockDim.x + threadIdx.x

#define UNARY(f) \
    extern "C" __global__ void k_##f(const u16* x, u16* y) { \
        int i = INDEX; \
        y[i] = __bfloat16_as_ushort(f(__ushort_as_bfloat16(x[i]))); \
    }
#define BINARY(f) \
    extern "C" __global__ void k_##f(const u16* a, const u16* b, u16* y) { \
        int i = INDEX; \
        y[i] = __bfloat16_as_ushort(f(__ushort_as_bfloat16(a[i]), __ushort_as_bfloat16(b[i]))); \
    }
#define TERNARY(f) \
    extern "C" __global__ void k_##f(const u16* a, const u16* b, const u16* c, u16* y) { \
        int i = INDEX; \
        y[i] = __bfloat16_as_ushort(f(__ushort_as_bfloat16(a[i]), __ushort_as_bfloat16(b[i]), __ushort_as_bfloat16(c[i]))); \
    }
#define COMPARE(f) \
    extern "C" __global__ void k_##f(const u16* a, const u16* b, u16* y) { \
        int i = INDEX; \
        y[i] = f(__ushort_as_bfloat16(a[i]), __ushort_as_bfloat16(b[i])); \
    }
#define BINARY2(f) \
    extern "C" __global__ void k_##f(const __nv_bfloat162* a, const __nv_bfloat162* b, __nv_bfloat162* y) { \
        int i = INDEX; \
        y[i] = f(a[i], b[i]); \
    }
#define TERNARY2(f) \
    extern "C" __global__ void k_##f(const __nv_bfloat162* a, const __nv_bfloat162* b, const __nv_bfloat162* c, __nv_bfloat162* y) { \
        int i = INDEX; \
        y[i] = f(a[i], b[i], c[i]); \
    }

UNARY(__hneg) UNARY(__habs)
BINARY(__hadd) BINARY(__hsub) BINARY(__hmul) BINARY(__hdiv)
BINARY(__hmin) BINARY(__hmax) BINARY(__hmin_nan) BINARY(__hmax_nan)
TERNARY(__hfma) TERNARY(__hfma_relu)
COMPARE(__heq) COMPARE(__hne) COMPARE(__hlt) COMPARE(__hge) COMPARE(__hequ) COMPARE(__hltu)
UNARY(hsqrt) UNARY(hrsqrt) UNARY(hrcp) UNARY(hexp) UNARY(hexp2) UNARY(hlog) UNARY(hlog2)
UNARY(hrint) UNARY(hfloor) UNARY(hceil) UNARY(htrunc)
BINARY2(__hadd2) BINARY2(__hsub2) BINARY2(__hmul2) BINARY2(__hmin2) BINARY2(__hmax2_nan)
TERNARY2(__hfma2) TERNARY2(__hfma2_relu)

extern "C" __global__ void bfloat16_to_float(const u16* x, float* y) {
    int i = INDEX;
    y[i] = __bfloat162float(__ushort_as_bfloat16(x[i]));
}

#define FROM_FLOAT(name, f) \
    extern "C" __global__ void name(const float* x, u16* y) { int i = INDEX; y[i] = __bfloat16_as_ushort(f(x[i])); }
FROM_FLOAT(float_to_bfloat16_rn, __float2bfloat16_rn)
FROM_FLOAT(float_to_bfloat16_rz, __float2bfloat16_rz)
FROM_FLOAT(float_to_bfloat16_ru, __float2bfloat16_ru)
FROM_FLOAT(float_to_bfloat16_rd, __float2bfloat16_rd)

extern "C" __global__ void floats_to_bfloat162(const float2* x, u32* y) {
    int i = INDEX;
    __nv_bfloat162 pair = __float22bfloat162_rn(x[i]);
    y[i] = *reinterpret_cast<u32*>(&pair);
}

#define TO_INT(name, f, type) \
    extern "C" __global__ void name(const u16* x, type* y) { int i = INDEX; y[i] = f(__ushort_as_bfloat16(x[i])); }
TO_INT(to_int_rn, __bfloat162int_rn, int) TO_INT(to_int_rz, __bfloat162int_rz, int)
TO_INT(to_int_rd, __bfloat162int_rd, int) TO_INT(to_uint_ru, __bfloat162uint_ru, unsigned)

#define FROM_INT(name, f, type) \
    extern "C" __global__ void name(const type* x, u16* y) { int i = INDEX; y[i] = __bfloat16_as_ushort(f(x[i])); }
FROM_INT(from_int_rn, __int2bfloat16_rn, int) FROM_INT(from_int_rz, __int2bfloat16_rz, int)
FROM_INT(from_int_rd, __int2bfloat16_rd, int) FROM_INT(from_int_ru, __int2bfloat16_ru, int)

extern "C" __global__ void bfloat162_reduce(const __nv_bfloat162* x, __nv_bfloat162* total) {
    __nv_bfloat162 value = x[INDEX];
    for (int offset = 16; offset > 0; offset /= 2)
        value = __hadd2(value, __shfl_down_sync(0xffffffffu, value, offset));
    if (threadIdx.x % 32 == 0) atomicAdd(total, value);
}
