// Small kernels whose behaviour is known: `kernels.ptx` is what NVRTC 12.9 makes of them with
// `--gpu-architecture=compute_86 -lineinfo`, no headers. Tests launch them by name.
typedef unsigned int u32;
typedef unsigned long long u64;
#define K extern "C" __global__ void

// Block reduction in shared memory, and the same without its inner barrier.
template <bool SYNC> __device__ void reduce(float* out, const float* in, int n) {
  __shared__ float s[256];
  int t = threadIdx.x, i = blockIdx.x * 256 + t;
  s[t] = i < n ? in[i] : 0.f;
  __syncthreads();
  for (int d = 128; d > 0; d >>= 1) {
    if (t < d) s[t] += s[t + d];
    if (SYNC) __syncthreads();
  }
  if (t == 0) out[blockIdx.x] = s[0];
}
K reduce_clean(float* out, const float* in, int n) { reduce<true>(out, in, n); }
K reduce_race(float* out, const float* in, int n) { reduce<false>(out, in, n); }

// Neighbours in one warp through shared memory, with and without a warp barrier.
template <bool SYNC> __device__ void neighbours(int* out) {
  __shared__ int s[32];
  int t = threadIdx.x;
  s[t] = t;
  if (SYNC) __syncwarp();
  out[t] = s[t ^ 1];
}
K warp_clean(int* out) { neighbours<true>(out); }
K warp_race(int* out) { neighbours<false>(out); }

// Halves of a warp that synchronise among themselves only.
K warp_halves(int* out, int cross) {
  __shared__ int s[32];
  int t = threadIdx.x;
  s[t] = t;
  u32 mask = t < 16 ? 0x0000ffffu : 0xffff0000u;
  __syncwarp(mask);
  out[t] = s[cross ? 31 - t : t ^ 1];
}

// Every thread stores the same flag: no race. Different values: a race.
K same_value(int* out) {
  __shared__ int flag;
  flag = 7;
  __syncthreads();
  out[threadIdx.x] = flag;
}
K different_value(int* out) {
  __shared__ int flag;
  flag = threadIdx.x;
  __syncthreads();
  out[threadIdx.x] = flag;
}

// Blocks write one location; blocks read what another writes.
K global_write_race(int* out) { out[threadIdx.x] = blockIdx.x; }
K global_read_race(int* data, int* out) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  data[i] = i;
  out[i] = data[(i + blockDim.x) % (gridDim.x * blockDim.x)];
}

