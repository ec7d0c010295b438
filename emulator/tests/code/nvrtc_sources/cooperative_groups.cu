// Cooperative groups: tiles, coalesced groups, labelled and binary partitions, reductions, scans, grid-wide barriers.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cooperative_groups/scan.h>
namespace cg = cooperative_groups;

// For every thread: the sum over its block, and over its tiles of 32, 16, 4 and 1 threads.
extern "C" __global__ void tile_sums(const int* x, int* y) {
    cg::thread_block block = cg::this_thread_block();
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    cg::thread_block_tile<32> warp = cg::tiled_partition<32>(block);
    cg::thread_block_tile<16> half = cg::tiled_partition<16>(block);
    cg::thread_block_tile<4> quad = cg::tiled_partition<4>(warp);
    cg::thread_block_tile<1> one = cg::tiled_partition<1>(block);
    y[5 * i + 0] = cg::reduce(warp, x[i], cg::plus<int>());
    y[5 * i + 1] = cg::reduce(half, x[i], cg::plus<int>());
    y[5 * i + 2] = cg::reduce(quad, x[i], cg::plus<int>());
    y[5 * i + 3] = cg::reduce(one, x[i], cg::plus<int>());
    y[5 * i + 4] = warp.meta_group_rank() * 1000 + warp.thread_rank();
}

// Other operators and types.
extern "C" __global__ void tile_operators(const int* x, const float* f, int* y, float* z) {
    cg::thread_block_tile<32> warp = cg::tiled_partition<32>(cg::this_thread_block());
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    y[6 * i + 0] = cg::reduce(warp, x[i], cg::less<int>());
    y[6 * i + 1] = cg::reduce(warp, x[i], cg::greater<int>());
    y[6 * i + 2] = cg::reduce(warp, x[i], cg::bit_and<int>());
    y[6 * i + 3] = cg::reduce(warp, x[i], cg::bit_or<int>());
    y[6 * i + 4] = cg::reduce(warp, x[i], cg::bit_xor<int>());
    y[6 * i + 5] = cg::reduce(warp, (unsigned)x[i], cg::greater<unsigned>());
    z[2 * i + 0] = cg::reduce(warp, f[i], cg::plus<float>());
    z[2 * i + 1] = cg::reduce(warp, f[i], cg::greater<float>());
}

// Scans over tiles of 32 and of 8.
extern "C" __global__ void tile_scans(const int* x, int* y) {
    cg::thread_block block = cg::this_thread_block();
    cg::thread_block_tile<32> warp = cg::tiled_partition<32>(block);
    cg::thread_block_tile<8> eight = cg::tiled_partition<8>(block);
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    y[4 * i + 0] = cg::inclusive_scan(warp, x[i], cg::plus<int>());
    y[4 * i + 1] = cg::exclusive_scan(warp, x[i], cg::plus<int>());
    y[4 * i + 2] = cg::inclusive_scan(eight, x[i], cg::greater<int>());
    y[4 * i + 3] = cg::exclusive_scan(eight, x[i], cg::plus<int>());
}

// A coalesced group of the threads with an odd value: its size, the thread's rank in it and its sum. A labelled
// partition by value modulo 3, and a binary one by the lowest bit.
extern "C" __global__ void divergent_groups(const int* x, int* y) {
    cg::thread_block_tile<32> warp = cg::tiled_partition<32>(cg::this_thread_block());
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int value = x[i];
    y[5 * i + 0] = y[5 * i + 1] = y[5 * i + 2] = -1;
    if (value & 1) {
        cg::coalesced_group odd = cg::coalesced_threads();
        y[5 * i + 0] = odd.size();
        y[5 * i + 1] = odd.thread_rank();
        y[5 * i + 2] = cg::reduce(odd, value, cg::plus<int>());
    }
    warp.sync();
    cg::coalesced_group same = cg::labeled_partition(warp, value % 3);
    y[5 * i + 3] = cg::reduce(same, value, cg::plus<int>());
    cg::coalesced_group bit = cg::binary_partition(warp, value & 1);
    y[5 * i + 4] = bit.size() * 100 + bit.thread_rank();
}

// Shuffles, votes and matches of a tile of 8.
extern "C" __global__ void tile_collectives(const int* x, int* y) {
    cg::thread_block_tile<8> tile = cg::tiled_partition<8>(cg::this_thread_block());
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    y[8 * i + 0] = tile.shfl(x[i], 3);
    y[8 * i + 1] = tile.shfl_up(x[i], 2);
    y[8 * i + 2] = tile.shfl_down(x[i], 1);
    y[8 * i + 3] = tile.shfl_xor(x[i], 5);
    y[8 * i + 4] = tile.any(x[i] > 90);
    y[8 * i + 5] = tile.all(x[i] > 10);
    y[8 * i + 6] = tile.ballot(x[i] & 1);
    y[8 * i + 7] = tile.match_any(x[i] & 3);
}

// Sum of everything with one grid-wide barrier: each block writes its partial sum, then the first thread adds them up.
extern "C" __global__ void grid_sum(const int* x, int* partial, int* total, int n) {
    cg::grid_group grid = cg::this_grid();
    cg::thread_block block = cg::this_thread_block();
    __shared__ int warps[32];
    int sum = 0;
    for (unsigned long long i = grid.thread_rank(); i < n; i += grid.size()) sum += x[i];
    cg::thread_block_tile<32> warp = cg::tiled_partition<32>(block);
    sum = cg::reduce(warp, sum, cg::plus<int>());
    if (warp.thread_rank() == 0) warps[warp.meta_group_rank()] = sum;
    block.sync();
    if (block.thread_rank() == 0) {
        int all = 0;
        for (int w = 0; w < warp.meta_group_size(); ++w) all += warps[w];
        partial[blockIdx.x] = all;
    }
    grid.sync();
    if (grid.thread_rank() == 0) {
        int all = 0;
        for (int b = 0; b < gridDim.x; ++b) all += partial[b];
        *total = all;
    }
}
