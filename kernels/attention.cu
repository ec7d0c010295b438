// Softmax attention and its gradient, head by head, without a matrix of all pairs in memory: blocks of queries against
// blocks of keys with running maximum and sum (Milakov and Gimelshein; Dao et al., FlashAttention). This is the plain
// version with products on the FP32 lanes: for f32, and for shapes of other types that the tensor-core kernels do not take.
//
// q, y, dy, dq are [N,Tq,heads d], k, v, dk, dv [N,Tk,heads d] of T, channels ordered (head, d); lse is [N,heads,Tq] of f32.
// V divides d; D is d rounded up to 16.
//
// A block is 16 x 16 threads on tiles of SIDE rows of a head in shared memory, as f32, zero where there is no row or
// channel. Thread (ty, tx) owns rows ty + 16 i and columns tx + 16 j of every product, so a row belongs to 16 neighbouring
// lanes. Rows are D + 4 floats apart: 8 lanes that read 16 bytes of 8 rows meet every bank once.
#include "common/attention_params.cuh"
#include "common/types.cuh"

constexpr int THREADS = 256;
constexpr int STRIDE = D + 4;

extern __shared__ float4 shared_memory[];

// Loads SIDE rows of a head, times `scale`. `rows` of them exist; the others become zeros.
template <int SIDE>
__device__ __forceinline__ void load_tile(float *tile, const T *from, int rows, int channels, int d, float scale) {
    constexpr int PIECES = D / V;
    for (int i = threadIdx.x; i < SIDE * PIECES; i += THREADS) {
        const int row = i / PIECES, c = i % PIECES * V;
        float value[V];
#pragma unroll
        for (int v = 0; v < V; ++v) value[v] = 0.0f;
        if (row < rows && c < d) load_floats<V>(from + static_cast<long long>(row) * channels + c, value);
#pragma unroll
        for (int v = 0; v < V; ++v) tile[row * STRIDE + c + v] = value[v] * scale;
    }
}

// products[i][j] = a[ty + 16 i] · b[tx + 16 j], channels in order.
template <int M> __device__ __forceinline__ void dot_rows(const float *a, const float *b, float (&products)[M][M]) {
    const int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
#pragma unroll
    for (int i = 0; i < M; ++i) {
#pragma unroll
        for (int j = 0; j < M; ++j) products[i][j] = 0.0f;
    }
#pragma unroll 4
    for (int c = 0; c < D; c += 4) {
        float4 left[M], right[M];
#pragma unroll
        for (int i = 0; i < M; ++i) {
            left[i] = *reinterpret_cast<const float4 *>(a + (ty + 16 * i) * STRIDE + c);
            right[i] = *reinterpret_cast<const float4 *>(b + (tx + 16 * i) * STRIDE + c);
        }
#pragma unroll
        for (int i = 0; i < M; ++i) {
#pragma unroll
            for (int j = 0; j < M; ++j) {
                float sum = products[i][j];
                sum = fmaf(left[i].x, right[j].x, sum);
                sum = fmaf(left[i].y, right[j].y, sum);
                sum = fmaf(left[i].z, right[j].z, sum);
                products[i][j] = fmaf(left[i].w, right[j].w, sum);
            }
        }
    }
}

// sums[i][j] += sum_r weights[ty + 16 i][r] tile[r][tx + 16 j], r in order; rows of weights are 16 M + 4 floats apart.
template <int M>
__device__ __forceinline__ void add_weighted(const float *weights, const float *tile, float (&sums)[M][D / 16]) {
    const int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
#pragma unroll 2
    for (int r = 0; r < 16 * M; r += 4) {
        float4 weight[M];
#pragma unroll
        for (int i = 0; i < M; ++i)
            weight[i] = *reinterpret_cast<const float4 *>(weights + (ty + 16 * i) * (16 * M + 4) + r);
#pragma unroll
        for (int j = 0; j < D / 16; ++j) {
            const float *column = tile + r * STRIDE + tx + 16 * j;
            const float v0 = column[0], v1 = column[STRIDE], v2 = column[2 * STRIDE], v3 = column[3 * STRIDE];
#pragma unroll
            for (int i = 0; i < M; ++i) {
                float sum = sums[i][j];
                sum = fmaf(weight[i].x, v0, sum);
                sum = fmaf(weight[i].y, v1, sum);
                sum = fmaf(weight[i].z, v2, sum);
                sums[i][j] = fmaf(weight[i].w, v3, sum);
            }
        }
    }
}

