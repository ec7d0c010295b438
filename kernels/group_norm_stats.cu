// Mean and 1 / sqrt(variance + eps) of every group of channels of every sample.
//
// Sums are taken about numbers near the mean, so that a large mean costs no digits: a thread sums differences from its
// first position, and what threads and blocks hand on are moments (see `Moments`) about the group's first element. They
// are merged as Chan, Golub and LeVeque do, all means being small numbers then.
#include "common/reduce.cuh"
#include "common/types.cuh"
#include "common/channel_tile.cuh"

// What a block, or another kernel that has the values at hand, leaves of a part of a group: `count` values whose mean is
// base + offset and whose squared differences from it add up to `squares`. The base is any value of the part.
struct alignas(16) Moments {
    float base, offset, squares, count;
};

// The mean of the moments of all lanes less `base`, their squared differences from it and their number, by a warp.
// Entry i of `entries` is `moments(i)`; order: lane l takes entries l, l + 32, ..., then a butterfly.
template <typename F> __device__ __forceinline__ Moments merge(float base, int entries, F moments) {
    const int lane = threadIdx.x & 31;
    float count = 0.0f, total = 0.0f;
    for (int i = lane; i < entries; i += 32) {
        const Moments part = moments(i);
        count += part.count;
        total = fmaf(part.count, (part.base - base) + part.offset, total);
    }
    count = warp_sum(count);
    const float mean = warp_sum(total) / count;
    float squares = 0.0f;
    for (int i = lane; i < entries; i += 32) {
        const Moments part = moments(i);
        const float difference = (part.base - base) + part.offset - mean;
        squares += fmaf(part.count * difference, difference, part.squares);
    }
    return {base, mean, warp_sum(squares), count};
}

__device__ __forceinline__ void store_stats(float *stats, Moments all, float eps) {
    // Rounding may leave a hair below zero; NaN must stay.
    float variance = all.squares / all.count;
    if (variance < 0.0f) variance = 0.0f;
    stats[0] = all.base + all.offset;
    stats[1] = 1.0f / sqrtf(variance + eps);
}

// Shapes      x [N,P,C] of T, stats [N,G,2] of f32, partials [N,G,slabs parts] of Moments (unused where slabs parts = 1).
// Launch      grid (tiles, slabs, N), block columns lanes rounded up to 32, at most 256; 3 KiB of static shared memory.
// Traffic     reads x once; writes stats, or partials for group_norm_stats_merge. Overwrites.
// Order       a thread its positions, V channels, the threads of a group as in `merge`. Independent of N.
// Takes       any P; V divides C / G.
// Registers <= 64
struct GroupNormStatsParams {
    const void *x;
    float *stats;
    void *partials;
    int positions;
    int channels;
    int groups;
    int columns;
    int lanes;
    int span;
    int parts;
    int slab;
    float eps;
};

extern "C" __global__ void __launch_bounds__(256) group_norm_stats(const GroupNormStatsParams p) {
    __shared__ float counts[256], offsets[256], squares[256];
    const T *x = static_cast<const T *>(p.x) + static_cast<long long>(blockIdx.z) * p.positions * p.channels;
    const int size = p.channels / p.groups;
    const ChannelTile tile(p.columns, p.lanes, p.span, p.parts, p.slab, p.channels / V, p.positions);
    const int count = tile.count(p.lanes);

    float offset = 0.0f, square = 0.0f;
    if (count > 0) {
        const float base = to_float(x[tile.column * V / size * size]);
        const T *at = x + static_cast<long long>(tile.begin + tile.lane) * p.channels + tile.column * V;
        const long long step = static_cast<long long>(p.lanes) * p.channels;
        float first[V], differences[V], products[V];
        load_floats<V>(at, first);
#pragma unroll
        for (int v = 0; v < V; ++v) differences[v] = products[v] = 0.0f;
        // The first position's difference is 0, but not if it is not finite.
#pragma unroll 4
        for (int i = 0; i < count; ++i, at += step) {
            float value[V];
            load_floats<V>(at, value);
#pragma unroll
            for (int v = 0; v < V; ++v) {
                const float difference = value[v] - first[v];
                differences[v] += difference;
                products[v] = fmaf(difference, difference, products[v]);
            }
        }
        const float share = 1.0f / static_cast<float>(count);
        float mean[V];
#pragma unroll
        for (int v = 0; v < V; ++v) {
            const float about_first = differences[v] * share;
            mean[v] = (first[v] - base) + about_first;
            offset += mean[v];
            square += fmaf(-differences[v], about_first, products[v]);
        }
        offset *= 1.0f / V;
#pragma unroll
        for (int v = 0; v < V; ++v) square = fmaf(count * (mean[v] - offset), mean[v] - offset, square);
    }
    counts[threadIdx.x] = static_cast<float>(count * V);
    offsets[threadIdx.x] = offset;
    squares[threadIdx.x] = square;
    __syncthreads();

    const int group_columns = min(size / V, p.columns);
    const int first_group = p.parts > 1 ? blockIdx.x / p.parts : blockIdx.x * (p.columns / group_columns);
    const int groups = p.parts > 1 ? 1 : min(p.columns / group_columns, p.groups - first_group);
    for (int g = threadIdx.x >> 5; g < groups; g += blockDim.x >> 5) {
        const Moments all = merge(0.0f, p.lanes * group_columns, [&](int i) -> Moments {
            const int t = i / group_columns * p.columns + g * group_columns + i % group_columns;
            return {0.0f, offsets[t], squares[t], counts[t]};
        });
        if ((threadIdx.x & 31) == 0) {
            const long long group = static_cast<long long>(blockIdx.z) * p.groups + first_group + g;
            const float base = to_float(x[(first_group + g) * size]);
            const Moments moments = {base, all.offset, all.squares, all.count};
            if (gridDim.y * p.parts == 1) {
                store_stats(p.stats + 2 * group, moments, p.eps);
            } else {
                const long long part = (group * gridDim.y + blockIdx.y) * p.parts + blockIdx.x % p.parts;
                static_cast<Moments *>(p.partials)[part] = moments;
            }
        }
    }
}

// The statistics of `groups` groups, N G in all, from `parts` moments of each.
//
// Shapes      partials [groups][parts] of Moments, stats [groups][2] of f32.
// Launch      grid ceil(groups / 8), block 256: a warp for each group; no shared memory.
// Traffic     reads 16 groups parts bytes twice, from cache the second time; writes 8 groups. Overwrites.
// Order       as in `merge`.
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
    if ((threadIdx.x & 31) == 0) store_stats(p.stats + 2 * group, all, p.eps);
}
