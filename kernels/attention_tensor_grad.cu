// The gradient of softmax attention on tensor cores, for f16 and bf16. attention.cu has the formulas and the plain version.
// One kernel owns rows of dq, the other rows of dk and dv. Probabilities and their gradients are rounded to T, because they
// are operands of further products; all products are summed in f32.
//
// Takes any Tq, Tk >= 1; d a multiple of 8, at most 128; D is d rounded up to 16.
#include "common/attention_params.cuh"
#include "common/attention_tensor.cuh"

constexpr int OWN = 64;                    // rows of a block, 16 for each warp
constexpr int OTHER = D <= 64 ? 64 : 32;   // rows of a step of attention_tensor_grad_queries
constexpr int STEP_QUERIES = 32;           // and of attention_tensor_grad_keys

extern __shared__ uint4 shared_memory[];

// dq and means.
//
// Launch      grid (ceil(Tq / 64), heads, N), block 128; 256 (D + 8) bytes of dynamic shared memory.
// Traffic     reads q, y, dy, lse once, k and v once per block of queries; writes dq and means. Overwrites.
// Order       keys in order, as mma sums them. Independent of N.
// Registers <= 240
extern "C" __global__ void __launch_bounds__(128, 2) attention_tensor_grad_queries(const AttentionGradParams p) {
    T *keys = reinterpret_cast<T *>(shared_memory);
    T *values = keys + OWN * STRIDE;
    const int warp = threadIdx.x >> 5, g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3;
    const int first_query = blockIdx.x * OWN, rows = p.queries - first_query;
    const int channels = p.heads * p.d;
    const long long key_start = static_cast<long long>(blockIdx.z) * p.keys * channels + blockIdx.y * p.d;
    const long long query_start =
        (static_cast<long long>(blockIdx.z) * p.queries + first_query) * channels + blockIdx.y * p.d;
    const long long row_start =
        (static_cast<long long>(blockIdx.z) * p.heads + blockIdx.y) * p.queries + first_query;
    const T *k = static_cast<const T *>(p.k) + key_start;
    const T *v = static_cast<const T *>(p.v) + key_start;
    const T *y = static_cast<const T *>(p.y) + query_start;

    // Queries and dy are loaded through the buffers of keys and values.
    copy_rows<OWN>(keys, static_cast<const T *>(p.q) + query_start, rows, channels, p.d);
    copy_rows<OWN>(values, static_cast<const T *>(p.dy) + query_start, rows, channels, p.d);
    cp_async_wait<0>();
    __syncthreads();
    unsigned queries[D / 16][4], dys[D / 16][4];
    float mean[2] = {0.0f, 0.0f}, lse[2];
#pragma unroll
    for (int c = 0; c < D / 16; ++c) {
        ldmatrix(queries[c], fragment_address(keys, warp * 16, c * 16));
        ldmatrix(dys[c], fragment_address(values, warp * 16, c * 16));
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            const int row = warp * 16 + g + 8 * (r & 1), column = c * 16 + 2 * t + 8 * (r >> 1);
            if (row < rows && column < p.d) {
                const float2 dy = unpacked(dys[c][r]);
                const float2 of_y =
                    unpacked(*reinterpret_cast<const unsigned *>(y + static_cast<long long>(row) * channels + column));
                mean[r & 1] = fmaf(dy.x, of_y.x, fmaf(dy.y, of_y.y, mean[r & 1]));
            }
        }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int row = warp * 16 + g + 8 * half;
        mean[half] = quad_sum(mean[half]);
        lse[half] = row < rows ? p.lse[row_start + row] * LOG2_E : 0.0f;
        if (t == 0 && row < rows) p.means[row_start + row] = mean[half];
    }

    const float unit = p.scale * LOG2_E;
    float sums[D / 8][4];
    clear(sums);
    for (int first = 0; first < p.keys; first += OTHER) {
        const int count = p.keys - first;
        const long long at = static_cast<long long>(first) * channels;
        __syncthreads();
        copy_rows<OTHER>(keys, k + at, count, channels, p.d);
        copy_rows<OTHER>(values, v + at, count, channels, p.d);
        cp_async_wait<0>();
        __syncthreads();
        float scores[OTHER / 8][4], slopes[OTHER / 8][4];
        clear(scores);
        clear(slopes);
#pragma unroll
        for (int n = 0; n < OTHER / 16; ++n) {
#pragma unroll
            for (int c = 0; c < D / 16; ++c) {
                unsigned b[4];
                ldmatrix(b, fragment_address(keys, n * 16, c * 16));
                mma<T>(scores[2 * n], queries[c], b[0], b[2]);
                mma<T>(scores[2 * n + 1], queries[c], b[1], b[3]);
                ldmatrix(b, fragment_address(values, n * 16, c * 16));
                mma<T>(slopes[2 * n], dys[c], b[0], b[2]);
                mma<T>(slopes[2 * n + 1], dys[c], b[1], b[3]);
            }
        }
        unsigned weights[OTHER / 16][4];
#pragma unroll
        for (int n = 0; n < OTHER / 8; ++n) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                float ds[2];
#pragma unroll
                for (int e = 0; e < 2; ++e) {
                    const float weight = exp2_approx(fmaf(scores[n][2 * half + e], unit, -lse[half]));
                    ds[e] = weight * (slopes[n][2 * half + e] - mean[half]);
                    // The softmax over a single key is constant, so its gradient is exactly 0, without rounding errors.
                    if (p.keys == 1) ds[e] *= 0.0f;
                    if (n * 8 + 2 * t + e >= count) ds[e] = 0.0f;
                }
                weights[n / 2][n % 2 * 2 + half] = packed(ds[0], ds[1]);
            }
        }