// Stores rows ty + 16 i, times factor[i]. `rows` rows exist.
template <int M>
__device__ __forceinline__ void store_rows(T *to, const float (&sums)[M][D / 16], const float (&factor)[M], int rows,
                                           int channels, int d) {
    const int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
#pragma unroll
    for (int i = 0; i < M; ++i) {
        const int row = ty + 16 * i;
#pragma unroll
        for (int j = 0; j < D / 16; ++j) {
            const int c = tx + 16 * j;
            if (row < rows && c < d)
                to[static_cast<long long>(row) * channels + c] = from_float<T>(sums[i][j] * factor[i]);
        }
    }
}

// Sum over the 16 lanes that share a row.
__device__ __forceinline__ float row_sum(float v) {
#pragma unroll
    for (int offset = 8; offset > 0; offset >>= 1) v += __shfl_xor_sync(0xffffffffu, v, offset);
    return v;
}

__device__ __forceinline__ float row_max(float v) {
#pragma unroll
    for (int offset = 8; offset > 0; offset >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, offset));
    return v;
}

// y_i = sum_j p_ij v_j with p_ij = softmax_j(scale q_i · k_j), and lse_i = log sum_j exp(scale q_i · k_j).
//
// Launch      grid (ceil(Tq / SIDE), heads, N), block 256; 4 (2 SIDE (D + 4) + SIDE (SIDE + 4)) bytes of dynamic shared
//             memory. SIDE = 64 for D <= 64, 32 for D <= 128, else 16.
// Traffic     reads q once, k and v once per block of queries; writes y and lse. Overwrites.
// Order       keys in order, blocks of SIDE; within a block, sums as in row_sum and add_weighted. Independent of N.
// Takes       any Tq, Tk >= 1; d <= 256.
// Registers <= 128
extern "C" __global__ void __launch_bounds__(256, 2) attention(const AttentionParams p) {
    constexpr int SIDE = D <= 64 ? 64 : D <= 128 ? 32 : 16;
    constexpr int M = SIDE / 16;
    float *queries = reinterpret_cast<float *>(shared_memory);
    float *others = queries + SIDE * STRIDE; // keys, then values
    float *weights = others + SIDE * STRIDE;
    const int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
    const int first_query = blockIdx.x * SIDE, rows = p.queries - first_query;
    const int channels = p.heads * p.d;
    const long long key_start = static_cast<long long>(blockIdx.z) * p.keys * channels + blockIdx.y * p.d;
    const long long query_start =
        (static_cast<long long>(blockIdx.z) * p.queries + first_query) * channels + blockIdx.y * p.d;
    const T *k = static_cast<const T *>(p.k) + key_start;
    const T *v = static_cast<const T *>(p.v) + key_start;

    load_tile<SIDE>(queries, static_cast<const T *>(p.q) + query_start, rows, channels, p.d, p.scale);
    float sums[M][D / 16], largest[M], total[M];
#pragma unroll
    for (int i = 0; i < M; ++i) {
        largest[i] = __uint_as_float(0xff800000u);
        total[i] = 0.0f;
#pragma unroll
        for (int j = 0; j < D / 16; ++j) sums[i][j] = 0.0f;
    }
    for (int first = 0; first < p.keys; first += SIDE) {
        const int count = p.keys - first;
        const long long at = static_cast<long long>(first) * channels;
        __syncthreads();
        load_tile<SIDE>(others, k + at, count, channels, p.d, 1.0f);
        __syncthreads();
        float scores[M][M];
        dot_rows<M>(queries, others, scores);
#pragma unroll
        for (int i = 0; i < M; ++i) {
            float most = largest[i];
#pragma unroll
            for (int j = 0; j < M; ++j) {
                if (tx + 16 * j >= count) scores[i][j] = __uint_as_float(0xff800000u);
                most = fmaxf(most, scores[i][j]);
            }
            // The maximum ignores NaN; the sum does not.
            most = row_max(most);
            float sum = 0.0f;
#pragma unroll
            for (int j = 0; j < M; ++j) {
                const float weight = __expf(scores[i][j] - most);
                sum += weight;
                weights[(ty + 16 * i) * (SIDE + 4) + tx + 16 * j] = weight;
            }
            const float shrink = __expf(largest[i] - most);
            largest[i] = most;
            total[i] = fmaf(total[i], shrink, row_sum(sum));
#pragma unroll
            for (int j = 0; j < D / 16; ++j) sums[i][j] *= shrink;
        }
        __syncthreads();
        load_tile<SIDE>(others, v + at, count, channels, p.d, 1.0f);
        __syncthreads();
        add_weighted<M>(weights, others, sums);
    }
    float share[M];
#pragma unroll
    for (int i = 0; i < M; ++i) {
        share[i] = 1.0f / total[i];
        const int row = ty + 16 * i;
        if (tx == 0 && row < rows) {
            const long long at = (static_cast<long long>(blockIdx.z) * p.heads + blockIdx.y) * p.queries;
            p.lse[at + first_query + row] = largest[i] + logf(total[i]);
        }
    }
    store_rows<M>(static_cast<T *>(p.y) + query_start, sums, share, rows, channels, p.d);
}

