// y[i] = (TO) x[i], rounded to nearest even.
//
// Shapes      x, y: `count` elements of FROM and TO, densely packed, aligned to 16 bytes.
// Launch      grid ceil(count / 1024), block 256, no shared memory.
// Traffic     reads count * sizeof(FROM), writes count * sizeof(TO); overwrites y.
// Takes       any count.
// Registers <= 24
#include "common/types.cuh"

struct CastParams {
    const void *x;
    void *y;
    unsigned long long count;
};

extern "C" __global__ void __launch_bounds__(256) cast(const CastParams p) {
    const FROM *x = static_cast<const FROM *>(p.x);
    TO *y = static_cast<TO *>(p.y);
    const unsigned long long i = (blockIdx.x * 256ull + threadIdx.x) * 4;
    if (i + 4 <= p.count) {
        float v[4];
        load_floats<4>(x + i, v);
        store_floats<4>(y + i, v);
    } else {
        for (unsigned long long k = i; k < p.count; ++k) y[k] = from_float<TO>(to_float(x[k]));
    }
}
