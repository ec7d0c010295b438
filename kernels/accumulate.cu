// Sums that are kept from run to run, over any number of arrays in one launch.
#include "common/chunks.cuh"

// For every pair (sum, x) of the table: sum = sum + factor x if *keep is not 0, else factor x, whatever sum held.
//
// Shapes      a chunk is sum, x of `count` f32; keep: a scalar.
// Launch      grid chunks, block 256.
// Traffic     reads 8 bytes per element, writes 4; updates the sum in place.
// Order       elements are independent.
// Takes       any counts below 2^32 per chunk.
// Registers <= 40
struct AccumulateParams {
    const Chunk<2> *chunks;  // one per block
    const float *keep;
    float factor;
};

extern "C" __global__ void __launch_bounds__(256) accumulate(const AccumulateParams q) {
    const bool keep = *q.keep != 0.0f;
    for_chunk<2, 0b01>(q.chunks, [&](float (&values)[2]) {
        values[0] = q.factor * values[1] + (keep ? values[0] : 0.0f);
    });
}
