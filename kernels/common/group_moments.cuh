// Mean and variance of groups of channels, without losing digits to a large mean.
//
// Sums are taken about numbers near the mean: a thread sums differences from its first position, and threads and blocks hand
// on moments about one of their values. Moments are merged by the formula of Chan, Golub and LeVeque, in which all means
// are small numbers then.
#pragma once
#include "common/channel_tile.cuh"
#include "common/reduce.cuh"
#include "common/types.cuh"

// Moments of a part of a group: `count` values with mean base + offset, whose squared differences from the mean add up to
// `squares`. The base is any value of the part. Written by a block, or by another kernel that has the values at hand.
struct alignas(16) Moments {
    float base, offset, squares, count;
};

// A warp merges the moments of `entries` parts, about `base`. Order: lane l takes entries l, l + 32, ..., then a butterfly.
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

// Mean and 1 / sqrt(variance + eps).
static __device__ __forceinline__ float2 mean_and_rstd(Moments all, float eps) {
    // Rounding may leave a number just below zero. A comparison keeps NaN.
    float variance = all.squares / all.count;
    if (variance < 0.0f) variance = 0.0f;
    return make_float2(all.base + all.offset, 1.0f / sqrtf(variance + eps));
}

// Moments of each group of the block's tile of a sample `x`. A column's N channels are all of one group. One lane calls
// write(g, moments) for group g of the tile. All threads of the block call it; blockDim.x is a multiple of 32 and at most
// 256.
// Order: a thread sums its positions in each of N channels, then these; the threads of a group are merged as in `merge`.
template <int N, typename E, typename F>
__device__ __forceinline__ void tile_moments(const E *x, const ChannelTile &tile, const TileGroups &groups, int lanes,
                                             int columns, int channels, F write) {
    // [group][lane][column of the group], so that a warp merges neighbours. Where the extents are powers of two, eight
    // neighbouring threads write to different banks.
    __shared__ float4 parts[512];
    const int length = lanes * groups.columns;
    const int pad = max(groups.columns, 8 * groups.columns / columns);
    const int pitch = length % 8 == 0 ? length + min(pad, 8) : length;
    const int count = tile.count(lanes);
    float base = 0.0f, offset = 0.0f, square = 0.0f;
    if (count > 0) {
        const E *at = x + static_cast<long long>(tile.begin + tile.lane) * channels + tile.column * N;
        const long long step = static_cast<long long>(lanes) * channels;
        float first[N], differences[N], products[N];
        load_floats<N>(at, first);
        base = first[0];
#pragma unroll
        for (int v = 0; v < N; ++v) differences[v] = products[v] = 0.0f;
        // The first position's difference is 0, but NaN where the value is not finite, and so it is not left out.
#pragma unroll 4
        for (int i = 0; i < count; ++i, at += step) {
            float value[N];
            load_floats<N>(at, value);
#pragma unroll
            for (int v = 0; v < N; ++v) {
                const float difference = value[v] - first[v];
                differences[v] += difference;
                products[v] = fmaf(difference, difference, products[v]);
            }
        }
        const float share = 1.0f / static_cast<float>(count);
        float mean[N];
#pragma unroll
        for (int v = 0; v < N; ++v) {
            const float about_first = differences[v] * share;
            mean[v] = (first[v] - base) + about_first;
            offset += mean[v];
            square += fmaf(-differences[v], about_first, products[v]);
        }
        offset *= 1.0f / N;
#pragma unroll
        for (int v = 0; v < N; ++v) square = fmaf(count * (mean[v] - offset), mean[v] - offset, square);
    }
    const int own = threadIdx.x % columns;
    if (threadIdx.x < lanes * columns)
        parts[own / groups.columns * pitch + tile.lane * groups.columns + own % groups.columns] =
            make_float4(base, offset, square, static_cast<float>(count * N));
    __syncthreads();
    for (int g = threadIdx.x >> 5; g < groups.count; g += blockDim.x >> 5) {
        const float4 *of_group = parts + g * pitch;
        const Moments all = merge(of_group->x, length, [&](int i) -> Moments {
            const float4 part = of_group[i];
            return {part.x, part.y, part.z, part.w};
        });
        if ((threadIdx.x & 31) == 0) write(g, all);
    }
}
