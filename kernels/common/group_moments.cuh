// Mean and variance of groups of channels, without losing digits to a large mean.
//
// Sums are taken about numbers near the mean: a thread sums differences from its first position, and what threads and
// blocks hand on are moments about the group's first element. They are merged as Chan, Golub and LeVeque do, all means
// being small numbers then.
#pragma once
#include "common/channel_tile.cuh"
#include "common/reduce.cuh"
#include "common/types.cuh"

// What a block, or another kernel that has the values at hand, leaves of a part of a group: `count` values whose mean is
// base + offset and whose squared differences from it add up to `squares`. The base is any value of the part.
struct alignas(16) Moments {
    float base, offset, squares, count;
};

// Merges parts by a warp, about `base`. Order: lane l takes entries l, l + 32, ..., then a butterfly.
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
    // Rounding may leave a hair below zero; NaN must stay.
    float variance = all.squares / all.count;
    if (variance < 0.0f) variance = 0.0f;
    return make_float2(all.base + all.offset, 1.0f / sqrtf(variance + eps));
}

// Moments of the block's tile of a sample `x`, N channels to a column, all of one group of `size` channels; calls
// write(g, moments), by one lane, for group g of the tile. All threads of the block call it, blockDim.x a multiple of 32
// and at most 256.
// Order: a thread its positions, N channels, then the threads of a group as in `merge`.
template <int N, typename E, typename F>
__device__ __forceinline__ void tile_moments(const E *x, const ChannelTile &tile, const TileGroups &groups, int lanes,
                                             int columns, int channels, int size, F write) {
    __shared__ float counts[256], offsets[256], squares[256];
    const int count = tile.count(lanes);
    float offset = 0.0f, square = 0.0f;
    if (count > 0) {
        const float base = to_float(x[tile.column * N / size * size]);
        const E *at = x + static_cast<long long>(tile.begin + tile.lane) * channels + tile.column * N;
        const long long step = static_cast<long long>(lanes) * channels;
        float first[N], differences[N], products[N];
        load_floats<N>(at, first);
#pragma unroll
        for (int v = 0; v < N; ++v) differences[v] = products[v] = 0.0f;
        // The first position's difference is 0, but not if it is not finite.
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
    counts[threadIdx.x] = static_cast<float>(count * N);
    offsets[threadIdx.x] = offset;
    squares[threadIdx.x] = square;
    __syncthreads();
    for (int g = threadIdx.x >> 5; g < groups.count; g += blockDim.x >> 5) {
        const Moments all = merge(0.0f, lanes * groups.columns, [&](int i) -> Moments {
            const int t = i / groups.columns * columns + g * groups.columns + i % groups.columns;
            return {0.0f, offsets[t], squares[t], counts[t]};
        });
        const float base = to_float(x[(groups.first + g) * size]);
        if ((threadIdx.x & 31) == 0) write(g, Moments{base, all.offset, all.squares, all.count});
    }
}
