// Convolution and its input gradient as an implicit matrix product on ordinary lanes, for every geometry.
//
// Both are gathers. Results fall into P x P phases (P = `phases`) by their row and column modulo P; all results of a phase
// read the source at the same taps:
//   result[n, P g + a, P h + b, j] =
//       sum_{t, u, c} source[n, S g + offset_y[a] + t, S h + offset_x[b] + u, c] filter_ab[t, u, c, j]
// with zeros outside the source, and S = `source_step`. A convolution has one phase; through an upsample it has 2 x 2, whose
// taps sum the filter's entries that fall on the same stored pixel (4 instead of 9 products for a 3 x 3 kernel). The input
// gradient has one phase per row and column modulo the stride, so that no product with a zero of the dilated gradient is
// computed. src/ops/conv2d/geometry.rs derives phases and taps. conv2d_pack writes the filter in this order, in f32 for
// every T: reading the filter is not what takes the time here.
//
// Compiled with T; ROWS, COLUMNS: tile of pixels and channels of a block; VEC: 4 where 4 divides the source's channels,
// else 1.
#include "common/gemm.cuh"

struct Conv2dGatherParams {
    const void *source;    // T [images, source_height, source_width, channels]
    const float *filter;   // f32 [sum over phases of taps * channels rounded up to DEPTH, columns_padded]
    const float *bias;     // f32 [columns] or null
    const void *residual;  // T like the result, or null
    void *result;          // T [images, height, width, columns]
    float *partial;        // f32 [split_k, images, height, width, columns], if split_k > 1
    int images;
    int source_height;
    int source_width;
    int channels;  // of the source
    int height;    // of the result
    int width;
    int columns;         // channels of the result
    int columns_padded;  // of the packed filter
    int phases;       // P, along an axis
    int source_step;  // S, source pixels from one result of a phase to the next
    int split_k;      // blocks that share a result's sum
    int offset_y[4];  // for each row phase: source row of the first tap of result 0
    int offset_x[4];  // for each column phase: source column of the first tap of result 0
    int taps_y[4];    // for each row phase: rows of taps
    int taps_x[4];    // for each column phase: columns of taps
};

// The products of one result pixel in the order of the filter's rows: tap by tap, all channels of each.
struct Walk {
    const T *at;
    int y, x;  // source pixel under the tap
    int channel, tap_y, tap_x;
    bool inside;

    // Steps over `count` products.
    __device__ __forceinline__ void advance(const Conv2dGatherParams &p, int taps_y, int taps_x, bool exists,
                                            int count) {
        at += count;
        channel += count;
        while (channel >= p.channels) {
            channel -= p.channels;
            ++x;
            if (++tap_x == taps_x) {
                tap_x = 0;
                ++tap_y;
                x -= taps_x;
                ++y;
                at += (p.source_width - taps_x) * p.channels;
            }
            look(p, taps_y, exists);
        }
    }

    __device__ __forceinline__ void look(const Conv2dGatherParams &p, int taps_y, bool exists) {
        inside = exists && tap_y < taps_y && (unsigned)y < (unsigned)p.source_height &&
                 (unsigned)x < (unsigned)p.source_width;
    }
};

// Adds bias and residual to four neighbouring sums and stores them; `count` of them exist.
static __device__ __forceinline__ void finish(const Conv2dGatherParams &p, long long at, int column, float (&v)[4]) {
    T *result = static_cast<T *>(p.result);
    const T *residual = static_cast<const T *>(p.residual);
    if (p.columns % 4 == 0) {
        if (p.bias) {
            float bias[4];
            load_floats<4>(p.bias + column, bias);
#pragma unroll
            for (int i = 0; i < 4; ++i) v[i] += bias[i];
        }
        if (residual) {
            float r[4];
            load_floats<4>(residual + at, r);
#pragma unroll
            for (int i = 0; i < 4; ++i) v[i] += r[i];
        }
        store_floats<4>(result + at, v);
    } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (column + i >= p.columns) break;
            if (p.bias) v[i] += p.bias[column + i];
            if (residual) v[i] += to_float(residual[at + i]);
            result[at + i] = from_float<T>(v[i]);
        }
    }
}

