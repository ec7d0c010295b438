// Adds the partial sums that blocks stored: first[i] = sum_s partials[s][0][i], second[i] = sum_s partials[s][1][i].
//
// Shapes      partials [slabs][results][count], first [count], second [count] where results is 2; all f32.
// Launch      grid ceil(results count / 256), block 256, no shared memory.
// Traffic     reads 4 slabs results count bytes, writes 4 results count; overwrites.
// Order       slabs one after another, from the first.
// Takes       any count and slabs.
// Registers <= 32

struct PartialSumsParams {
    const float *partials;
    float *first;
    float *second; // may be null where results is 1
    int count;    // sums of a result
    int results;  // 1 or 2
    int slabs;    // partial sums of each
};

extern "C" __global__ void __launch_bounds__(256) partial_sums(const PartialSumsParams p) {
    const int i = blockIdx.x * 256 + threadIdx.x;
    const int width = p.results * p.count;
    if (i >= width) return;
    const float *partial = p.partials + i;
    float sum = 0.0f;
#pragma unroll 4
    for (int slab = 0; slab < p.slabs; ++slab, partial += width) sum += *partial;
    if (i < p.count)
        p.first[i] = sum;
    else
        p.second[i - p.count] = sum;
}
