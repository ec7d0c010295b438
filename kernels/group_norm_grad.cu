// The gradients of group normalisation, with x̂ = (x - mean) rstd and d = act'(gamma x̂ + beta) dy. One pass over the data
// computes the sums that all gradients need, another the gradient of x.
#include "common/channel_tile.cuh"
#include "common/fast_swish.cuh"
#include "common/reduce.cuh"
#include "common/types.cuh"

// plain[n][c] = sum_p d, scaled[n][c] = sum_p d x̂, over the slab's positions.
//
// Shapes      x, dy [N,P,C] of T; stats [N,G,2], gamma, beta [C] of f32; plain, scaled [slabs][N,C] of f32, slabs
//             `stride` floats apart (partial_sums adds them).
// Launch      grid (tiles, slabs, N), block columns lanes rounded up to 32, at most 256; columns a power of two of at
//             most 32; 16 KiB of static shared memory.
// Traffic     reads x and dy once, writes 8 slabs N C bytes. Overwrites.
// Order       a thread sums its positions, then lanes as in sum_lanes. Independent of N.
// Takes       any P and G; V divides C.
// Registers <= 80
struct GroupNormGradSumsParams {
    const void *x;
    const float *stats;
    const float *gamma;
    const float *beta;
    const void *dy;
    float *plain;
    float *scaled;
    long long stride;
    int positions;
    int channels;
    int groups;
    // How the tiles cut x: see ChannelTile.
    int columns;
    int lanes;
    int slab;   // positions
    int swish;  // 1: act is Swish
};

extern "C" __global__ void __launch_bounds__(256) group_norm_grad_sums(const GroupNormGradSumsParams p) {
    __shared__ float scratch[2][8][32 * V];
    const ChannelTile tile(p.columns, p.lanes, p.columns, 1, p.slab, p.channels / V, p.positions);
    const int channel = tile.column * V, size = p.channels / p.groups;
    float sums[2][V];
#pragma unroll
    for (int v = 0; v < V; ++v) sums[0][v] = sums[1][v] = 0.0f;
    float gamma[V] = {}, beta[V] = {};
    load_channels_together<V>(p.gamma, tile.active ? channel : -1, gamma);
    load_channels_together<V>(p.beta, tile.active ? channel : -1, beta);
    if (tile.active) {
        float mean[V], rstd[V];
#pragma unroll
        for (int v = 0; v < V; ++v) {
            const float *stats = p.stats + 2ll * (blockIdx.z * p.groups + (channel + v) / size);
            mean[v] = stats[0];
            rstd[v] = stats[1];
        }
        const long long sample = static_cast<long long>(blockIdx.z) * p.positions * p.channels + channel;
        const T *x = static_cast<const T *>(p.x) + sample;
        const T *dy = static_cast<const T *>(p.dy) + sample;
#pragma unroll 2
        for (int row = tile.begin + tile.lane; row < tile.end; row += p.lanes) {
            const long long at = static_cast<long long>(row) * p.channels;
            float value[V], d[V];
            load_floats<V>(x + at, value);
            load_floats<V>(dy + at, d);
#pragma unroll
            for (int v = 0; v < V; ++v) {
                const float hat = (value[v] - mean[v]) * rstd[v];
                if (p.swish) d[v] *= fast_swish_derivative(fmaf(gamma[v], hat, beta[v]));
                sums[0][v] += d[v];
                sums[1][v] = fmaf(d[v], hat, sums[1][v]);
            }
        }
    }
    const int first = blockIdx.x * p.columns * V;
    sum_lanes(sums, p.columns, scratch, [&](int which, int c, float sum) {
        if (first + c >= p.channels) return;
        float *target = (which == 0 ? p.plain : p.scaled) + blockIdx.y * p.stride;
        target[static_cast<long long>(blockIdx.z) * p.channels + first + c] = sum;
    });
}

// dx = rstd (gamma d - sum_group(gamma plain) / m - x̂ sum_group(gamma scaled) / m) for groups of m elements.
//
// Shapes      as above; plain, scaled [N,C]; dx like x. dx may be the memory of dy or of x.
// Launch      grid (tiles, slabs, N), block columns lanes rounded up to 32, at most 256; at most 32 groups in a tile;
//             256 bytes of static shared memory.
// Traffic     reads x and dy once, writes dx; each block reads gamma and the sums of its groups. Overwrites.
// Order       a group's channels: lane l of a warp takes l, l + 32, ..., then a butterfly.
// Takes       any P; V divides C / G.
// Registers <= 64
struct GroupNormInputGradParams {
    const void *x;
    const float *stats;
    const float *gamma;
    const float *beta;
    const void *dy;
    const float *plain;
    const float *scaled;
    void *dx;
    int positions;
    int channels;
    int groups;
    // How the tiles cut x: see ChannelTile.
    int columns;
    int lanes;
    int span;
    int parts;
    int slab;   // positions
    int swish;  // 1: act is Swish
};

extern "C" __global__ void __launch_bounds__(256) group_norm_input_grad(const GroupNormInputGradParams p) {
    __shared__ float means[2][32];
    const int size = p.channels / p.groups;
    const TileGroups groups(size / V, p.columns, p.parts, p.groups);
    const float share = 1.0f / (static_cast<float>(size) * static_cast<float>(p.positions));
    for (int g = threadIdx.x >> 5; g < groups.count; g += blockDim.x >> 5) {
        const float *gamma = p.gamma + (groups.first + g) * size;
        const long long sums = static_cast<long long>(blockIdx.z) * p.channels + (groups.first + g) * size;
        float plain = 0.0f, scaled = 0.0f;
        for (int c = threadIdx.x & 31; c < size; c += 32) {
            plain = fmaf(gamma[c], p.plain[sums + c], plain);
            scaled = fmaf(gamma[c], p.scaled[sums + c], scaled);
        }
        plain = warp_sum(plain);
        scaled = warp_sum(scaled);
        if ((threadIdx.x & 31) == 0) {
            means[0][g] = plain * share;
            means[1][g] = scaled * share;
        }
    }
    __syncthreads();

    const ChannelTile tile(p.columns, p.lanes, p.span, p.parts, p.slab, p.channels / V, p.positions);
    float gamma[V] = {}, beta[V] = {};
    const int channel = tile.column * V, group = channel / size;
    load_channels_together<V>(p.gamma, tile.active ? channel : -1, gamma);
    load_channels_together<V>(p.beta, tile.active ? channel : -1, beta);
    if (!tile.active) return;
    const float *stats = p.stats + 2ll * (blockIdx.z * p.groups + group);
    const float mean = stats[0], rstd = stats[1];
    const float plain = means[0][group - groups.first], scaled = means[1][group - groups.first];
    const long long sample = static_cast<long long>(blockIdx.z) * p.positions * p.channels + channel;
    const T *x = static_cast<const T *>(p.x) + sample;
    const T *dy = static_cast<const T *>(p.dy) + sample;
    T *dx = static_cast<T *>(p.dx) + sample;
    for (int row = tile.begin + tile.lane; row < tile.end; row += p.lanes) {
        const long long at = static_cast<long long>(row) * p.channels;
        float value[V], d[V];
        load_floats<V>(x + at, value);
        load_floats<V>(dy + at, d);
#pragma unroll
        for (int v = 0; v < V; ++v) {
            const float hat = (value[v] - mean) * rstd;
            if (p.swish) d[v] *= fast_swish_derivative(fmaf(gamma[v], hat, beta[v]));
            value[v] = rstd * (fmaf(gamma[v], d[v], -plain) - hat * scaled);
        }
        store_floats<V>(dx + at, value);
    }
}
