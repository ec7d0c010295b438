// Packs the filter of a convolution for conv2d_tensor:
//   packed[phase][n, tap, c] = sum over the filter's entries (ky, kx) that `tap` stands for of w[o, i, ky, kx]
// summed in f32 and rounded once. Conv2d has n = o and c = i, its input gradient n = i and c = o. Zeros follow a row's last
// channel up to a multiple of 64. Where the convolution reads a concatenated operand, all taps of the first array's channels
// come before all taps of the second one's.
//
// Shapes      w [out_channels, in_channels, kernel_height, kernel_width] f32, at most 25 taps; per phase
//             [rows, row_length] of T.
// Launch      for any number of filters: ceil(columns / 32) * ceil(rows / 8) blocks each, block 256,
//             shared 4 * max(8 * (32 * taps + 1), 32 * (8 * taps + 1)) bytes for the largest filter.
// Traffic     reads w once in runs of 32 or 8 channels' taps, writes packed once in runs of 32 elements.
// Overwrites  packed; zeroes `counters`.
// Registers   <= 64
#include "common/jobs.cuh"
#include "common/types.cuh"

// One filter.
struct Conv2dTensorPackParams {
    const float *w;      // f32 [out_channels, in_channels, kernel_height, kernel_width]
    void *packed;        // T, per phase [rows, taps * columns rounded up to 64]
    unsigned *counters;  // of conv2d_tensor's split-K, which start at zero
    int counter_count;
    int rows;           // n: channels that the convolution produces
    int columns;        // c: channels that it sums over
    int first_columns;  // how many of them are in the first array; all without a concatenated operand
    int kernel_taps;    // entries of the kernel
    int kernel_width;
    int transposed;  // 1: n are the filter's inputs
    int phases;      // in rows and columns together
    int heights[4];    // for each phase: rows of taps
    int widths[4];     // for each phase: columns of taps
    int filter_at[4];  // for each phase: the element of packed at which its filter starts
    // The kernel rows that tap row t stands for, in row phase a, at 8 a + t: the first one plus 16 times the last.
    int source_rows[16];
    // The kernel columns that tap column t stands for, in column phase a, likewise.
    int source_columns[16];
};

constexpr int COLUMNS = 32;
constexpr int ROWS = 8;

extern "C" __global__ void __launch_bounds__(256) conv2d_tensor_pack(const JobsParams jobs) {
    extern __shared__ float filter[];
    unsigned block;
    const Conv2dTensorPackParams &p = job_of_block<Conv2dTensorPackParams>(jobs, block);
    const unsigned across = (p.columns + COLUMNS - 1) / COLUMNS, down = (p.rows + ROWS - 1) / ROWS;
    const int first_column = block % across * COLUMNS, first_row = block / across * ROWS;
    const int taps = p.kernel_taps;
    // The filter's outer channel is the packed row, or the packed column if transposed. The odd pitch spreads it over the
    // banks.
    const int outers = p.transposed ? COLUMNS : ROWS, inners = p.transposed ? ROWS : COLUMNS;
    const int first_outer = p.transposed ? first_column : first_row, first_inner = p.transposed ? first_row : first_column;
    const int outer_count = p.transposed ? p.columns : p.rows, inner_count = p.transposed ? p.rows : p.columns;
    const int pitch = inners * taps | 1;
    const int run = min(inners, inner_count - first_inner) * taps;
    for (int outer = threadIdx.x >> 5; outer < outers && first_outer + outer < outer_count; outer += 8) {
        const float *from = p.w + ((size_t)(first_outer + outer) * inner_count + first_inner) * taps;
        for (int e = threadIdx.x & 31; e < run; e += 32) filter[outer * pitch + e] = from[e];
    }
    for (unsigned i = block * 256 + threadIdx.x; i < p.counter_count; i += across * down * 256) p.counters[i] = 0;
    __syncthreads();

    const int column = threadIdx.x & 31, row = threadIdx.x >> 5;
    if (first_row + row >= p.rows) return;
    const float *own = filter + (p.transposed ? column * pitch + row * taps : row * pitch + column * taps);
#pragma unroll
    for (int phase = 0; phase < 4; ++phase) {
        if (phase >= p.phases) break;
        const int height = p.heights[phase], width = p.widths[phase];
        const int length = height * width * p.columns, row_length = (length + 63) / 64 * 64;
        T *to = static_cast<T *>(p.packed) + p.filter_at[phase] + (size_t)(first_row + row) * row_length;
        if (first_column == 0)
            for (int k = length + column; k < row_length; k += 32) to[k] = from_float<T>(0.0f);
        const int c = first_column + column;
        if (c >= p.columns) continue;
        const bool is_first = c < p.first_columns;
        const int step = is_first ? p.first_columns : p.columns - p.first_columns;
        to += is_first ? c : height * width * p.first_columns + c - p.first_columns;
        for (int tap = 0; tap < height * width; ++tap) {
            const int rows = p.source_rows[phase / 2 * 8 + tap / width];
            const int columns = p.source_columns[phase % 2 * 8 + tap % width];
            float sum = 0.0f;
            for (int ky = rows & 15; ky <= rows >> 4; ++ky)
                for (int kx = columns & 15; kx <= columns >> 4; ++kx) sum += own[ky * p.kernel_width + kx];
            to[tap * step] = from_float<T>(sum);
        }
    }
}
