// Matrix products through nvcuda::wmma, one warp per 16×16 (or 8×32, 32×8) tile, for every type that sm_86 has.
#include <mma.h>
using namespace nvcuda;

// D = A·B + C for an M×N×K tile; A and B as layouts say, C and D row-major with leading dimension N.
template <int M, int N, int K, typename In, typename Acc, typename LayoutA, typename LayoutB, typename Memory>
__device__ void tile(const Memory* a, const Memory* b, const Acc* c, Acc* d, int lda, int ldb) {
    wmma::fragment<wmma::matrix_a, M, N, K, In, LayoutA> fa;
    wmma::fragment<wmma::matrix_b, M, N, K, In, LayoutB> fb;
    wmma::fragment<wmma::accumulator, M, N, K, Acc> fc;
    wmma::load_matrix_sync(fa, a, lda);
    wmma::load_matrix_sync(fb, b, ldb);
    wmma::load_matrix_sync(fc, c, N, wmma::mem_row_major);
    wmma::mma_sync(fc, fa, fb, fc);
    wmma::store_matrix_sync(d, fc, N, wmma::mem_row_major);
}

#define TILE(name, M, N, K, In, Acc, LayoutA, LayoutB, lda, ldb) \
    extern "C" __global__ void name(const In* a, const In* b, const Acc* c, Acc* d) { \
        tile<M, N, K, In, Acc, wmma::LayoutA, wmma::LayoutB>(a, b, c, d, lda, ldb); \
    }

TILE(f16_16x16_rr, 16, 16, 16, __half, float, row_major, row_major, 16, 16)
TILE(f16_16x16_rc, 16, 16, 16, __half, float, row_major, col_major, 16, 16)
TILE(f16_16x16_cr, 16, 16, 16, __half, float, col_major, row_major, 16, 16)
TILE(f16_16x16_cc, 16, 16, 16, __half, float, col_major, col_major, 16, 16)
TILE(f16_8x32_rc, 8, 32, 16, __half, float, row_major, col_major, 16, 16)
TILE(f16_32x8_rr, 32, 8, 16, __half, float, row_major, row_major, 16, 8)
TILE(f16acc_16x16_rr, 16, 16, 16, __half, __half, row_major, row_major, 16, 16)
TILE(f16acc_32x8_rc, 32, 8, 16, __half, __half, row_major, col_major, 16, 16)
TILE(bf16_16x16_rr, 16, 16, 16, __nv_bfloat16, float, row_major, row_major, 16, 16)
TILE(bf16_8x32_cr, 8, 32, 16, __nv_bfloat16, float, col_major, row_major, 8, 32)
TILE(bf16_32x8_rc, 32, 8, 16, __nv_bfloat16, float, row_major, col_major, 16, 16)
TILE(s8_16x16_rr, 16, 16, 16, signed char, int, row_major, row_major, 16, 16)
TILE(s8_32x8_rc, 32, 8, 16, signed char, int, row_major, col_major, 16, 16)
TILE(u8_8x32_cr, 8, 32, 16, unsigned char, int, col_major, row_major, 8, 32)
TILE(f64_8x8_rr, 8, 8, 4, double, double, row_major, row_major, 4, 8)
TILE(f64_8x8_rc, 8, 8, 4, double, double, row_major, col_major, 4, 4)

extern "C" __global__ void tf32_16x16(const float* a, const float* b, const float* c, float* d) {
    wmma::fragment<wmma::matrix_a, 16, 16, 8, wmma::precision::tf32, wmma::row_major> fa;
    wmma::fragment<wmma::matrix_b, 16, 16, 8, wmma::precision::tf32, wmma::row_major> fb;
    wmma::fragment<wmma::accumulator, 16, 16, 8, float> fc;
    wmma::load_matrix_sync(fa, a, 8);
    wmma::load_matrix_sync(fb, b, 16);
    for (int i = 0; i < fa.num_elements; ++i) fa.x[i] = wmma::__float_to_tf32(fa.x[i]);
    for (int i = 0; i < fb.num_elements; ++i) fb.x[i] = wmma::__float_to_tf32(fb.x[i]);
    wmma::load_matrix_sync(fc, c, 16, wmma::mem_row_major);
    wmma::mma_sync(fc, fa, fb, fc);
    wmma::store_matrix_sync(d, fc, 16, wmma::mem_row_major);
}

extern "C" __global__ void s4_8x8(const int* a, const int* b, const int* c, int* d) {
    using namespace wmma::experimental;
    wmma::fragment<wmma::matrix_a, 8, 8, 32, precision::s4, wmma::row_major> fa;
    wmma::fragment<wmma::matrix_b, 8, 8, 32, precision::s4, wmma::col_major> fb;
    wmma::fragment<wmma::accumulator, 8, 8, 32, int> fc;
    wmma::load_matrix_sync(fa, a, 32);
    wmma::load_matrix_sync(fb, b, 32);
    wmma::load_matrix_sync(fc, c, 8, wmma::mem_row_major);
    wmma::mma_sync(fc, fa, fb, fc);
    wmma::store_matrix_sync(d, fc, 8, wmma::mem_row_major);
}

extern "C" __global__ void b1_8x8(const int* a, const int* b, const int* c, int* d_xor, int* d_and) {
    using namespace wmma::experimental;
    wmma::fragment<wmma::matrix_a, 8, 8, 128, precision::b1, wmma::row_major> fa;
    wmma::fragment<wmma::matrix_b, 8, 8, 128, precision::b1, wmma::col_major> fb;
    wmma::fragment<wmma::accumulator, 8, 8, 128, int> fc, fd;
    wmma::load_matrix_sync(fa, a, 128);
    wmma::load_matrix_sync(fb, b, 128);
    wmma::load_matrix_sync(fc, c, 8, wmma::mem_row_major);
    wmma::bmma_sync(fd, fa, fb, fc, bmmaBitOpXOR);
    wmma::store_matrix_sync(d_xor, fd, 8, wmma::mem_row_major);
    wmma::bmma_sync(fd, fa, fb, fc, bmmaBitOpAND);
    wmma::store_matrix_sync(d_and, fd, 8, wmma::mem_row_major);
}

// A whole product with shared-memory tiles: C (m×n, f32) = A (m×k) · B (k×n), four warps per 64×16 block of C.
extern "C" __global__ void gemm(const __half* a, const __half* b, float* c, int m, int n, int k) {
    __shared__ __half sa[64][16 + 8];
    __shared__ __half sb[16][16 + 8];
    int warp = threadIdx.x / 32;
    int row = blockIdx.y * 64, col = blockIdx.x * 16;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum;
    wmma::fill_fragment(sum, 0.0f);
    for (int step = 0; step < k; step += 16) {
        for (int i = threadIdx.x; i < 64 * 16; i += blockDim.x) sa[i / 16][i % 16] = a[(row + i / 16) * k + step + i % 16];
        for (int i = threadIdx.x; i < 16 * 16; i += blockDim.x) sb[i / 16][i % 16] = b[(step + i / 16) * n + col + i % 16];
        __syncthreads();
        wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> fa;
        wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::row_major> fb;
        wmma::load_matrix_sync(fa, &sa[warp * 16][0], 24);
        wmma::load_matrix_sync(fb, &sb[0][0], 24);
        wmma::mma_sync(sum, fa, fb, sum);
        __syncthreads();
    }
    wmma::store_matrix_sync(c + (row + warp * 16) * n + col, sum, n, wmma::mem_row_major);
}
