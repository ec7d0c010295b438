// Sums that live from run to run, over any number of arrays in one launch.
#include "common/chunks.cuh"

// sum = sum + factor x where *keep is not 0, else factor x, whatever sum held, for every pair of the table
//
// Shapes      a piece is sum, x of `count` f32; keep: a scalar.
// Launch      grid pieces, block 256.
// Traffic     reads 8 bytes per element, writes 4; updates the sum in place.
// Order       elements are independent.
// Takes       any counts below 2^32 per piece.
// Registers <= 40
struct AccumulateParams {
    const Piece<2> *pieces;
    const float *keep;
    float factor;
};

extern "C" __global__ void __launch_bounds__(256) accumulate(const AccumulateParams q) {
    const bool keep = *q.keep != 0.0f;
    for_piece<2, 0b01>(q.pieces, [&](float (&values)[2]) {
        values[0] = q.factor * values[1] + (keep ? values[0] : 0.0f);
    });
}
