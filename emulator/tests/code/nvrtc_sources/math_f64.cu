// CUDA's double-precision math functions, one kernel each, on arrays.

#define UNARY(f) \
    extern "C" __global__ void k_##f(const double* x, double* y, int n) { \
        int i = blockIdx.x * blockDim.x + threadIdx.x; \
        if (i < n) y[i] = f(x[i]); \
    }

#define BINARY(f) \
    extern "C" __global__ void k_##f(const double* a, const double* b, double* y, int n) { \
        int i = blockIdx.x * blockDim.x + threadIdx.x; \
        if (i < n) y[i] = f(a[i], b[i]); \
    }

__device__ double reciprocal(double x) { return 1.0 / x; }
__device__ double quotient(double a, double b) { return a / b; }

UNARY(exp) UNARY(exp2) UNARY(exp10) UNARY(expm1) UNARY(log) UNARY(log2) UNARY(log10) UNARY(log1p)
UNARY(sin) UNARY(cos) UNARY(tan) UNARY(sinpi) UNARY(asin) UNARY(acos) UNARY(atan)
UNARY(sinh) UNARY(cosh) UNARY(tanh) UNARY(asinh) UNARY(acosh) UNARY(atanh)
UNARY(erf) UNARY(erfc) UNARY(lgamma) UNARY(tgamma)
UNARY(sqrt) UNARY(rsqrt) UNARY(cbrt) UNARY(reciprocal)
BINARY(pow) BINARY(atan2) BINARY(hypot) BINARY(fmod) BINARY(quotient)
