// CUB's block and warp primitives.
#include <cub/block/block_load.cuh>
#include <cub/block/block_radix_sort.cuh>
#include <cub/block/block_reduce.cuh>
#include <cub/block/block_scan.cuh>
#include <cub/block/block_store.cuh>
#include <cub/warp/warp_reduce.cuh>
#include <cub/warp/warp_scan.cuh>

constexpr int THREADS = 128;
constexpr int ITEMS = 4;

struct Largest {
    template <typename T> __device__ T operator()(const T& a, const T& b) const { return a > b ? a : b; }
};

template <cub::BlockReduceAlgorithm ALGORITHM>
__device__ void block_sum(const int* x, int* total) {
    using Reduce = cub::BlockReduce<int, THREADS, ALGORITHM>;
    __shared__ typename Reduce::TempStorage storage;
    int items[ITEMS];
    for (int k = 0; k < ITEMS; ++k) items[k] = x[(blockIdx.x * THREADS + threadIdx.x) * ITEMS + k];
    int sum = Reduce(storage).Sum(items);
    __syncthreads();
    int largest = Reduce(storage).Reduce(items, Largest());
    if (threadIdx.x == 0) {
        total[2 * blockIdx.x] = sum;
        total[2 * blockIdx.x + 1] = largest;
    }
}

extern "C" __global__ void reduce_warps(const int* x, int* y) { block_sum<cub::BLOCK_REDUCE_WARP_REDUCTIONS>(x, y); }
extern "C" __global__ void reduce_raking(const int* x, int* y) { block_sum<cub::BLOCK_REDUCE_RAKING>(x, y); }
extern "C" __global__ void reduce_commutative(const int* x, int* y) {
    block_sum<cub::BLOCK_REDUCE_RAKING_COMMUTATIVE_ONLY>(x, y);
}

extern "C" __global__ void reduce_double(const double* x, double* y, int valid) {
    using Reduce = cub::BlockReduce<double, THREADS>;
    __shared__ Reduce::TempStorage storage;
    double sum = Reduce(storage).Sum(x[threadIdx.x], valid);
    if (threadIdx.x == 0) *y = sum;
}

template <cub::BlockScanAlgorithm ALGORITHM>
__device__ void block_scan(const int* x, int* exclusive, int* inclusive, int* total) {
    using Scan = cub::BlockScan<int, THREADS, ALGORITHM>;
    __shared__ typename Scan::TempStorage storage;
    int items[ITEMS], sums[ITEMS], aggregate;
    int first = (blockIdx.x * THREADS + threadIdx.x) * ITEMS;
    for (int k = 0; k < ITEMS; ++k) items[k] = x[first + k];
    Scan(storage).ExclusiveSum(items, sums, aggregate);
    for (int k = 0; k < ITEMS; ++k) exclusive[first + k] = sums[k];
    __syncthreads();
    Scan(storage).InclusiveScan(items, sums, Largest());
    for (int k = 0; k < ITEMS; ++k) inclusive[first + k] = sums[k];
    if (threadIdx.x == 0) total[blockIdx.x] = aggregate;
}

extern "C" __global__ void scan_raking(const int* x, int* e, int* i, int* t) { block_scan<cub::BLOCK_SCAN_RAKING>(x, e, i, t); }
extern "C" __global__ void scan_memoize(const int* x, int* e, int* i, int* t) {
    block_scan<cub::BLOCK_SCAN_RAKING_MEMOIZE>(x, e, i, t);
}
extern "C" __global__ void scan_warps(const int* x, int* e, int* i, int* t) { block_scan<cub::BLOCK_SCAN_WARP_SCANS>(x, e, i, t); }

extern "C" __global__ void sort_floats(float* keys) {
    using Load = cub::BlockLoad<float, THREADS, ITEMS, cub::BLOCK_LOAD_TRANSPOSE>;
    using Sort = cub::BlockRadixSort<float, THREADS, ITEMS>;
    using Store = cub::BlockStore<float, THREADS, ITEMS, cub::BLOCK_STORE_WARP_TRANSPOSE>;
    __shared__ union {
        Load::TempStorage load;
        Sort::TempStorage sort;
        Store::TempStorage store;
    } storage;
    float items[ITEMS];
    Load(storage.load).Load(keys + blockIdx.x * THREADS * ITEMS, items);
    __syncthreads();
    Sort(storage.sort).Sort(items);
    __syncthreads();
    Store(storage.store).Store(keys + blockIdx.x * THREADS * ITEMS, items);
}

extern "C" __global__ void sort_pairs_descending(unsigned* keys, int* values) {
    using Sort = cub::BlockRadixSort<unsigned, THREADS, ITEMS, int>;
    __shared__ Sort::TempStorage storage;
    unsigned k[ITEMS];
    int v[ITEMS];
    int first = (blockIdx.x * THREADS + threadIdx.x) * ITEMS;
    for (int i = 0; i < ITEMS; ++i) {
        k[i] = keys[first + i];
        v[i] = values[first + i];
    }
    Sort(storage).SortDescending(k, v);
    for (int i = 0; i < ITEMS; ++i) {
        keys[first + i] = k[i];
        values[first + i] = v[i];
    }
}

extern "C" __global__ void warp_reduce(const float* x, float* y, int* heads_sum, const int* flags) {
    using Reduce = cub::WarpReduce<float>;
    using Segmented = cub::WarpReduce<int>;
    __shared__ Reduce::TempStorage storage[THREADS / 32];
    __shared__ Segmented::TempStorage segments[THREADS / 32];
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float sum = Reduce(storage[warp]).Sum(x[threadIdx.x]);
    if (lane == 0) y[warp] = sum;
    int segment = Segmented(segments[warp]).HeadSegmentedSum(threadIdx.x, flags[threadIdx.x]);
    heads_sum[threadIdx.x] = flags[threadIdx.x] || lane == 0 ? segment : -1;
}

extern "C" __global__ void warp_scan(const int* x, int* y) {
    using Scan = cub::WarpScan<int, 16>;
    __shared__ Scan::TempStorage storage[THREADS / 16];
    int result;
    Scan(storage[threadIdx.x / 16]).ExclusiveSum(x[threadIdx.x], result);
    y[threadIdx.x] = result;
}
