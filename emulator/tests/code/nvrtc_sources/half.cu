// The arithmetic and conversion intrinsics of cuda_fp16.h, one kernel each, on arrays of bit patterns.
#include <cuda_fp16.h>

typedef unsigned short u16;
typedef unsigned int u32;

#define INDEX blockIdx.x * blockDim.x + threadIdx.x

#define UNARY(f) \
    extern "C" __global__ void k_##f(const u16* x, u16* y) { \
        int i = INDEX; \
        y[i] = __half_as_ushort(f(__ushort_as_half(x[i]))); \
    }
#define BINARY(f) \
    extern "C" __global__ void k_##f(const u16* a, const u16* b, u16* y) { \
        int i = INDEX; \
        y[i] = __half_as_ushort(f(__ushort_as_half(a[i]), __ushort_as_half(b[i]))); \
    }
#define TERNARY(f) \
    extern "C" __global__ void k_##f(const u16* a, const u16* b, const u16* c, u16* y) { \
        int i = INDEX; \
        y[i] = __half_as_ushort(f(__ushort_as_half(a[i]), __ushort_as_half(b[i]), __ushort_as_half(c[i]))); \
    }
#define COMPARE(f) \
    extern "C" __global__ void k_##f(const u16* a, const u16* b, u16* y) { \
        int i = INDEX; \
        y[i] = f(__ushort_as_half(a[i]), __ushort_as_half(b[i])); \
    }
// Packed: pairs of neighbouring elements.
#define UNARY2(f) \
    extern "C" __global__ void k_##f(const __half2* x, __half2* y) { int i = INDEX; y[i] = f(x[i]); }
#define BINARY2(f) \
    extern "C" __global__ void k_##f(const __half2* a, const __half2* b, __half2* y) { int i = INDEX; y[i] = f(a[i], b[i]); }
#define TERNARY2(f) \
    extern "C" __global__ void k_##f(const __half2* a, const __half2* b, const __half2* c, __half2* y) { \
        int i = INDEX; \
        y[i] = f(a[i], b[i], c[i]); \
    }

UNARY(__hneg) UNARY(__habs)
BINARY(__hadd) BINARY(__hsub) BINARY(__hmul) BINARY(__hdiv)
BINARY(__hadd_sat) BINARY(__hsub_sat) BINARY(__hmul_sat)
BINARY(__hmin) BINARY(__hmax) BINARY(__hmin_nan) BINARY(__hmax_nan)
TERNARY(__hfma) TERNARY(__hfma_sat) TERNARY(__hfma_relu)
COMPARE(__heq) COMPARE(__hne) COMPARE(__hlt) COMPARE(__hle) COMPARE(__hgt) COMPARE(__hge)
COMPARE(__hequ) COMPARE(__hneu) COMPARE(__hltu) COMPARE(__hgeu)
UNARY(hsqrt) UNARY(hrsqrt) UNARY(hrcp) UNARY(hexp) UNARY(hexp2) UNARY(hexp10) UNARY(hlog) UNARY(hlog2) UNARY(hlog10)
UNARY(hsin) UNARY(hcos) UNARY(hrint) UNARY(hfloor) UNARY(hceil) UNARY(htrunc)

UNARY2(__hneg2) UNARY2(__habs2)
BINARY2(__hadd2) BINARY2(__hsub2) BINARY2(__hmul2) BINARY2(__h2div)
BINARY2(__hadd2_sat) BINARY2(__hmin2) BINARY2(__hmax2_nan)
TERNARY2(__hfma2) TERNARY2(__hfma2_relu)
BINARY2(__heq2) BINARY2(__hltu2)

extern "C" __global__ void half_to_float(const u16* x, float* y) {
    int i = INDEX;
    y[i] = __half2float(__ushort_as_half(x[i]));
}

#define FROM_FLOAT(name, f) \
    extern "C" __global__ void name(const float* x, u16* y) { int i = INDEX; y[i] = __half_as_ushort(f(x[i])); }
FROM_FLOAT(float_to_half_rn, __float2half_rn)
FROM_FLOAT(float_to_half_rz, __float2half_rz)
FROM_FLOAT(float_to_half_ru, __float2half_ru)
FROM_FLOAT(float_to_half_rd, __float2half_rd)

extern "C" __global__ void floats_to_half2(const float2* x, u32* y) {
    int i = INDEX;
    __half2 pair = __float22half2_rn(x[i]);
    y[i] = *reinterpret_cast<u32*>(&pair);
}

#define TO_INT(name, f, type) \
    extern "C" __global__ void name(const u16* x, type* y) { int i = INDEX; y[i] = f(__ushort_as_half(x[i])); }
TO_INT(to_int_rn, __half2int_rn, int) TO_INT(to_int_rz, __half2int_rz, int)
TO_INT(to_int_rd, __half2int_rd, int) TO_INT(to_int_ru, __half2int_ru, int)
TO_INT(to_uint_rn, __half2uint_rn, unsigned) TO_INT(to_short_rz, __half2short_rz, short)
TO_INT(to_ushort_ru, __half2ushort_ru, unsigned short) TO_INT(to_ll_rd, __half2ll_rd, long long)

#define FROM_INT(name, f, type) \
    extern "C" __global__ void name(const type* x, u16* y) { int i = INDEX; y[i] = __half_as_ushort(f(x[i])); }
FROM_INT(from_int_rn, __int2half_rn, int) FROM_INT(from_int_rz, __int2half_rz, int)
FROM_INT(from_int_rd, __int2half_rd, int) FROM_INT(from_int_ru, __int2half_ru, int)
FROM_INT(from_double, __double2half, double)

// Shuffles, atomics and packing of __half2.
extern "C" __global__ void half2_reduce(const __half2* x, __half2* total) {
    __half2 value = x[INDEX];
    for (int offset = 16; offset > 0; offset /= 2)
        value = __hadd2(value, __shfl_down_sync(0xffffffffu, value, offset));
    if (threadIdx.x % 32 == 0) atomicAdd(total, value);
}
extern "C" __global__ void half2_rearrange(const u32* x, u32* y) {
    int i = INDEX;
    u32 word = x[i];
    __half2 pair = *reinterpret_cast<__half2*>(&word);
    __half2 results[4] = {__lowhigh2highlow(pair), __low2half2(pair), __high2half2(pair),
                          __halves2half2(__high2half(pair), __low2half(pair))};
    for (int k = 0; k < 4; ++k) y[4 * i + k] = *reinterpret_cast<u32*>(&results[k]);
}
