// Softmax attention on tensor cores, for f16 and bf16. attention.cu has the plain version.
//
//     y_i = sum_j p_ij v_j,  p_ij = softmax_j(scale q_i · k_j),  lse_i = log sum_j exp(scale q_i · k_j)
//
// Shapes      q, y [N,Tq,heads d], k, v [N,Tk,heads d] of T, channels ordered (head, d); lse [N,heads,Tq] of f32. D is d
//             rounded up to 16.
// Launch      grid (ceil(Tq / 64), heads, N), block 128; 256 (D + 8) bytes of dynamic shared memory.
// Traffic     reads q once, k and v once per block of queries, 16 bytes at a time; writes y and lse. Overwrites.
// Order       keys in order, blocks of 64; products sum as mma does, f32 accumulators. Independent of N.
// Takes       any Tq, Tk >= 1; d a multiple of 8, at most 128.
// Registers <= 184 (for 128 channels, whose tiles leave room for two blocks on a multiprocessor anyway)
//
// A warp owns 16 queries. Their fragments, the running maxima and sums and the result stay in registers, and the scores'
// accumulators become the left fragments of the second product without leaving the registers. Keys and values are copied by
// cp.async, each into one buffer: values land while scores are computed, the next keys while values are weighted.
#include "common/attention_params.cuh"
#include "common/attention_tensor.cuh"

constexpr int ROWS = 64; // queries of a block, and keys of a block of keys

extern __shared__ uint4 shared_memory[];

extern "C" __global__ void __launch_bounds__(128) attention_tensor(const AttentionParams p) {
    T *keys = reinterpret_cast<T *>(shared_memory);
    T *values = keys + ROWS * STRIDE;
    const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    const int first_query = blockIdx.x * ROWS;
    const int channels = p.heads * p.d;
    const long long key_start = static_cast<long long>(blockIdx.z) * p.keys * channels + blockIdx.y * p.d;
    const long long query_start =
        (static_cast<long long>(blockIdx.z) * p.queries + first_query) * channels + blockIdx.y * p.d;
    const T *k = static_cast<const T *>(p.k) + key_start;
    const T *v = static_cast<const T *>(p.v) + key_start;

    // The queries are loaded through the buffer of the values.
    copy_rows<ROWS>(values, static_cast<const T *>(p.q) + query_start, p.queries - first_query, channels, p.d);
    copy_rows<ROWS>(keys, k, p.keys, channels, p.d);
    cp_async_wait<1>();
    __syncthreads();
    unsigned queries[D / 16][4];
#pragma unroll
    for (int c = 0; c < D / 16; ++c)
        ldmatrix(queries[c], fragment_address(values, warp * 16, c * 16));

    // Scores in units of log 2, so that the exponential is the hardware's.
    const float unit = p.scale * LOG2_E;
    const float lowest = __uint_as_float(0xff800000u);
    float sums[D / 8][4], largest[2] = {lowest, lowest}, total[2] = {0.0f, 0.0f};
    clear(sums);
    for (int first = 0; first < p.keys; first += ROWS) {
        const int count = p.keys - first;
        // Keys have landed; all warps are done with the values, or with the queries in their place.
        cp_async_wait<0>();
        __syncthreads();
        copy_rows<ROWS>(values, v + static_cast<long long>(first) * channels, count, channels, p.d);

        float scores[ROWS / 8][4];
        clear(scores);
#pragma unroll
        for (int n = 0; n < ROWS / 16; ++n) {
#pragma unroll
            for (int c = 0; c < D / 16; ++c) {
                unsigned b[4];
                ldmatrix(b, fragment_address(keys, n * 16, c * 16));
                mma<T>(scores[2 * n], queries[c], b[0], b[2]);
                mma<T>(scores[2 * n + 1], queries[c], b[1], b[3]);
            }
        }
        // The maxima ignore NaN; the sums do not.
        float most[2] = {largest[0], largest[1]};
#pragma unroll
        for (int n = 0; n < ROWS / 8; ++n) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                scores[n][e] = n * 8 + 2 * t + (e & 1) < count ? scores[n][e] * unit : lowest;
                most[e >> 1] = fmaxf(most[e >> 1], scores[n][e]);
            }
        }
        float part[2] = {0.0f, 0.0f}, shrink[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            most[half] = quad_max(most[half]);
            shrink[half] = exp2_approx(largest[half] - most[half]);
            largest[half] = most[half];
        }
        unsigned weights[ROWS / 16][4];
#pragma unroll
        for (int n = 0; n < ROWS / 8; ++n) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const float low = exp2_approx(scores[n][2 * half] - most[half]);
                const float high = exp2_approx(scores[n][2 * half + 1] - most[half]);
                part[half] += low + high;
                // Columns 8 to 15 of a left fragment are its registers 2 and 3.
                weights[n / 2][n % 2 * 2 + half] = packed(low, high);
            }
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) total[half] = fmaf(total[half], shrink[half], part[half]);
#pragma unroll
        for (int c = 0; c < D / 8; ++c) {
#pragma unroll
            for (int e = 0; e < 4; ++e) sums[c][e] *= shrink[e >> 1];
        }
        // Values have landed; all warps have read the keys.
        cp_async_wait<0>();
        __syncthreads();
        if (first + ROWS < p.keys)
            copy_rows<ROWS>(keys, k + static_cast<long long>(first + ROWS) * channels, count - ROWS, channels, p.d);
#pragma unroll
        for (int n = 0; n < ROWS / 16; ++n) {
#pragma unroll
            for (int c = 0; c < D / 16; ++c) {
                unsigned b[4];
                ldmatrix_transposed(b, fragment_address(values, n * 16, c * 16));
                mma<T>(sums[2 * c], weights[n], b[0], b[1]);
                mma<T>(sums[2 * c + 1], weights[n], b[2], b[3]);
            }
        }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const float sum = quad_sum(total[half]), share = 1.0f / sum;
        const int row = warp * 16 + g + 8 * half;
        const bool present = first_query + row < p.queries;
        if (present && t == 0) {
            const long long at = (static_cast<long long>(blockIdx.z) * p.heads + blockIdx.y) * p.queries;
            p.lse[at + first_query + row] = largest[half] * 0.6931471805599453f + logf(sum);
        }
        T *y = static_cast<T *>(p.y) + query_start + static_cast<long long>(row) * channels;
#pragma unroll
        for (int c = 0; c < D / 8; c += 2) {
            // The quad's lanes exchange what they have of 16 neighbours, for one whole sector.
            const unsigned low = packed(sums[c][2 * half] * share, sums[c][2 * half + 1] * share);
            const unsigned high = packed(sums[c + 1][2 * half] * share, sums[c + 1][2 * half + 1] * share);
            const unsigned from_pair = __shfl_xor_sync(0xffffffffu, t < 2 ? high : low, 2);
            const unsigned first = t < 2 ? low : from_pair, second = t < 2 ? from_pair : high;
            const unsigned from_other = __shfl_xor_sync(0xffffffffu, t & 1 ? first : second, 1);
            const uint2 four = t & 1 ? make_uint2(from_other, second) : make_uint2(first, from_other);
            if (present && (c + t / 2) * 8 < p.d) reinterpret_cast<uint2 *>(y)[c * 2 + t] = four;
        }
    }
}
