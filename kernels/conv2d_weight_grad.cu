// Gradient of a convolution's filter as an implicit matrix product on ordinary lanes, for every geometry.
//
// In the phases of conv2d.cu (one, or 2 x 2 through an upsample), tap (t, u) of phase (a, b) has the gradient
//   G_ab[o, t, u, c] = sum_{n, g, h} dy[n, P g + a, P h + b, o] x[n, S g + offset_y[a] + t, S h + offset_x[b] + u, c],
// a product over the pixels of the phase. Split-K cuts the pixels into `split_k` ranges. A second kernel adds ranges and
// phases:
//   dw[o, c, ky, kx] = sum_{a, b} G_ab[o, tap of ky in a, tap of kx in b, c].
//
// Compiled with T; ROWS, COLUMNS: tile of outputs o and of (tap, channel) pairs; VEC: 4 where 4 divides the channels of
// x and of dy, else 1.
#include "common/divide.cuh"
#include "common/gemm.cuh"

struct Conv2dWeightGradParams {
    const void *x;    // T [images, height, width, channels]
    const void *dy;   // T [images, out_height, out_width, outputs]
    float *partial;   // f32 [split_k, phases, outputs, pitch], column (t taps_x + u) channels + c
    float *dw;        // f32 [outputs, channels, kernel_height, kernel_width]
    int height;
    int width;
    int channels;
    int out_height;
    int out_width;
    int outputs;
    int phases;       // P, along an axis
    int source_step;  // S, pixels of x from one result of a phase to the next
    int split_k;      // ranges of pixels
    int pixels;       // images * grid_height * grid_width
    int grid_height;  // ceil(out_height / phases)
    int grid_width;   // ceil(out_width / phases)
    unsigned grid_height_multiplier;  // divides by grid_height: common/divide.cuh
    unsigned grid_height_shift;
    unsigned grid_width_multiplier;  // divides by grid_width
    unsigned grid_width_shift;
    int pitch;  // most taps of a phase * channels
    int kernel_height;
    int kernel_width;
    int offset_y[4];   // for each row phase: row of x of the first tap of result 0
    int offset_x[4];   // for each column phase: column of x of the first tap of result 0
    int taps_y[4];     // for each row phase: rows of taps
    int taps_x[4];     // for each column phase: columns of taps
    int tap_of_y[16];  // the tap row that holds kernel row k in row phase a, as element 8 a + k
    int tap_of_x[16];  // the tap column that holds kernel column k in column phase a, as element 8 a + k
};

// A pixel of a phase: image and position in the phase's grid.
struct Pixel {
    int image, y, x;
    bool exists;
};

static __device__ __forceinline__ Pixel pixel_at(const Conv2dWeightGradParams &p, int index, int end, int phase_y,
                                                 int phase_x) {
    Pixel pixel;
    const int line = divide(index, p.grid_width_multiplier, p.grid_width_shift);
    pixel.x = index - line * p.grid_width;
    pixel.image = divide(line, p.grid_height_multiplier, p.grid_height_shift);
    pixel.y = line - pixel.image * p.grid_height;
    // Where P does not divide the extent, some phases lack the last row or column.
    pixel.exists = index < end && pixel.y * p.phases + phase_y < p.out_height &&
                   pixel.x * p.phases + phase_x < p.out_width;
    return pixel;
}