// The last block to finish adds up what all blocks left behind.
template <bool FENCE> __device__ void last_block(float* parts, u32* count, float* out) {
  __shared__ bool last;
  if (threadIdx.x == 0) {
    parts[blockIdx.x] = blockIdx.x + 1;
    if (FENCE) __threadfence();
    last = atomicAdd(count, 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (last && threadIdx.x == 0) {
    float sum = 0;
    for (u32 b = 0; b < gridDim.x; ++b) sum += parts[b];
    *out = sum;
  }
}
K last_block_clean(float* parts, u32* count, float* out) { last_block<true>(parts, count, out); }
K last_block_race(float* parts, u32* count, float* out) { last_block<false>(parts, count, out); }

// A barrier of the whole grid, made by hand; each block then reads its neighbour's part.
K grid_barrier(int* data, volatile u32* arrived, int* out, int rounds) {
  int n = gridDim.x * blockDim.x, i = blockIdx.x * blockDim.x + threadIdx.x;
  data[i] = i;
  for (int r = 1; r <= rounds; ++r) {
    __syncthreads();
    if (threadIdx.x == 0) {
      __threadfence();
      atomicAdd((u32*)arrived, 1);
      while (*arrived < gridDim.x * (2 * r - 1)) {}
      __threadfence();
    }
    __syncthreads();
    int v = data[(i + blockDim.x) % n];
    __syncthreads();
    if (threadIdx.x == 0) {
      __threadfence();
      atomicAdd((u32*)arrived, 1);
      while (*arrived < gridDim.x * 2 * r) {}
      __threadfence();
    }
    __syncthreads();
    data[i] = v;
  }
  out[i] = data[i];
}

// A lock per grid: lanes of one warp and blocks compete.
K spin_lock(int* lock, int* counter) {
  bool done = false;
  while (!done) {
    if (atomicCAS(lock, 0, 1) == 0) {
      __threadfence();
      *(volatile int*)counter = *(volatile int*)counter + 1;
      __threadfence();
      atomicExch(lock, 0);
      done = true;
    }
  }
}
// The same, where lanes of a warp spin for a lane that has left the loop.
K spin_lock_hard(int* lock, int* counter) {
  while (atomicCAS(lock, 0, 1) != 0) {}
  __threadfence();
  *(volatile int*)counter = *(volatile int*)counter + 1;
  __threadfence();
  atomicExch(lock, 0);
}
K spin_forever(volatile int* flag) { while (*flag == 0) {} }

// A float maximum by compare-and-swap, as everybody writes it.
K cas_max(float* best, const float* in) {
  float v = in[blockIdx.x * blockDim.x + threadIdx.x];
  int* p = (int*)best;
  int old = *p;
  while (__int_as_float(old) < v) {
    int seen = atomicCAS(p, old, __float_as_int(v));
    if (seen == old) break;
    old = seen;
  }
}
K atomics(int* out) {
  atomicAdd(out + 0, 2);
  atomicMax(out + 1, (int)threadIdx.x);
  atomicMin(out + 2, -(int)threadIdx.x);
  atomicOr(out + 3, 1 << (threadIdx.x & 31));
  atomicInc((u32*)out + 4, 9);
  atomicAdd((u64*)out + 3, 1ull << 33);
  atomicAdd((float*)out + 8, 0.5f);
}
// Adds to a shared counter and reads it, with and without a barrier between.
K shared_count_clean(int* out) {
  __shared__ int n;
  if (threadIdx.x == 0) n = 0;
  __syncthreads();
  atomicAdd(&n, 1);
  __syncthreads();
  out[threadIdx.x] = n;
}
K shared_count_race(int* out) {
  __shared__ int n;
  if (threadIdx.x == 0) n = 0;
  __syncthreads();
  atomicAdd(&n, 1);
  out[threadIdx.x] = n;
}

// Plain access errors.
K copy(float* out, const float* in, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i <= n) out[i] = in[i];
}
K copy4(float4* out, const float* in, int offset) {
  int i = threadIdx.x;
  out[i] = *(const float4*)(in + 4 * i + offset);
}
K shared_out_of_bounds(int* out, int n) {
  __shared__ int s[64];
  s[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x + n];
}
K shared_uninit(int* out, int n) {
  __shared__ int s[64];
  if (threadIdx.x < n) s[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x];
}
K local_uninit(int* out, int n, int at) {
  int a[16];
  for (int i = 0; i < n; ++i) a[i * 3 & 15] = i;
  out[threadIdx.x] = a[at];
}

// Barriers that not everybody reaches.
K divergent_lanes(int* out) {
  __shared__ int s[64];
  s[threadIdx.x] = 1;
  if (threadIdx.x < 16) __syncthreads();
  out[threadIdx.x] = s[threadIdx.x];
}
K divergent_warps(int* out) {
  __shared__ int s[64];
  s[threadIdx.x] = 1;
  if (threadIdx.x < 32) __syncthreads();
  out[threadIdx.x] = s[threadIdx.x];
}
K divergent_branches(int* out) {
  if (threadIdx.x < 32) {
    out[threadIdx.x] = 1;
    __syncthreads();
  } else {
    out[threadIdx.x] = 2;
    __syncthreads();
    out[threadIdx.x] = 3;
  }
}
K early_exit(int* out, int n) {
  if (threadIdx.x >= n) return;
  __syncthreads();
  out[threadIdx.x] = __shfl_sync(0xffffffff, threadIdx.x, 3);
}
// One warp reads and exits; the other waits at a barrier and overwrites what it read.
K exit_orders(int* out) {
  __shared__ int s[64];
  int t = threadIdx.x;
  s[t] = t;
  __syncthreads();
  out[t] = s[63 - t];
  if (t >= 32) return;
  __syncthreads();
  s[t] = -t;
  __syncwarp();
  out[t] += s[t ^ 1];
}
// Half of a block produces, the other half consumes; named barriers order them.
template <bool SYNC> __device__ void pipe(int* out) {
  __shared__ int s[2][32];
  int t = threadIdx.x & 31;
  if (threadIdx.x < 32) {
    for (int i = 0; i < 8; ++i) {
      if (SYNC || i < 2) asm volatile("bar.sync %0, 64;" ::"r"(3 + (i & 1)) : "memory");
      s[i & 1][t] = 100 * i + t;
      asm volatile("bar.arrive %0, 64;" ::"r"(1 + (i & 1)) : "memory");
    }
  } else {
    for (int i = 0; i < 2; ++i) asm volatile("bar.arrive %0, 64;" ::"r"(3 + i) : "memory");
    for (int i = 0; i < 8; ++i) {
      asm volatile("bar.sync %0, 64;" ::"r"(1 + (i & 1)) : "memory");
      out[32 * i + t] = s[i & 1][31 - t];
      if (SYNC && i < 6) asm volatile("bar.arrive %0, 64;" ::"r"(3 + (i & 1)) : "memory");
    }
  }
}
K pipe_clean(int* out) { pipe<true>(out); }
K barrier_votes(int* out, int limit) {
  int t = threadIdx.x;
  out[3 * t] = __syncthreads_count(t < limit);
  out[3 * t + 1] = __syncthreads_and(t < limit);
  out[3 * t + 2] = __syncthreads_or(t < limit);
}

// Masks.
K mask_without_caller(int* out) { out[threadIdx.x] = __shfl_sync(0x0000ffff, threadIdx.x, 0); }
K mask_of_absent(int* out) {
  int v = threadIdx.x;
  if (threadIdx.x < 16) v = __shfl_down_sync(0xffffffff, v, 1);
  out[threadIdx.x] = v;
}
K mask_split(int* out) {
  int v = threadIdx.x;
  if (threadIdx.x < 16) v = __shfl_xor_sync(0x0000ffff, v, 1);
  else v = __shfl_xor_sync(0xffff0000, v, 2);
  out[threadIdx.x] = v;
}
K collectives(int* out, u32 x) {
  u32 t = threadIdx.x;
  out[0 * 32 + t] = __shfl_up_sync(~0u, t, 3);
  out[1 * 32 + t] = __shfl_down_sync(~0u, t, 5);
  out[2 * 32 + t] = __shfl_xor_sync(~0u, t, 7, 8);
  out[3 * 32 + t] = __shfl_sync(~0u, t, 3, 4);
  out[4 * 32 + t] = __ballot_sync(~0u, t % x == 0);
  out[5 * 32 + t] = __any_sync(~0u, t == x) + 2 * __all_sync(~0u, t < 32);
  out[6 * 32 + t] = __match_any_sync(~0u, t % x);
  out[7 * 32 + t] = __reduce_add_sync(~0u, t) + __reduce_max_sync(~0u, t);
  int p;
  out[8 * 32 + t] = __match_all_sync(~0u, x, &p) + p;
  out[9 * 32 + t] = __activemask();
}

// Copies that run beside the program.
template <int WAIT, bool SYNC> __device__ void copied(int* out, const int* in) {
  __shared__ int s[128];
  u32 to = (u32)__cvta_generic_to_shared(s + threadIdx.x);
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;\ncp.async.commit_group;" ::"r"(to), "l"(in + threadIdx.x) : "memory");
  if (WAIT == 0) asm volatile("cp.async.wait_group 0;" ::: "memory");
  if (WAIT == 1) asm volatile("cp.async.wait_group 1;" ::: "memory");
  if (SYNC) __syncthreads();
  out[threadIdx.x] = s[127 - threadIdx.x];
}
K async_clean(int* out, const int* in) { copied<0, true>(out, in); }
K async_no_barrier(int* out, const int* in) { copied<0, false>(out, in); }
K async_early(int* out, const int* in) { copied<1, true>(out, in); }
K async_no_wait(int* out, const int* in) { copied<2, true>(out, in); }
K async_zero_fill(int* out, const int* in, int n) {
  __shared__ int4 s[32];
  int t = threadIdx.x, bytes = t < n ? 16 : t == n ? 8 : 0;
  u32 to = (u32)__cvta_generic_to_shared(s + t);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\ncp.async.wait_all;" ::"r"(to), "l"(in + 4 * t), "r"(bytes) : "memory");
  ((int4*)out)[t] = s[t];
}

// Access patterns to count.
K strided(float* out, const float* in, int stride) { out[threadIdx.x] = in[threadIdx.x * stride]; }
K wide(float4* out, const float4* in) { out[threadIdx.x] = in[threadIdx.x]; }
K shared_stride(float* out, int stride) {
  __shared__ float s[1024];
  s[threadIdx.x * stride] = threadIdx.x;
  __syncwarp();
  out[threadIdx.x] = s[(threadIdx.x ^ 1) * stride];
}
K shared_wide(float4* out, int swap) {
  __shared__ float4 s[64];
  s[threadIdx.x] = make_float4(threadIdx.x, 0, 0, 0);
  __syncwarp();
  out[threadIdx.x] = s[threadIdx.x ^ swap];
}
K transpose(float* out, const float* in, int pitch) {
  __shared__ float s[33 * 32];
  for (int r = threadIdx.y; r < 32; r += blockDim.y) s[r * pitch + threadIdx.x] = in[r * 32 + threadIdx.x];
  __syncthreads();
  for (int r = threadIdx.y; r < 32; r += blockDim.y) out[r * 32 + threadIdx.x] = s[threadIdx.x * pitch + r];
}
K matrix_load(u32* out, const uint4* in, int pitch) {
  extern __shared__ uint4 tile[];
  for (int i = threadIdx.x; i < 32; i += 32) tile[i * pitch] = in[i];
  __syncwarp();
  u32 at = (u32)__cvta_generic_to_shared(tile + threadIdx.x * pitch), r[4];
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at));
  for (int i = 0; i < 4; ++i) out[32 * i + threadIdx.x] = r[i];
}
K lanes_apart(int* out, int n) {
  int v = 0;
  if (threadIdx.x & 1) {
    for (int i = 0; i < n; ++i) v = v * 3 + i;
  } else {
    for (int i = 0; i < n; ++i) v = v * 5 - i;
  }
  out[threadIdx.x] = v;
}