// The gradients recompute p_ij = exp(scale q_i · k_j - lse_i); with mean_i = dy_i · y_i = sum_j p_ij dy_i · v_j,
//     ds_ij = p_ij (dy_i · v_j - mean_i),  dq_i = scale sum_j ds_ij k_j,
//     dv_j = sum_i p_ij dy_i,              dk_j = scale sum_i ds_ij q_i.
// One kernel owns rows of dq, the other rows of dk and dv. That takes seven products instead of five, but no atomics and no
// matrix of all pairs.

constexpr int GRAD_SIDE = D <= 128 ? 32 : 16;

// dq and means.
//
// Launch      grid (ceil(Tq / SIDE), heads, N), block 256; 4 (4 SIDE (D + 4) + SIDE (SIDE + 4)) bytes of dynamic shared
//             memory. SIDE = 32 for D <= 128, else 16.
// Traffic     reads q, y, dy, lse once, k and v once per block of queries; writes dq and means. Overwrites.
// Order       keys in order. Independent of N.
// Takes       any Tq, Tk >= 1; d <= 256.
// Registers <= 128
extern "C" __global__ void __launch_bounds__(256, 2) attention_grad_queries(const AttentionGradParams p) {
    constexpr int SIDE = GRAD_SIDE, M = SIDE / 16;
    float *queries = reinterpret_cast<float *>(shared_memory);
    float *dys = queries + SIDE * STRIDE;
    float *keys = dys + SIDE * STRIDE;
    float *values = keys + SIDE * STRIDE;
    float *weights = values + SIDE * STRIDE;
    const int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
    const int first_query = blockIdx.x * SIDE, rows = p.queries - first_query;
    const int channels = p.heads * p.d;
    const long long key_start = static_cast<long long>(blockIdx.z) * p.keys * channels + blockIdx.y * p.d;
    const long long query_start =
        (static_cast<long long>(blockIdx.z) * p.queries + first_query) * channels + blockIdx.y * p.d;
    const long long row_start =
        (static_cast<long long>(blockIdx.z) * p.heads + blockIdx.y) * p.queries + first_query;
    const T *k = static_cast<const T *>(p.k) + key_start;
    const T *v = static_cast<const T *>(p.v) + key_start;
    const T *y = static_cast<const T *>(p.y) + query_start;

    load_tile<SIDE>(queries, static_cast<const T *>(p.q) + query_start, rows, channels, p.d, p.scale);
    load_tile<SIDE>(dys, static_cast<const T *>(p.dy) + query_start, rows, channels, p.d, 1.0f);
    __syncthreads();
    float sums[M][D / 16], mean[M], lse[M], factor[M];
#pragma unroll
    for (int i = 0; i < M; ++i) {
        const int row = ty + 16 * i;
        float product = 0.0f;
        if (row < rows) {
            for (int c = tx; c < p.d; c += 16)
                product = fmaf(dys[row * STRIDE + c], to_float(y[static_cast<long long>(row) * channels + c]), product);
        }
        mean[i] = row_sum(product);
        lse[i] = row < rows ? p.lse[row_start + row] : 0.0f;
        if (tx == 0 && row < rows) p.means[row_start + row] = mean[i];
        factor[i] = p.scale;
#pragma unroll
        for (int j = 0; j < D / 16; ++j) sums[i][j] = 0.0f;
    }
    for (int first = 0; first < p.keys; first += SIDE) {
        const int count = p.keys - first;
        const long long at = static_cast<long long>(first) * channels;
        __syncthreads();
        load_tile<SIDE>(keys, k + at, count, channels, p.d, 1.0f);
        load_tile<SIDE>(values, v + at, count, channels, p.d, 1.0f);
        __syncthreads();
        float scores[M][M], slopes[M][M];
        dot_rows<M>(queries, keys, scores);
        dot_rows<M>(dys, values, slopes);
#pragma unroll
        for (int i = 0; i < M; ++i) {
#pragma unroll
            for (int j = 0; j < M; ++j) {
                const int key = tx + 16 * j;
                float ds = __expf(scores[i][j] - lse[i]) * (slopes[i][j] - mean[i]);
                // The softmax over a single key is constant, so its gradient is exactly 0, without rounding errors.
                if (p.keys == 1) ds *= 0.0f;
                weights[(ty + 16 * i) * (SIDE + 4) + key] = key < count ? ds : 0.0f;
            }
        }
        __syncthreads();
        add_weighted<M>(weights, keys, sums);
    }
    store_rows<M>(static_cast<T *>(p.dq) + query_start, sums, factor, rows, channels, p.d);
}

