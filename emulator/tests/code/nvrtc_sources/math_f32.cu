// CUDA's single-precision math functions, one kernel each, on arrays.

#define UNARY(f) \
    extern "C" __global__ void k_##f(const float* x, float* y, int n) { \
        int i = blockIdx.x * blockDim.x + threadIdx.x; \
        if (i < n) y[i] = f(x[i]); \
    }

#define BINARY(f) \
    extern "C" __global__ void k_##f(const float* a, const float* b, float* y, int n) { \
        int i = blockIdx.x * blockDim.x + threadIdx.x; \
        if (i < n) y[i] = f(a[i], b[i]); \
    }

UNARY(expf) UNARY(exp2f) UNARY(exp10f) UNARY(expm1f)
UNARY(logf) UNARY(log2f) UNARY(log10f) UNARY(log1pf)
UNARY(sinf) UNARY(cosf) UNARY(tanf) UNARY(sinpif) UNARY(cospif)
UNARY(asinf) UNARY(acosf) UNARY(atanf)
UNARY(sinhf) UNARY(coshf) UNARY(tanhf) UNARY(asinhf) UNARY(acoshf) UNARY(atanhf)
UNARY(erff) UNARY(erfcf) UNARY(erfcxf) UNARY(normcdff)
UNARY(lgammaf) UNARY(tgammaf)
UNARY(sqrtf) UNARY(rsqrtf) UNARY(cbrtf) UNARY(rcbrtf)
UNARY(j0f) UNARY(j1f) UNARY(y0f) UNARY(y1f)
UNARY(rintf) UNARY(roundf) UNARY(truncf) UNARY(floorf) UNARY(ceilf)
UNARY(erfinvf) UNARY(normcdfinvf)
BINARY(powf) BINARY(atan2f) BINARY(hypotf) BINARY(fmodf) BINARY(remainderf) BINARY(fdimf)
BINARY(nextafterf) BINARY(copysignf) BINARY(fminf) BINARY(fmaxf) BINARY(rhypotf)

// Both results of sincosf, and its second one alone.
__device__ float sincosf_sine(float x) { float s, c; sincosf(x, &s, &c); return s; }
__device__ float sincosf_cosine(float x) { float s, c; sincosf(x, &s, &c); return c; }
UNARY(sincosf_sine) UNARY(sincosf_cosine)

// Intrinsics with the bounds of the programming guide, and those that are exactly rounded.
UNARY(__expf) UNARY(__logf) UNARY(__sinf) UNARY(__cosf)
UNARY(__frcp_rn) UNARY(__frcp_rz) UNARY(__frcp_ru) UNARY(__frcp_rd)
UNARY(__fsqrt_rn) UNARY(__fsqrt_rz) UNARY(__fsqrt_ru) UNARY(__fsqrt_rd)
BINARY(__fadd_rn) BINARY(__fadd_rz) BINARY(__fadd_ru) BINARY(__fadd_rd)
BINARY(__fmul_rn) BINARY(__fmul_rz) BINARY(__fmul_ru) BINARY(__fmul_rd)
BINARY(__fdiv_rn) BINARY(__fdiv_rz) BINARY(__fdiv_ru) BINARY(__fdiv_rd)
BINARY(fdividef)