// Calls: recursion, pointers, different functions in one warp, structs by value.
struct Pair { int a, b; double c; };
__device__ __noinline__ int fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
__device__ __noinline__ int twice(int x) { return 2 * x; }
__device__ __noinline__ int negate(int x) { return -x; }
__device__ int (*const functions[3])(int) = {fibonacci, twice, negate};
__device__ __noinline__ Pair swap(Pair p, int k) { Pair q = {p.b + k, p.a - k, p.c * k}; return q; }
K calls(int* out, int n) {
  int t = threadIdx.x;
  Pair p = {t, n, 0.5};
  p = swap(p, t & 3);
  out[t] = functions[t % 3](t % 7) + p.a + 10 * p.b + (int)(100 * p.c);
}
K forever_deep(int* out, int n);
__device__ __noinline__ int deep(int n) { volatile int big[1024]; big[n & 1023] = n; return n < 0 ? n : deep(n + 1) + big[n & 1023]; }
K forever_deep(int* out, int n) { out[threadIdx.x] = deep(n); }

__constant__ int table[8] = {3, 1, 4, 1, 5, 9, 2, 6};
__device__ int variable = 42;
__device__ int* pointer = &variable;
K globals(int* out) { out[threadIdx.x] = table[threadIdx.x & 7] + *pointer; __syncthreads(); if (threadIdx.x == 0) variable = 1; }
K trap(int* out) { if (threadIdx.x == 5) __trap(); out[threadIdx.x] = 0; }

// Work for the speed of the interpreter.
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