// dk and dv, after attention_grad_queries.
//
// Launch      grid (ceil(Tk / SIDE), heads, N), block 256; 4 (4 SIDE (D + 4) + 2 SIDE (SIDE + 4)) bytes of dynamic shared
//             memory. SIDE = 32 for D <= 128, else 16.
// Traffic     reads k and v once, q, dy, lse and means once per block of keys; writes dk and dv. Overwrites.
// Order       queries in order. Independent of N.
// Takes       any Tq, Tk >= 1; d <= 256.
// Registers <= 128
extern "C" __global__ void __launch_bounds__(256, 2) attention_grad_keys(const AttentionGradParams p) {
    constexpr int SIDE = GRAD_SIDE, M = SIDE / 16;
    float *queries = reinterpret_cast<float *>(shared_memory);
    float *dys = queries + SIDE * STRIDE;
    float *keys = dys + SIDE * STRIDE;
    float *values = keys + SIDE * STRIDE;
    float *weights = values + SIDE * STRIDE;
    float *slopes = weights + SIDE * (SIDE + 4);
    const int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
    const int first_key = blockIdx.x * SIDE, rows = p.keys - first_key;
    const int channels = p.heads * p.d;
    const long long key_start =
        (static_cast<long long>(blockIdx.z) * p.keys + first_key) * channels + blockIdx.y * p.d;
    const long long query_start = static_cast<long long>(blockIdx.z) * p.queries * channels + blockIdx.y * p.d;
    const long long row_start = (static_cast<long long>(blockIdx.z) * p.heads + blockIdx.y) * p.queries;
    const T *q = static_cast<const T *>(p.q) + query_start;
    const T *dy = static_cast<const T *>(p.dy) + query_start;

    load_tile<SIDE>(keys, static_cast<const T *>(p.k) + key_start, rows, channels, p.d, 1.0f);
    load_tile<SIDE>(values, static_cast<const T *>(p.v) + key_start, rows, channels, p.d, 1.0f);
    float key_sums[M][D / 16], value_sums[M][D / 16], factor[M];
#pragma unroll
    for (int i = 0; i < M; ++i) {
        factor[i] = 1.0f;
#pragma unroll
        for (int j = 0; j < D / 16; ++j) key_sums[i][j] = value_sums[i][j] = 0.0f;
    }
    for (int first = 0; first < p.queries; first += SIDE) {
        const int count = p.queries - first;
        const long long at = static_cast<long long>(first) * channels;
        __syncthreads();
        // The queries are scaled, because the sums of dk need the scale as well.
        load_tile<SIDE>(queries, q + at, count, channels, p.d, p.scale);
        load_tile<SIDE>(dys, dy + at, count, channels, p.d, 1.0f);
        __syncthreads();
        float scores[M][M], products[M][M];
        dot_rows<M>(keys, queries, scores);
        dot_rows<M>(values, dys, products);
#pragma unroll
        for (int j = 0; j < M; ++j) {
            const int query = tx + 16 * j;
            const bool exists = query < count;
            const float lse = exists ? p.lse[row_start + first + query] : 0.0f;
            const float mean = exists ? p.means[row_start + first + query] : 0.0f;
#pragma unroll
            for (int i = 0; i < M; ++i) {
                const float weight = exists ? __expf(scores[i][j] - lse) : 0.0f;
                float ds = weight * (products[i][j] - mean);
                if (p.keys == 1) ds *= 0.0f;
                weights[(ty + 16 * i) * (SIDE + 4) + query] = weight;
                slopes[(ty + 16 * i) * (SIDE + 4) + query] = ds;
            }
        }
        __syncthreads();
        add_weighted<M>(weights, dys, value_sums);
        add_weighted<M>(slopes, queries, key_sums);
    }
    store_rows<M>(static_cast<T *>(p.dk) + key_start, key_sums, factor, rows, channels, p.d);
    store_rows<M>(static_cast<T *>(p.dv) + key_start, value_sums, factor, rows, channels, p.d);
}
