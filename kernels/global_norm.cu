// Euclidean norms of any number of arrays, of each and of all together: two launches that sum in a fixed order.
#include "common/chunks.cuh"
#include "common/sums.cuh"

// Squares of numbers beyond these overflow or vanish in f32; such numbers are first scaled by powers of two.
constexpr float LARGE = 7.205759403792794e16f;         // 2^56
constexpr float SMALL = 8.673617379884035e-19f;        // 2^-60
constexpr float LARGE_SCALE = 8.271806125530277e-25f;  // 2^-80
constexpr float SMALL_SCALE = 1.2676506002282294e30f;  // 2^100

// Sum of squares in three ranges, so that f32 suffices for 1e-25 and 1e25 too: f64 products run at 1/64 of f32's rate, more
// slowly than memory delivers numbers. Inf and NaN end up in one of the ranges.
struct Squares {
    float large = 0.0f, medium = 0.0f, small = 0.0f;

    __device__ __forceinline__ void add(float x) {
        const float size = fabsf(x);
        const bool is_large = size > LARGE, is_small = size < SMALL;
        const float y = x * (is_large ? LARGE_SCALE : is_small ? SMALL_SCALE : 1.0f);
        const float square = y * y;
        large += is_large ? square : 0.0f;
        small += is_small ? square : 0.0f;
        medium += is_large || is_small ? 0.0f : square;
    }

    __device__ double total() const {
        const double up = 1.4615016373309029e48, down = 6.223015277861142e-61;  // 2^160, 2^-200
        return (double)large * up + (double)medium + (double)small * down;
    }
};

// partials[b] = sum of squares of chunk b
//
// Shapes      a chunk is x of `count` f32; partials: [chunks] f64.
// Launch      grid chunks, block 256.
// Traffic     reads 4 bytes per element.
// Order       a thread's elements in f32, 512 at most, then lanes and warps by halves in f64.
// Takes       any counts below 2^17 per chunk.
// Registers <= 40
struct SumSquaresParams {
    const Chunk<1> *chunks;
    double *partials;
};

extern "C" __global__ void __launch_bounds__(256) sum_squares(const SumSquaresParams p) {
    __shared__ double scratch[32];
    Squares squares;
    for_chunk<1, 0>(p.chunks, [&](float (&x)[1]) { squares.add(x[0]); });
    const double total = block_sum(squares.total(), scratch);
    if (threadIdx.x == 0) p.partials[blockIdx.x] = total;
}

// each[k] = |array k| / s, norm = |all| / s, clip = min(1, max_norm / (norm + 1e-6)) / s, finite = 1 if norm is finite, else
// 0, with s = *scale, or 1 without a scale
//
// Shapes      partials: those of array k are first[k] .. first[k + 1]; each: [arrays] f32; the others are scalars.
// Launch      grid 1, block 1024: a warp per array, arrays in turns.
// Traffic     reads 8 bytes per chunk and array; overwrites the results.
// Order       lane l adds partials l, l + 32, …; lanes by halves; a warp's arrays in order, then warps by halves; f64.
// Takes       any number of arrays.
// Registers <= 64
struct FinishNormParams {
    const double *partials;
    const unsigned long long *first;  // [arrays + 1]
    float *norm;
    float *clip;
    float *finite;
    float *each;         // [arrays]
    const float *scale;  // of the loss, or null
    int arrays;
    float max_norm;
};

extern "C" __global__ void __launch_bounds__(1024) finish_norm(const FinishNormParams p) {
    __shared__ double scratch[32];
    double all = 0.0;
    const double scale = p.scale ? (double)*p.scale : 1.0;
    const int lane = threadIdx.x & 31;
    for (int k = threadIdx.x >> 5; k < p.arrays; k += 32) {
        double sum = 0.0;
        for (unsigned long long i = p.first[k] + lane; i < p.first[k + 1]; i += 32) sum += p.partials[i];
#pragma unroll
        for (int offset = 16; offset > 0; offset >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
        if (lane == 0) {
            p.each[k] = (float)(sqrt(sum) / scale);
            all += sum;
        }
    }
    all = block_sum(all, scratch);
    if (threadIdx.x == 0) {
        const double norm = sqrt(all) / scale;
        const double factor = (double)p.max_norm / (norm + 1e-6);
        *p.norm = (float)norm;
        // A comparison, so that NaN stays NaN.
        *p.clip = (float)((factor > 1.0 ? 1.0 : factor) / scale);
        *p.finite = isfinite(norm) ? 1.0f : 0.0f;
    }
}
