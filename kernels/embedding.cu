// Looks up rows of a table, and the gradient of the table. The rows are few: one thread per number.

// y[n] = table[index[n]]; zeros for -1, NaN for other indices outside the table.
//
// Shapes      table [rows,E], y [N,E] of f32, index [N] of i32.
// Launch      grid (ceil(E / 256), N), block 256; no shared memory.
// Traffic     reads 4 N (E + 1) bytes, writes 4 N E. Overwrites.
// Order       no reduction.
// Takes       any sizes.
// Registers <= 24
struct EmbeddingParams {
    const float *table;
    const int *index;
    float *y;
    int rows;
    int channels;
};

extern "C" __global__ void __launch_bounds__(256) embedding(const EmbeddingParams p) {
    const int c = blockIdx.x * 256 + threadIdx.x;
    if (c >= p.channels) return;
    const int row = p.index[blockIdx.y];
    float value = row == -1 ? 0.0f : __uint_as_float(0x7fc00000u);
    if (row >= 0 && row < p.rows) value = p.table[static_cast<long long>(row) * p.channels + c];
    p.y[static_cast<long long>(blockIdx.y) * p.channels + c] = value;
}

// dtable[row] = sum of dy[n] over the n with index[n] = row.
//
// Shapes      index [N] of i32, dy [N,E], dtable [rows,E] of f32.
// Launch      grid (ceil(E / 256), rows), block 256; no shared memory.
// Traffic     reads dy once, and index once per block, from cache; writes 4 rows E bytes. Overwrites.
// Order       n from 0 up.
// Takes       any sizes.
// Registers <= 40
struct EmbeddingGradParams {
    const int *index;
    const float *dy;
    float *table;
    int count;
    int channels;
};

extern "C" __global__ void __launch_bounds__(256) embedding_grad(const EmbeddingGradParams p) {
    const int c = blockIdx.x * 256 + threadIdx.x;
    if (c >= p.channels) return;
    float sum = 0.0f;
    for (int n = 0; n < p.count; ++n) {
        if (p.index[n] == static_cast<int>(blockIdx.y)) sum += p.dy[static_cast<long long>(n) * p.channels + c];
    }
    p.table[static_cast<long long>(blockIdx.y) * p.channels + c] = sum;
}