#pragma unroll
        for (int n = 0; n < OTHER / 16; ++n) {
#pragma unroll
            for (int c = 0; c < D / 16; ++c) {
                unsigned b[4];
                ldmatrix_transposed(b, fragment_address(keys, n * 16, c * 16));
                mma<T>(sums[2 * c], weights[n], b[0], b[1]);
                mma<T>(sums[2 * c + 1], weights[n], b[2], b[3]);
            }
        }
    }
    const long long own = query_start + static_cast<long long>(warp) * 16 * channels;
    store_fragments(static_cast<T *>(p.dq) + own, sums, p.scale, rows - warp * 16, channels, p.d);
}

// dk and dv, after attention_tensor_grad_queries.
//
// Launch      grid (ceil(Tk / 64), heads, N), block 128; 384 (D + 8) bytes of dynamic shared memory and 256 of static.
// Traffic     reads k and v once, q, dy, lse and means once per block of keys; writes dk and dv. Overwrites.
// Order       queries in order, as mma sums them. Independent of N.
// Registers <= 240
extern "C" __global__ void __launch_bounds__(128, 2) attention_tensor_grad_keys(const AttentionGradParams p) {
    __shared__ float lse[STEP_QUERIES], means[STEP_QUERIES];
    T *keys = reinterpret_cast<T *>(shared_memory);
    T *values = keys + OWN * STRIDE;
    T *queries = values + OWN * STRIDE;
    T *dys = queries + STEP_QUERIES * STRIDE;
    const int warp = threadIdx.x >> 5, t = threadIdx.x & 3;
    const int first_key = blockIdx.x * OWN, rows = p.keys - first_key;
    const int channels = p.heads * p.d;
    const long long key_start =
        (static_cast<long long>(blockIdx.z) * p.keys + first_key) * channels + blockIdx.y * p.d;
    const long long query_start = static_cast<long long>(blockIdx.z) * p.queries * channels + blockIdx.y * p.d;
    const long long row_start = (static_cast<long long>(blockIdx.z) * p.heads + blockIdx.y) * p.queries;
    const T *q = static_cast<const T *>(p.q) + query_start;
    const T *dy = static_cast<const T *>(p.dy) + query_start;

    copy_rows<OWN>(keys, static_cast<const T *>(p.k) + key_start, rows, channels, p.d);
    copy_rows<OWN>(values, static_cast<const T *>(p.v) + key_start, rows, channels, p.d);
    const float unit = p.scale * LOG2_E;
    float key_sums[D / 8][4], value_sums[D / 8][4];
    clear(key_sums);
    clear(value_sums);
    for (int first = 0; first < p.queries; first += STEP_QUERIES) {
        const int count = p.queries - first;
        const long long at = static_cast<long long>(first) * channels;
        __syncthreads();
        copy_rows<STEP_QUERIES>(queries, q + at, count, channels, p.d);
        copy_rows<STEP_QUERIES>(dys, dy + at, count, channels, p.d);
        if (threadIdx.x < STEP_QUERIES) {
            const bool exists = threadIdx.x < count;
            const long long row = row_start + first + threadIdx.x;
            // The probability of a query that does not exist is exp(-inf).
            lse[threadIdx.x] = exists ? p.lse[row] * LOG2_E : __uint_as_float(0x7f800000u);
            means[threadIdx.x] = exists ? p.means[row] : 0.0f;
        }
        cp_async_wait<0>();
        __syncthreads();
        // Rows are keys here, columns queries.
        float scores[STEP_QUERIES / 8][4], slopes[STEP_QUERIES / 8][4];
        clear(scores);
        clear(slopes);
#pragma unroll
        for (int c = 0; c < D / 16; ++c) {
            unsigned own_keys[4], own_values[4];
            ldmatrix(own_keys, fragment_address(keys, warp * 16, c * 16));
            ldmatrix(own_values, fragment_address(values, warp * 16, c * 16));
#pragma unroll
            for (int n = 0; n < STEP_QUERIES / 16; ++n) {
                unsigned b[4];
                ldmatrix(b, fragment_address(queries, n * 16, c * 16));
                mma<T>(scores[2 * n], own_keys, b[0], b[2]);
                mma<T>(scores[2 * n + 1], own_keys, b[1], b[3]);
                ldmatrix(b, fragment_address(dys, n * 16, c * 16));
                mma<T>(slopes[2 * n], own_values, b[0], b[2]);
                mma<T>(slopes[2 * n + 1], own_values, b[1], b[3]);
            }
        }
        unsigned weights[STEP_QUERIES / 16][4], gradients[STEP_QUERIES / 16][4];
#pragma unroll
        for (int n = 0; n < STEP_QUERIES / 8; ++n) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                float weight[2], ds[2];
#pragma unroll
                for (int e = 0; e < 2; ++e) {
                    const int query = n * 8 + 2 * t + e;
                    weight[e] = exp2_approx(fmaf(scores[n][2 * half + e], unit, -lse[query]));
                    ds[e] = weight[e] * (slopes[n][2 * half + e] - means[query]);
                    if (p.keys == 1) ds[e] *= 0.0f;
                }
                weights[n / 2][n % 2 * 2 + half] = packed(weight[0], weight[1]);
                gradients[n / 2][n % 2 * 2 + half] = packed(ds[0], ds[1]);
            }
        }
#pragma unroll
        for (int n = 0; n < STEP_QUERIES / 16; ++n) {
#pragma unroll
            for (int c = 0; c < D / 16; ++c) {
                unsigned b[4];
                ldmatrix_transposed(b, fragment_address(dys, n * 16, c * 16));
                mma<T>(value_sums[2 * c], weights[n], b[0], b[1]);
                mma<T>(value_sums[2 * c + 1], weights[n], b[2], b[3]);
                ldmatrix_transposed(b, fragment_address(queries, n * 16, c * 16));
                mma<T>(key_sums[2 * c], gradients[n], b[0], b[1]);
                mma<T>(key_sums[2 * c + 1], gradients[n], b[2], b[3]);
            }
        }
    }
    const long long own = key_start + static_cast<long long>(warp) * 16 * channels;
    store_fragments(static_cast<T *>(p.dk) + own, key_sums, p.scale, rows - warp * 16, channels, p.d);
    store_fragments(static_cast<T *>(p.dv) + own, value_sums, 1.0f, rows - warp * 16, channels, p.d);
}