// The product above; with split-K each split sums a part of the depth.
//
// Launch      grid (ceil(images ceil(height / P) ceil(width / P) / ROWS), ceil(columns / COLUMNS), P P split_k),
//             block 64, static shared memory 2 * 16 * (ROWS + COLUMNS) floats + ROWS ints.
// Traffic     reads taps * channels * (ROWS + COLUMNS) elements per block, most of which neighbouring blocks share in L2;
//             overwrites the result, or the split's partial sums.
// Order       a result's products are added by tap, then channel.
// Takes       every geometry; extents and pixel counts below 2^31.
// Registers <= 168
extern "C" __global__ void __launch_bounds__(THREADS) conv2d_gather(const Conv2dGatherParams p) {
    __shared__ alignas(16) float a[2][DEPTH][ROWS];
    __shared__ alignas(16) float b[2][DEPTH][COLUMNS];
    __shared__ int pixels[ROWS];
    // The threads of a row each load a segment of its depth.
    constexpr int SEGMENT = DEPTH * ROWS / THREADS;
    static_assert(SEGMENT % VEC == 0, "a segment is whole groups");
    typedef Product<ROWS, COLUMNS> Sums;
    typedef Quads<COLUMNS> FilterQuads;

    const int split = blockIdx.z % p.split_k;
    const int phase = blockIdx.z / p.split_k;
    const int phase_y = phase / p.phases, phase_x = phase % p.phases;
    const int taps_y = pick(p.taps_y, phase_y), taps_x = pick(p.taps_x, phase_x);
    const int chunks = (taps_y * taps_x * p.channels + DEPTH - 1) / DEPTH;
    const int chunks_per_split = (chunks + p.split_k - 1) / p.split_k;
    const int first = split * chunks_per_split;
    const int end = min(first + chunks_per_split, chunks);

    // The pixel whose products this thread loads.
    const int row = threadIdx.x % ROWS, segment = threadIdx.x / ROWS * SEGMENT;
    const int grid_width = (p.width + p.phases - 1) / p.phases, grid_height = (p.height + p.phases - 1) / p.phases;
    const int position = blockIdx.x * ROWS + row;
    const int grid_x = position % grid_width;
    const int grid_y = position / grid_width % grid_height;
    const int image = position / grid_width / grid_height;
    const int result_y = grid_y * p.phases + phase_y, result_x = grid_x * p.phases + phase_x;
    const bool exists = image < p.images && result_y < p.height && result_x < p.width;
    if (segment == 0) pixels[row] = exists ? (image * p.height + result_y) * p.width + result_x : -1;
    __syncthreads();

    Sums sums;
    sums.clear();
    if (first < end) {
        Walk walk;
        {
            const int depth = first * DEPTH + segment;
            const int tap = depth / p.channels;
            walk.channel = depth % p.channels;
            walk.tap_y = tap / taps_x;
            walk.tap_x = tap % taps_x;
            walk.y = grid_y * p.source_step + pick(p.offset_y, phase_y) + walk.tap_y;
            walk.x = grid_x * p.source_step + pick(p.offset_x, phase_x) + walk.tap_x;
            const long long pixel = ((long long)image * p.source_height + walk.y) * p.source_width + walk.x;
            walk.at = static_cast<const T *>(p.source) + pixel * p.channels + walk.channel;
            walk.look(p, taps_y, exists);
        }
        // The phases' filters follow each other, each padded to whole chunks.
        long long filter_row = first * DEPTH + FilterQuads::row(0);
        for (int before = 0; before < phase; ++before) {
            const int taps = pick(p.taps_y, before / p.phases) * pick(p.taps_x, before % p.phases);
            filter_row += (taps * p.channels + DEPTH - 1) / DEPTH * DEPTH;
        }
        const float *filter =
            p.filter + filter_row * p.columns_padded + blockIdx.y * COLUMNS + FilterQuads::column();

        // The next chunk travels to registers while the current one is multiplied.
        Pack<T, VEC> source_groups[SEGMENT / VEC];
        Pack<float, 4> filter_quads[FilterQuads::COUNT];
        for (int chunk = first; chunk <= end; ++chunk) {
            const int buffer = chunk & 1;
            if (chunk > first) {
#pragma unroll
                for (int g = 0; g < SEGMENT; ++g)
                    a[buffer][segment + g][row] = to_float(source_groups[g / VEC].v[g % VEC]);
                FilterQuads::store(filter_quads, b[buffer]);
                __syncthreads();
            }
            if (chunk < end) {
#pragma unroll
                for (int g = 0; g < SEGMENT / VEC; ++g) {
                    source_groups[g] = walk.inside ? *reinterpret_cast<const Pack<T, VEC> *>(walk.at) : zeros<T, VEC>();
                    walk.advance(p, taps_y, taps_x, exists, VEC);
                }
                if (SEGMENT < DEPTH) walk.advance(p, taps_y, taps_x, exists, DEPTH - SEGMENT);
#pragma unroll
                for (int j = 0; j < FilterQuads::COUNT; ++j)
                    if (FilterQuads::has(j))
                        filter_quads[j] = *reinterpret_cast<const Pack<float, 4> *>(
                            filter + j * FilterQuads::STEP * p.columns_padded);
                filter += DEPTH * p.columns_padded;
            }
            if (chunk > first) sums.add(a[buffer], b[buffer]);
        }
    }

#pragma unroll
    for (int i = 0; i < Sums::THREAD_ROWS; ++i) {
        const int pixel = pixels[Sums::row(i)];
        if (pixel < 0) continue;
#pragma unroll
        for (int j = 0; j < Sums::THREAD_COLUMNS; j += 4) {
            const int column = blockIdx.y * COLUMNS + Sums::column(j);
            if (column >= p.columns) continue;
            const long long at = (long long)pixel * p.columns + column;
            float v[4];
#pragma unroll
            for (int k = 0; k < 4; ++k) v[k] = sums.sum[i][j + k];
            if (p.split_k == 1) {
                finish(p, at, column, v);
            } else {
                float *partial = p.partial + (long long)split * p.images * p.height * p.width * p.columns + at;
#pragma unroll
                for (int k = 0; k < 4; ++k)
                    if (column + k < p.columns) partial[k] = v[k];
            }
        }
    }
}

// result = sum of the splits' partial sums, first to last, + bias + residual.
//
// Launch      grid (ceil(images height width / 4), ceil(columns / 128)), block (32, 4), no shared memory.
// Traffic     reads split_k * 4 bytes per result, bias and residual; overwrites the result.
// Registers <= 64
extern "C" __global__ void __launch_bounds__(128) conv2d_gather_finish(const Conv2dGatherParams p) {
    const int pixels = p.images * p.height * p.width;
    const int pixel = blockIdx.x * 4 + threadIdx.y;
    const int column = (blockIdx.y * 32 + threadIdx.x) * 4;
    if (pixel >= pixels || column >= p.columns) return;
    const long long at = (long long)pixel * p.columns + column;
    float v[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int split = 0; split < p.split_k; ++split) {
        const float *partial = p.partial + (long long)split * pixels * p.columns + at;
#pragma unroll
        for (int k = 0; k < 4; ++k)
            if (column + k < p.columns) v[k] += partial[k];
    }
    finish(p, at, column, v);
}
