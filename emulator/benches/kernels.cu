// The kernels of the throughput benchmark; `kernels.ptx` is what NVRTC 12.9 makes of them with
// `--gpu-architecture=compute_86 -lineinfo`, no headers.
typedef unsigned int u32;
#define K extern "C" __global__ void

K arithmetic(float* out, int n) {
  float a = threadIdx.x, b = 1.0001f;
  int c = threadIdx.x;
  for (int i = 0; i < n; ++i) {
    a = fmaf(a, b, 0.5f);
    c = c * 1664525 + 1013904223;
    b = b + 1e-7f;
    c ^= c >> 7;
    a = fmaxf(a, (float)c);
    c = min(c, 0x7ffffff0) + i;
  }
  out[blockIdx.x * blockDim.x + threadIdx.x] = a + c;
}

// A 64x64 tile per block of 128 threads, C = A B^T in f16 with f32 sums: cp.async in two stages,
// ldmatrix, mma.m16n8k16. A [m,k], B [n,k].
K gemm(float* c, const unsigned short* a, const unsigned short* b, int n, int k) {
  __shared__ uint4 tile[2][2][64 * 5];
  int t = threadIdx.x, warp = t / 32, lane = t & 31;
  const unsigned short* base[2] = {a + blockIdx.x * 64 * k, b + blockIdx.y * 64 * k};
  auto stage = [&](int s, int at) {
    for (int m = 0; m < 2; ++m)
      for (int i = t; i < 256; i += 128) {
        u32 to = (u32)__cvta_generic_to_shared(&tile[s][m][(i >> 2) * 5 + (i & 3)]);
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(base[m] + (i >> 2) * k + at + (i & 3) * 8) : "memory");
      }
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
  float d[2][4][4] = {};
  int rows = (warp & 1) * 32, cols = (warp >> 1) * 32;
  stage(0, 0);
  for (int at = 0, s = 0; at < k; at += 32, s ^= 1) {
    if (at + 32 < k) {
      stage(s ^ 1, at + 32);
      asm volatile("cp.async.wait_group 1;" ::: "memory");
    } else {
      asm volatile("cp.async.wait_group 0;" ::: "memory");
    }
    __syncthreads();
    for (int kk = 0; kk < 2; ++kk) {
      u32 ra[2][4], rb[2][4];
      for (int i = 0; i < 2; ++i) {
        u32 pa = (u32)__cvta_generic_to_shared(&tile[s][0][(rows + 16 * i + (lane & 15)) * 5 + 2 * kk + (lane >> 4)]);
        u32 pb = (u32)__cvta_generic_to_shared(&tile[s][1][(cols + 16 * i + (lane & 7) + (lane >> 4) * 8) * 5 + 2 * kk + (lane >> 3 & 1)]);
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(ra[i][0]), "=r"(ra[i][1]), "=r"(ra[i][2]), "=r"(ra[i][3]) : "r"(pa));
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(rb[i][0]), "=r"(rb[i][1]), "=r"(rb[i][2]), "=r"(rb[i][3]) : "r"(pb));
      }
      for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 4; ++j) {
          float* x = d[i][j];
          u32* y = &rb[j >> 1][(j & 1) * 2];
          asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                       : "+f"(x[0]), "+f"(x[1]), "+f"(x[2]), "+f"(x[3]) : "r"(ra[i][0]), "r"(ra[i][1]), "r"(ra[i][2]), "r"(ra[i][3]), "r"(y[0]), "r"(y[1]));
        }
    }
    __syncthreads();
  }
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 4; ++j) {
      int r = blockIdx.x * 64 + rows + 16 * i + lane / 4, q = blockIdx.y * 64 + cols + 8 * j + 2 * (lane & 3);
      *(float2*)(c + r * n + q) = make_float2(d[i][j][0], d[i][j][1]);
      *(float2*)(c + (r + 8) * n + q) = make_float2(d[i][j][2], d[i][j][3]);
    }
}

// Streams through memory and shared memory: the worst case of the checkers.
K normalise(float* out, const float* in, int n) {
  __shared__ float part[32];
  int t = threadIdx.x;
  const float* row = in + (long long)blockIdx.x * n;
  float sum = 0;
  for (int i = t; i < n; i += blockDim.x) sum += row[i] * row[i];
  for (int d = 16; d; d >>= 1) sum += __shfl_xor_sync(~0u, sum, d);
  if ((t & 31) == 0) part[t / 32] = sum;
  __syncthreads();
  sum = 0;
  for (int i = 0; i < blockDim.x / 32; ++i) sum += part[i];
  float scale = rsqrtf(sum / n + 1e-5f);
  for (int i = t; i < n; i += blockDim.x) out[(long long)blockIdx.x * n + i] = row[i] * scale;
}
