// A block's tile of a matrix product on ordinary lanes: f32 operands in shared memory, sums in registers.
//
// THREADS threads compute M x N results from tiles a [DEPTH][M] and b [DEPTH][N]. Each thread keeps THREAD_ROWS x 8
// results: 8 x 8 multiply-adds cost four 16-byte reads of shared memory. Products are added in the order of depth, one
// after the other, so that a result's bits depend on neither tile nor grid.
#pragma once
#include "common/types.cuh"

constexpr int THREADS = 64;
constexpr int DEPTH = 16;

// Index, along a tile side of SPAN elements, of the i-th of the COUNT elements that thread t of SPAN / COUNT keeps. A
// thread's elements are runs of up to four, which one read loads; neighbouring threads have neighbouring runs, so that a
// warp's reads have no bank conflicts.
template <int COUNT, int SPAN> __device__ __forceinline__ constexpr int place(int t, int i) {
    constexpr int RUN = COUNT < 4 ? COUNT : 4;
    return i / RUN * (SPAN / (COUNT / RUN)) + t * RUN + i % RUN;
}

template <int COUNT, int SPAN>
__device__ __forceinline__ void load_fragment(const float *row, int t, float (&out)[COUNT]) {
    constexpr int RUN = COUNT < 4 ? COUNT : 4;
#pragma unroll
    for (int i = 0; i < COUNT; i += RUN) {
        const Pack<float, RUN> run = *reinterpret_cast<const Pack<float, RUN> *>(row + place<COUNT, SPAN>(t, i));
#pragma unroll
        for (int j = 0; j < RUN; ++j) out[i + j] = run.v[j];
    }
}

template <int M, int N> struct Product {
    static constexpr int THREAD_COLUMNS = 8;
    static constexpr int THREAD_ROWS = M * N / (THREADS * THREAD_COLUMNS);
    static constexpr int ACROSS = N / THREAD_COLUMNS;
    static_assert(THREAD_ROWS >= 1 && M / THREAD_ROWS * ACROSS == THREADS, "every thread has a part of the tile");

    float sum[THREAD_ROWS][THREAD_COLUMNS];

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int i = 0; i < THREAD_ROWS; ++i)
#pragma unroll
            for (int j = 0; j < THREAD_COLUMNS; ++j) sum[i][j] = 0.0f;
    }

    __device__ __forceinline__ void add(const float (&a)[DEPTH][M], const float (&b)[DEPTH][N]) {
        const int down = threadIdx.x / ACROSS, across = threadIdx.x % ACROSS;
        // Unrolling further only makes the program take longer to compile.
#pragma unroll 4
        for (int k = 0; k < DEPTH; ++k) {
            float left[THREAD_ROWS], right[THREAD_COLUMNS];
            load_fragment<THREAD_ROWS, M>(a[k], down, left);
            load_fragment<THREAD_COLUMNS, N>(b[k], across, right);
#pragma unroll
            for (int i = 0; i < THREAD_ROWS; ++i)
#pragma unroll
                for (int j = 0; j < THREAD_COLUMNS; ++j) sum[i][j] = fmaf(left[i], right[j], sum[i][j]);
        }
    }

    // Row and column in the tile of sum[i][j]; columns come in two runs of four.
    static __device__ __forceinline__ int row(int i) { return place<THREAD_ROWS, M>(threadIdx.x / ACROSS, i); }
    static __device__ __forceinline__ int column(int j) { return place<THREAD_COLUMNS, N>(threadIdx.x % ACROSS, j); }
};

// How the block loads a tile [DEPTH][WIDTH] whose rows are contiguous in memory: four neighbours per thread.
template <int WIDTH> struct Quads {
    static constexpr int PER_ROW = WIDTH / 4;
    static constexpr int STEP = THREADS / PER_ROW;
    static constexpr int COUNT = (DEPTH + STEP - 1) / STEP;

    static __device__ __forceinline__ int column() { return threadIdx.x % PER_ROW * 4; }
    static __device__ __forceinline__ int row(int j) { return threadIdx.x / PER_ROW + j * STEP; }
    // Narrow tiles leave some threads without a row.
    static __device__ __forceinline__ bool has(int j) { return DEPTH % STEP == 0 || row(j) < DEPTH; }

    template <typename E>
    static __device__ __forceinline__ void store(const Pack<E, 4> (&quads)[COUNT], float (&tile)[DEPTH][WIDTH]) {
#pragma unroll
        for (int j = 0; j < COUNT; ++j) {
            if (!has(j)) continue;
            float v[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) v[i] = to_float(quads[j].v[i]);
            store_floats<4>(&tile[row(j)][column()], v);
        }
    }
};

// N zeros; the bits of zero are the same in every element type.
template <typename E, int N> __device__ __forceinline__ Pack<E, N> zeros() {
    Pack<E, N> pack;
#pragma unroll
    for (int i = 0; i < N; ++i) pack.v[i] = E{};
    return pack;
}

// One of four parameters, chosen without an indexed read, which would need local memory.
static __device__ __forceinline__ int pick(const int (&of)[4], int i) {
    return i == 0 ? of[0] : i == 1 ? of[1] : i == 2 ? of[2] : of[3];
}
