// y[n, e] = standard normal number e of the stream (seed, purpose) at (images[n], step), with the CPU's bits.
//
// Shapes      seed: two ints (low, high word), images: `batch` ints, step: one int, y [batch, length] of f32.
// Launch      grid ceil(batch * ceil(length / 4) / 256), block 256, no shared memory; four numbers per thread.
// Traffic     writes y once, 16 bytes at a time where length divides by 4; overwrites y.
// Takes       batch * length < 2^32.
// Registers <= 40
#include "common/philox.cuh"
#include "common/types.cuh"

struct PhiloxNormalParams {
    const unsigned *seed;
    const unsigned *images;  // number of each sample's image
    const unsigned *step;
    float *y;
    unsigned purpose;  // of the stream
    unsigned batch;
    unsigned length;  // numbers of a sample
};

extern "C" __global__ void __launch_bounds__(256) philox_normal(const PhiloxNormalParams p) {
    const unsigned blocks = (p.length + 3) / 4;
    const unsigned long long flat = blockIdx.x * 256ull + threadIdx.x;
    if (flat >= (unsigned long long)p.batch * blocks) return;
    const unsigned n = (unsigned)flat / blocks, block = (unsigned)flat - n * blocks;
    float v[4];
    philox_normals(philox_stream_key(p.seed[0], p.seed[1], p.purpose), p.images[n], *p.step, block, v);
    float *y = p.y + (unsigned long long)n * p.length + 4 * block;
    if (p.length % 4 == 0) {
        store_floats<4>(y, v);
    } else {
#pragma unroll
        for (int k = 0; k < 4; ++k)
            if (4 * block + k < p.length) y[k] = v[k];
    }
}
