// Which channels and positions of x [N,P,C] a thread works on, in kernels that keep per-channel numbers in registers.
//
// A column is V neighbouring channels, which one access loads. A block's threads cover `columns` columns at `lanes`
// positions; each thread keeps its column and steps through the block's slab of positions. The grid is (tiles, slabs, N).
// Tiles start `span` columns apart; a group that is wider than a block is cut into `parts` tiles of its span.
// src/ops/cuda/channel_tiles.rs has the same arithmetic for the host.
#pragma once
#include "common/types.cuh"

struct ChannelTile {
    int column; // counted from the sample's first
    int lane;
    int begin;  // the slab's first position
    int end;    // behind the slab's last position
    bool active; // false for threads beyond the tile's columns or lanes

    __device__ ChannelTile(int columns, int lanes, int span, int parts, int slab, int all_columns, int positions) {
        const int tile = blockIdx.x / parts, part = blockIdx.x % parts;
        column = tile * span + part * columns + threadIdx.x % columns;
        lane = threadIdx.x / columns;
        begin = blockIdx.y * slab;
        end = min(begin + slab, positions);
        active = lane < lanes && column < min((tile + 1) * span, all_columns);
    }

    // Positions that the thread visits: begin + lane, begin + lane + lanes, ...
    __device__ int count(int lanes) const { return active ? max(0, (end - begin - lane + lanes - 1) / lanes) : 0; }
};

// The groups of a block's tile: whole groups, or a part of one.
struct TileGroups {
    int first;
    int count;
    int columns; // of each group in this tile

    __device__ TileGroups(int group_columns, int tile_columns, int parts, int groups) {
        columns = min(group_columns, tile_columns);
        first = parts > 1 ? blockIdx.x / parts : blockIdx.x * (tile_columns / columns);
        count = parts > 1 ? 1 : min(tile_columns / columns, groups - first);
    }
};

// Loads N neighbouring numbers of per-channel data, from an address aligned to N floats or to 16 bytes.
template <int N> __device__ __forceinline__ void load_channels(const float *p, float (&out)[N]) {
    constexpr int STEP = N < 4 ? N : 4;
#pragma unroll
    for (int i = 0; i < N; i += STEP) {
        float piece[STEP];
        load_floats<STEP>(p + i, piece);
#pragma unroll
        for (int k = 0; k < STEP; ++k) out[i + k] = piece[k];
    }
}

// The same for a whole warp, whose lanes may be at any columns. For N = 8 two neighbouring lanes load the sector of the even
// lane together, then that of the odd lane, so that no request takes half of a sector. Lanes that load nothing pass a
// negative channel.
template <int N> __device__ __forceinline__ void load_channels_together(const float *p, int channel, float (&out)[N]) {
    if constexpr (N != 8) {
        if (channel >= 0) load_channels<N>(p + channel, out);
    } else {
        const int odd = threadIdx.x & 1;
        const int other = __shfl_xor_sync(0xffffffffu, channel, 1);
        const int even_channel = odd ? other : channel, odd_channel = odd ? channel : other;
        float of_even[4] = {}, of_odd[4] = {};
        if (even_channel >= 0) load_floats<4>(p + even_channel + odd * 4, of_even);
        if (odd_channel >= 0) load_floats<4>(p + odd_channel + odd * 4, of_odd);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            const float given = __shfl_xor_sync(0xffffffffu, odd ? of_even[k] : of_odd[k], 1);
            out[k] = odd ? given : of_even[k];
            out[k + 4] = odd ? of_odd[k] : given;
        }
    }
}

// Sums R x N numbers over the lanes of each column of a block, in a fixed order: lanes of a warp by butterfly, warps one
// after another. `columns` is a power of two of at most 32. Calls write(which, c, sum) for channel c of the tile, counted
// from the tile's first. All threads of the block call it; blockDim.x is a multiple of 32.
template <int R, int N, typename F>
__device__ __forceinline__ void sum_lanes(float (&values)[R][N], int columns, float (&scratch)[R][8][32 * N], F write) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
        for (int v = 0; v < N; ++v) {
            // Lanes of a warp that share a column are `columns` apart.
            for (int offset = 16; offset >= columns; offset >>= 1)
                values[r][v] += __shfl_xor_sync(0xffffffffu, values[r][v], offset);
            if (lane < columns) scratch[r][warp][lane * N + v] = values[r][v];
        }
    }
    __syncthreads();
    const int width = columns * N;
    for (int i = threadIdx.x; i < R * width; i += blockDim.x) {
        const int which = i / width, c = i % width;
        float sum = 0.0f;
        for (int w = 0; w < blockDim.x >> 5; ++w) sum += scratch[which][w][c];
        write(which, c, sum);
    }
}
