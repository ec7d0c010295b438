// Division by an extent that is known when a plan is made, as a multiplication and a shift.
//
// For 0 <= n < 2^31 and 1 <= d < 2^31, with l = ceil(log2 d) and m = ceil(2^(31+l) / d) < 2^32:
//   floor(n / d) = n m >> (31 + l),
// because n m / 2^(31+l) exceeds n / d by less than n d / (d 2^(31+l)) <= 1 / d.
#pragma once

static __device__ __forceinline__ int divide(int n, unsigned multiplier, unsigned shift) {
    return (int)((unsigned long long)(unsigned)n * multiplier >> shift);
}