// G of one range of pixels, into its partial sums.
//
// Launch      grid (ceil(pitch / COLUMNS), ceil(outputs / ROWS), P P split_k), block 64,
//             static shared memory 2 * 16 * (ROWS + COLUMNS) floats.
// Traffic     reads pixels / split_k * (ROWS + COLUMNS) elements per block; overwrites the range's partial sums.
// Order       pixels are added in ascending order.
// Takes       every geometry; pixels below 2^31.
// Registers <= 168
extern "C" __global__ void __launch_bounds__(THREADS) conv2d_weight_grad(const Conv2dWeightGradParams p) {
    __shared__ alignas(16) float a[2][DEPTH][ROWS];
    __shared__ alignas(16) float b[2][DEPTH][COLUMNS];
    typedef Product<ROWS, COLUMNS> Sums;
    typedef Quads<ROWS> GradQuads;
    typedef Quads<COLUMNS> SourceQuads;
    // Columns of a quad that may each have another tap.
    constexpr int TAPS = 4 / VEC;

    const int split = blockIdx.z % p.split_k;
    const int phase = blockIdx.z / p.split_k;
    const int phase_y = phase / p.phases, phase_x = phase % p.phases;
    const int taps_x = pick(p.taps_x, phase_x);
    const int columns = pick(p.taps_y, phase_y) * taps_x * p.channels;
    const int first_row = blockIdx.y * ROWS, first_column = blockIdx.x * COLUMNS;
    if (first_column >= columns) return;
    const int chunks = (p.pixels + DEPTH - 1) / DEPTH;
    const int chunks_per_split = (chunks + p.split_k - 1) / p.split_k;
    const int first = split * chunks_per_split;
    const int end = min(first + chunks_per_split, chunks);

    // The taps and channels of the columns that this thread loads.
    int offset_y[TAPS], offset_x[TAPS], channel[TAPS];
    bool is_column[TAPS];
#pragma unroll
    for (int i = 0; i < TAPS; ++i) {
        const int column = first_column + SourceQuads::column() + i;
        const int tap = column / p.channels;
        channel[i] = column % p.channels;
        offset_y[i] = pick(p.offset_y, phase_y) + tap / taps_x;
        offset_x[i] = pick(p.offset_x, phase_x) + tap % taps_x;
        is_column[i] = column < columns;
    }
    const T *x = static_cast<const T *>(p.x);
    const int output = first_row + GradQuads::column();
    const T *dy = static_cast<const T *>(p.dy) + output;

    Sums sums;
    sums.clear();
    Pack<T, 4> grad_quads[GradQuads::COUNT], source_quads[SourceQuads::COUNT];
    for (int chunk = first; chunk <= end; ++chunk) {
        const int buffer = chunk & 1;
        if (chunk > first) {
            GradQuads::store(grad_quads, a[buffer]);
            SourceQuads::store(source_quads, b[buffer]);
            __syncthreads();
        }
        if (chunk < end) {
#pragma unroll
            for (int j = 0; j < GradQuads::COUNT; ++j) {
                const Pixel pixel = pixel_at(p, chunk * DEPTH + GradQuads::row(j), p.pixels, phase_y, phase_x);
                const int y = pixel.y * p.phases + phase_y, left = pixel.x * p.phases + phase_x;
                const T *at = dy + (long long)((pixel.image * p.out_height + y) * p.out_width + left) * p.outputs;
                grad_quads[j] = zeros<T, 4>();
                if (VEC == 4) {
                    if (GradQuads::has(j) && pixel.exists && output < p.outputs)
                        grad_quads[j] = *reinterpret_cast<const Pack<T, 4> *>(at);
                } else {
#pragma unroll
                    for (int i = 0; i < 4; ++i)
                        if (GradQuads::has(j) && pixel.exists && output + i < p.outputs) grad_quads[j].v[i] = at[i];
                }
            }
#pragma unroll
            for (int j = 0; j < SourceQuads::COUNT; ++j) {
                const Pixel pixel = pixel_at(p, chunk * DEPTH + SourceQuads::row(j), p.pixels, phase_y, phase_x);
                source_quads[j] = zeros<T, 4>();
#pragma unroll
                for (int i = 0; i < TAPS; ++i) {
                    const int y = pixel.y * p.source_step + offset_y[i], left = pixel.x * p.source_step + offset_x[i];
                    const bool inside = SourceQuads::has(j) && pixel.exists && is_column[i] &&
                                        (unsigned)y < (unsigned)p.height && (unsigned)left < (unsigned)p.width;
                    if (!inside) continue;
                    const long long source = (pixel.image * p.height + y) * p.width + left;
                    const T *at = x + source * p.channels + channel[i];
                    if (VEC == 4)
                        source_quads[j] = *reinterpret_cast<const Pack<T, 4> *>(at);
                    else
                        source_quads[j].v[i] = *at;
                }
            }
        }
        if (chunk > first) sums.add(a[buffer], b[buffer]);
    }

    float *partial = p.partial + (long long)(split * p.phases * p.phases + phase) * p.outputs * p.pitch;
#pragma unroll
    for (int i = 0; i < Sums::THREAD_ROWS; ++i) {
        const int row = first_row + Sums::row(i);
        if (row >= p.outputs) continue;
#pragma unroll
        for (int j = 0; j < Sums::THREAD_COLUMNS; j += 4) {
            const int column = first_column + Sums::column(j);
            float *at = partial + (long long)row * p.pitch + column;
            if (VEC == 4) {
                float v[4];
#pragma unroll
                for (int k = 0; k < 4; ++k) v[k] = sums.sum[i][j + k];
                if (column < columns) store_floats<4>(at, v);
            } else {
#pragma unroll
                for (int k = 0; k < 4; ++k)
                    if (column + k < columns) at[k] = sums.sum[i][j + k];
            }
        }
    }
}

constexpr int FINISH_THREADS = 128;

// dw from the partial sums.
//
// Launch      grid ceil(outputs * channels / 128), block 128, dynamic shared memory
//             128 * kernel_height * kernel_width floats.
// Traffic     reads the partial sums (through an upsample up to 9/4 times, from L1), writes dw once; overwrites.
// Order       ranges first to last, in each the phases by row, then column.
// Registers <= 64
extern "C" __global__ void __launch_bounds__(FINISH_THREADS)
    conv2d_weight_grad_finish(const Conv2dWeightGradParams p) {
    // Threads read along channels and write along the kernel.
    extern __shared__ float tile[];
    const int entries = p.kernel_height * p.kernel_width;
    const long long count = (long long)p.outputs * p.channels;
    const long long first = (long long)blockIdx.x * FINISH_THREADS;
    const long long index = first + threadIdx.x;
    if (index < count) {
        const int output = (int)(index / p.channels), channel = (int)(index % p.channels);
        for (int ky = 0; ky < p.kernel_height; ++ky) {
            for (int kx = 0; kx < p.kernel_width; ++kx) {
                float sum = 0.0f;
                for (int split = 0; split < p.split_k; ++split) {
                    for (int phase_y = 0; phase_y < p.phases; ++phase_y) {
                        for (int phase_x = 0; phase_x < p.phases; ++phase_x) {
                            const int tap_y = p.tap_of_y[phase_y * 8 + ky], tap_x = p.tap_of_x[phase_x * 8 + kx];
                            const int tap = tap_y * p.taps_x[phase_x] + tap_x;
                            const long long part = (split * p.phases + phase_y) * p.phases + phase_x;
                            sum += p.partial[(part * p.outputs + output) * p.pitch + tap * p.channels + channel];
                        }
                    }
                }
                tile[threadIdx.x * entries + ky * p.kernel_width + kx] = sum;
            }
        }
    }
    __syncthreads();
    const long long last = min(first + FINISH_THREADS, count) * entries;
    for (long long i = first * entries + threadIdx.x; i < last; i += FINISH_THREADS)
        p.dw[i] = tile[i - first * entries];
}
