// Which channels and positions of x [N,P,C] a thread works on, in kernels that keep per-channel numbers in registers.
//
// A column is V neighbouring channels, one access. Threads of a block lie side by side over `columns` columns and repeat
// over `lanes` positions; a thread keeps its column and steps through the block's slab of positions. The grid is
// (tiles, slabs, N). Tiles start `span` columns apart; where a group is wider than a block, its span is cut into `parts`
// tiles. The same arithmetic on the host: src/ops/channel_tiles.rs.
#pragma once
#include "common/types.cuh"

struct ChannelTile {
    int column; // counted from the sample's first
    int lane;
    int begin;  // of the positions of the slab
    int end;
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

// N neighbouring numbers of per-channel data, from an address aligned to N floats or to 16 bytes.
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
