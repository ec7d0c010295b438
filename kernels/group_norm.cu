// y = act(gamma (x - mean) rstd + beta) (+ residual) (+ embed), where act is Swish or the identity. One kernel reads the
// statistics, the other computes them too.
#include "common/fast_swish.cuh"
#include "common/group_moments.cuh"

struct GroupNormParams {
    const void *x;
    float *stats;  // read by group_norm, written by group_norm_whole
    const float *gamma;
    const float *beta;
    const void *residual;  // or null
    const void *embed;     // or null
    void *y;
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
    float eps;
};

// Normalises the thread's column at its positions, if the thread is active, with the mean and rstd of each of its channels.
// Whole warps call it. y may be the memory of x, of residual, or, if there is one position, of embed: the thread that writes
// an element has read it before.
__device__ __forceinline__ void normalise(const GroupNormParams &p, const ChannelTile &tile, const float (&mean)[V],
                                          const float (&rstd)[V]) {
    const int channel = tile.active ? tile.column * V : -1;
    float scale[V] = {}, shift[V] = {}, added[V] = {};
    load_channels_together<V>(p.gamma, channel, scale);
    load_channels_together<V>(p.beta, channel, shift);
#pragma unroll
    for (int v = 0; v < V; ++v) scale[v] *= rstd[v];
    if (!tile.active) return;
    const long long per_sample = static_cast<long long>(blockIdx.z) * p.channels + channel;
    if (p.embed) load_floats<V>(static_cast<const T *>(p.embed) + per_sample, added);

    const long long sample = static_cast<long long>(blockIdx.z) * p.positions * p.channels + channel;
    const T *x = static_cast<const T *>(p.x) + sample;
    const T *residual = static_cast<const T *>(p.residual) + (p.residual ? sample : 0);
    T *y = static_cast<T *>(p.y) + sample;
    for (int row = tile.begin + tile.lane; row < tile.end; row += p.lanes) {
        const long long at = static_cast<long long>(row) * p.channels;
        float value[V], other[V];
        load_floats<V>(x + at, value);
        if (p.residual) load_floats<V>(residual + at, other);
#pragma unroll
        for (int v = 0; v < V; ++v) {
            // Folding the mean into the shift would save an instruction, but cancel digits where the mean is large.
            float u = fmaf(value[v] - mean[v], scale[v], shift[v]);
            if (p.swish) u = fast_swish(u);
            if (p.residual) u += other[v];
            value[v] = u + added[v];
        }
        store_floats<V>(y + at, value);
    }
}

// Shapes      x, y, residual [N,P,C], embed [N,C] of T; stats [N,G,2] (mean, rstd), gamma, beta [C] of f32.
// Launch      grid (tiles, slabs, N), block columns lanes rounded up to 32, at most 256; no shared memory.
// Traffic     reads x and residual once, writes y; 16 bytes at a time where V is 16 bytes. Overwrites.
// Order       no reduction.
// Takes       any P and G; V divides C.
// Registers <= 64
extern "C" __global__ void __launch_bounds__(256) group_norm(const GroupNormParams p) {
    const ChannelTile tile(p.columns, p.lanes, p.span, p.parts, p.slab, p.channels / V, p.positions);
    const int channel = tile.active ? tile.column * V : 0, size = p.channels / p.groups;
    const float2 *stats = reinterpret_cast<const float2 *>(p.stats) + blockIdx.z * p.groups;
    float mean[V], rstd[V];
#pragma unroll
    for (int v = 0; v < V; ++v) {
        const float2 of_group = stats[(channel + v) / size];
        mean[v] = of_group.x;
        rstd[v] = of_group.y;
    }
    normalise(p, tile, mean, rstd);
}

// Computes the statistics too: a block owns whole groups.
//
// Shapes      as above; stats is a result.
// Launch      grid (tiles, 1, N), block columns lanes rounded up to 32, at most 256; at most 32 groups in a tile; 8.3 KiB
//             of static shared memory.
// Traffic     reads x once from memory and once from the L1 cache, residual once; writes y and stats. Overwrites.
// Order       as in tile_moments. Independent of N.
// Takes       any P, but a block steps through all of it; V divides C / G; groups no wider than a block.
// Registers <= 64
extern "C" __global__ void __launch_bounds__(256) group_norm_whole(const GroupNormParams p) {
    __shared__ float2 stats[32];
    const int size = p.channels / p.groups;
    const ChannelTile tile(p.columns, p.lanes, p.span, 1, p.positions, p.channels / V, p.positions);
    const TileGroups groups(size / V, p.columns, 1, p.groups);
    const T *x = static_cast<const T *>(p.x) + static_cast<long long>(blockIdx.z) * p.positions * p.channels;
    tile_moments<V>(x, tile, groups, p.lanes, p.columns, p.channels, [&](int g, Moments moments) {
        const float2 of_group = mean_and_rstd(moments, p.eps);
        stats[g] = of_group;
        reinterpret_cast<float2 *>(p.stats)[static_cast<long long>(blockIdx.z) * p.groups + groups.first + g] = of_group;
    });
    __syncthreads();
    const float2 of_group = stats[tile.active ? tile.column * V / size - groups.first : 0];
    float mean[V], rstd[V];
#pragma unroll
    for (int v = 0; v < V; ++v) {
        mean[v] = of_group.x;
        rstd[v] = of_group.y;
    }
    normalise(p, tile, mean, rstd);
}
