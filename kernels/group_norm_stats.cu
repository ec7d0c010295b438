// Mean and 1 / sqrt(variance + eps) of every group of channels of every sample.
#include "common/group_moments.cuh"

// Shapes      x [N,P,C] of T, stats [N,G,2] of f32, partials [N,G,slabs parts] of Moments (unused where slabs parts = 1).
// Launch      grid (tiles, slabs, N), block columns lanes rounded up to 32, at most 256; 8 KiB of static shared memory.
// Traffic     reads x once; writes stats, or partials for group_norm_stats_merge. Overwrites.
// Order       as in tile_moments. Independent of N.
// Takes       any P; V divides C / G.
// Registers <= 64
struct GroupNormStatsParams {
    const void *x;
    float *stats;
    void *partials;
    int positions;
    int channels;
    int groups;
    // How the tiles cut x: see ChannelTile.
    int columns;
    int lanes;
    int span;
    int parts;
    int slab;  // positions
    float eps;
};

extern "C" __global__ void __launch_bounds__(256) group_norm_stats(const GroupNormStatsParams p) {
    const T *x = static_cast<const T *>(p.x) + static_cast<long long>(blockIdx.z) * p.positions * p.channels;
    const int size = p.channels / p.groups;
    const ChannelTile tile(p.columns, p.lanes, p.span, p.parts, p.slab, p.channels / V, p.positions);
    const TileGroups groups(size / V, p.columns, p.parts, p.groups);
    tile_moments<V>(x, tile, groups, p.lanes, p.columns, p.channels, [&](int g, Moments moments) {
        const long long group = static_cast<long long>(blockIdx.z) * p.groups + groups.first + g;
        if (gridDim.y * p.parts == 1) {
            reinterpret_cast<float2 *>(p.stats)[group] = mean_and_rstd(moments, p.eps);
        } else {
            const long long part = (group * gridDim.y + blockIdx.y) * p.parts + blockIdx.x % p.parts;
            static_cast<Moments *>(p.partials)[part] = moments;
        }
    });
}

// The statistics of `groups` groups, N G in all, from `parts` moments of each, whichever kernel stored them.
//
// Shapes      partials [groups][parts] of Moments, stats [groups][2] of f32.
// Launch      grid ceil(groups / 8), block 256: a warp for each group; no shared memory.
// Traffic     reads 16 groups parts bytes twice, from cache the second time; writes 8 groups. Overwrites.
// Order       as in merge.
// Takes       any groups and parts.
// Registers <= 48
struct GroupNormStatsMergeParams {
    const void *partials;
    float *stats;
    int groups;
    int parts;
    float eps;
};

extern "C" __global__ void __launch_bounds__(256) group_norm_stats_merge(const GroupNormStatsMergeParams p) {
    const int group = blockIdx.x * 8 + (threadIdx.x >> 5);
    if (group >= p.groups) return;
    const Moments *partials = static_cast<const Moments *>(p.partials) + static_cast<long long>(group) * p.parts;
    const Moments all = merge(partials[0].base, p.parts, [&](int i) { return partials[i]; });
    if ((threadIdx.x & 31) == 0) reinterpret_cast<float2 *>(p.stats)[group] = mean_and_rstd(all, p.eps);
}
