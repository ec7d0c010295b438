// What C++ and CUDA's own built-ins compile to: calls, virtual functions, recursion, switches, local arrays, 128-bit
// integers, shuffles, votes, atomics of every width, memory order, asynchronous copies, barriers of libcu++.
#include <cuda/std/array>
#include <cuda/std/atomic>
#include <cuda/std/complex>
#include <cuda/std/tuple>
#include <cuda/atomic>
#include <cuda/barrier>
#include <cuda_pipeline.h>

typedef unsigned int u32;
typedef unsigned long long u64;

#define INDEX (blockIdx.x * blockDim.x + threadIdx.x)

// --- calls

__device__ __noinline__ int fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

extern "C" __global__ void recursion(int* y) { y[INDEX] = fibonacci(threadIdx.x % 12); }

struct Shape {
    __device__ virtual float area() const = 0;
};
struct Square : Shape {
    float side;
    __device__ Square(float s) : side(s) {}
    __device__ float area() const override { return side * side; }
};
struct Disc : Shape {
    float radius;
    __device__ Disc(float r) : radius(r) {}
    __device__ float area() const override { return 3.0f * radius * radius; }
};

extern "C" __global__ void virtual_calls(const int* which, float* y) {
    int i = INDEX;
    Square square(i);
    Disc disc(i);
    const Shape* shape = which[i] ? static_cast<const Shape*>(&square) : &disc;
    y[i] = shape->area();
}

__device__ __noinline__ int twice(int x) { return 2 * x; }
__device__ __noinline__ int square(int x) { return x * x; }
__device__ __noinline__ int negate(int x) { return -x; }
typedef int (*Function)(int);
__device__ Function table[3] = {twice, square, negate};

extern "C" __global__ void function_pointers(const int* which, int* y) {
    int i = INDEX;
    y[i] = table[which[i] % 3](i);
}

struct Big {
    int values[12];
    double scale;
};

__device__ __noinline__ Big shift(Big big, int by) {
    Big out;
    for (int k = 0; k < 12; ++k) out.values[k] = big.values[(k + by) % 12];
    out.scale = big.scale * by;
    return out;
}

extern "C" __global__ void structures_by_value(Big big, double* y) {
    int i = INDEX;
    Big shifted = shift(big, i % 7 + 1);
    y[i] = shifted.values[i % 12] * shifted.scale;
}

// --- control flow and local memory

extern "C" __global__ void switches(const int* x, int* y) {
    int i = INDEX;
    int r = 0;
    switch (x[i]) {
        case 0: r = 3; break;
        case 1: r = i; // falls through
        case 2: r += 7; break;
        case 3: for (int k = 0; k < i % 5; ++k) r += k; break;
        case 4: r = i ^ 21; break;
        case 5: r = -i; break;
        case 6: r = i / 3; break;
        case 7: r = i % 3; break;
        case 8: r = i << 2; break;
        default: r = 99;
    }
    y[i] = r;
}

extern "C" __global__ void divergent_loops(const int* x, int* y) {
    int i = INDEX;
    int n = x[i], steps = 0;
    while (n != 1) {
        if (n & 1) {
            n = 3 * n + 1;
            if (steps > 200) break;
        } else {
            n /= 2;
        }
        ++steps;
        if (n == 40) continue;
        if (n < 0) return;
    }
    y[i] = steps;
}

extern "C" __global__ void local_arrays(const int* x, int* y) {
    int i = INDEX;
    int histogram[16];
    for (int k = 0; k < 16; ++k) histogram[k] = 0;
    for (int k = 0; k < 64; ++k) histogram[x[(i + k) % 256] & 15]++;
    int best = 0;
    for (int k = 1; k < 16; ++k)
        if (histogram[k] > histogram[best]) best = k;
    y[i] = best * 1000 + histogram[best];
}

extern "C" __global__ void wide_integers(const u64* a, const u64* b, u64* y) {
    int i = INDEX;
    unsigned __int128 product = (unsigned __int128)a[i] * b[i];
    __int128 quotient = (__int128)(product >> 3) / (__int128)(long long)(b[i] | 1);
    y[4 * i] = (u64)(product >> 64);
    y[4 * i + 1] = (u64)quotient;
    y[4 * i + 2] = (a[i] / (b[i] | 1)) + (u64)((long long)a[i] % (long long)(b[i] | 1));
    y[4 * i + 3] = __umul64hi(a[i], b[i]) ^ __brevll(a[i]) ^ __popcll(b[i]) ^ __clzll(a[i]) ^ __ffsll(b[i]);
}

extern "C" __global__ void bit_intrinsics(const u32* a, const u32* b, u32* y) {
    int i = INDEX;
    u32 x = a[i], z = b[i];
    u32* out = y + 10 * i;
    out[0] = __byte_perm(x, z, 0x5140);
    out[1] = __funnelshift_l(x, z, i);
    out[2] = __funnelshift_rc(x, z, i);
    out[3] = __brev(x) + __popc(z) + __clz(x) + __ffs(z);
    out[4] = __umulhi(x, z) + __mulhi((int)x, (int)z);
    out[5] = __dp4a((int)x, (int)z, i) + __dp2a_lo((int)x, (int)z, i);
    out[6] = __sad((int)x, (int)z, i) + __usad(x, z, i);
    out[7] = __vadd4(x, z) ^ __vmaxs2(x, z) ^ __vabsdiffu4(x, z);
    out[8] = __fns(x, i % 32, 2);
    out[9] = __hadd((int)x, (int)z) + __rhadd((int)x, (int)z) + __uhadd(x, z) + __mul24((int)x, (int)z);
}

// --- warps

extern "C" __global__ void warp_collectives(const int* x, int* y) {
    int i = INDEX, lane = threadIdx.x % 32;
    int v = x[i];
    const u32 all = 0xffffffffu;
    int* out = y + 12 * i;
    out[0] = __shfl_sync(all, v, 5);
    out[1] = __shfl_up_sync(all, v, 3, 16);
    out[2] = __shfl_down_sync(all, v, 2, 8);
    out[3] = __shfl_xor_sync(all, v, 9);
    out[4] = __any_sync(all, v > 95);
    out[5] = __all_sync(all, v > 2);
    out[6] = __ballot_sync(all, v % 2);
    out[7] = __match_any_sync(all, v % 5);
    int same;
    out[8] = __match_all_sync(all, v / 1000, &same) + 2 * same;
    out[9] = __reduce_add_sync(all, v) + __reduce_max_sync(all, v) + (int)__reduce_xor_sync(all, (u32)v);
    out[10] = -1;
    if (lane & 1) out[10] = __reduce_min_sync(0xaaaaaaaau, v) + (int)__popc(__activemask());
    double wide = __shfl_xor_sync(all, (double)v * 0.5, 1);
    out[11] = (int)(wide * 2.0) + __syncthreads_count(v > 50) + __syncthreads_or(v == 3) * 1000 + __syncthreads_and(v < 200) * 2000;
}

// --- atomics

extern "C" __global__ void atomics(int* ints, u32* words, u64* wide, float* floats, double* doubles, unsigned short* shorts) {
    int i = INDEX;
    atomicAdd(&ints[0], i);
    atomicSub(&ints[1], i);
    atomicMin(&ints[2], -i);
    atomicMax(&ints[3], i);
    atomicAnd(&words[0], ~(1u << (i % 31)));
    atomicOr(&words[1], 1u << (i % 31));
    atomicXor(&words[2], (u32)i);
    atomicInc(&words[3], 100);
    atomicDec(&words[4], 77);
    atomicExch(&words[5], 42u);
    atomicAdd(&wide[0], (u64)i << 20);
    atomicMax(&wide[1], (u64)i * 0x100000001ull);
    atomicAdd(&floats[0], 0.25f);
    atomicAdd(&doubles[0], 0.125);
    // A lock-free maximum by compare-and-swap, on 32, 64 and 16 bits.
    int seen = ints[4], assumed;
    do {
        assumed = seen;
        seen = atomicCAS(&ints[4], assumed, assumed > 3 * i ? assumed : 3 * i);
    } while (seen != assumed);
    u64 seen64 = wide[2], assumed64;
    do {
        assumed64 = seen64;
        seen64 = atomicCAS(&wide[2], assumed64, assumed64 + i);
    } while (seen64 != assumed64);
    unsigned short seen16 = 0, assumed16;
    do {
        assumed16 = seen16;
        seen16 = atomicCAS(&shorts[0], assumed16, (unsigned short)(assumed16 + 1));
    } while (seen16 != assumed16);
}

extern "C" __global__ void shared_histogram(const int* x, int* y, int n) {
    __shared__ int bins[64];
    for (int k = threadIdx.x; k < 64; k += blockDim.x) bins[k] = 0;
    __syncthreads();
    for (int k = INDEX; k < n; k += gridDim.x * blockDim.x) atomicAdd(&bins[x[k] & 63], 1);
    __syncthreads();
    for (int k = threadIdx.x; k < 64; k += blockDim.x) atomicAdd(&y[k], bins[k]);
}

// --- memory order

// The last block to finish adds up what all blocks wrote.
extern "C" __global__ void last_block(const float* x, float* partial, float* total, u32* done) {
    __shared__ float sums[256];
    __shared__ bool last;
    sums[threadIdx.x] = x[INDEX];
    __syncthreads();
    for (int half = 128; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sums[0];
        __threadfence();
        last = atomicInc(done, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        __threadfence();
        float sum = 0;
        for (int b = 0; b < gridDim.x; ++b) sum += partial[b];
        *total = sum;
    }
}

// Block k waits for block k − 1's flag: release and acquire of libcu++ atomics.
extern "C" __global__ void chained_blocks(int* values, int* flags) {
    if (threadIdx.x == 0) {
        if (blockIdx.x > 0) {
            cuda::atomic_ref<int, cuda::thread_scope_device> before(flags[blockIdx.x - 1]);
            while (before.load(cuda::memory_order_acquire) == 0) {}
            values[blockIdx.x] = values[blockIdx.x - 1] + blockIdx.x;
        } else {
            values[0] = 100;
        }
        cuda::atomic_ref<int, cuda::thread_scope_device> mine(flags[blockIdx.x]);
        mine.store(1, cuda::memory_order_release);
    }
}

// A spin lock around a plain counter.
extern "C" __global__ void spin_lock(int* lock, volatile int* counter) {
    for (bool done = false; !done;) {
        if (atomicCAS(lock, 0, 1) == 0) {
            __threadfence();
            *counter = *counter + 1;
            __threadfence();
            atomicExch(lock, 0);
            done = true;
        }
    }
}

extern "C" __global__ void standard_library(const int* x, float* y) {
    int i = INDEX;
    cuda::std::array<int, 4> a = {x[i], 1, 2, 3};
    cuda::std::tuple<int, float> pair(a[i % 4], 0.5f);
    cuda::std::complex<float> z(cuda::std::get<1>(pair), (float)cuda::std::get<0>(pair));
    y[i] = (z * cuda::std::conj(z)).real();
}

// --- asynchronous copies and barriers

extern "C" __global__ void pipelined_copy(const float4* x, float4* y) {
    __shared__ float4 stage[2][128];
    int t = threadIdx.x;
    const float4* from = x + blockIdx.x * 512;
    __pipeline_memcpy_async(&stage[0][t], &from[t], 16);
    __pipeline_commit();
    for (int k = 0; k < 4; ++k) {
        if (k + 1 < 4) __pipeline_memcpy_async(&stage[(k + 1) % 2][t], &from[(k + 1) * 128 + t], 16);
        __pipeline_commit();
        __pipeline_wait_prior(1);
        __syncthreads();
        float4 v = stage[k % 2][127 - t];
        y[blockIdx.x * 512 + k * 128 + t] = make_float4(2 * v.x, 2 * v.y, 2 * v.z, 2 * v.w);
        __syncthreads();
    }
}

// Half of the block produces, half consumes, through two barriers of libcu++ (mbarrier on sm_80 and later).
extern "C" __global__ void producer_consumer(const int* x, int* y, int rounds) {
    using barrier = cuda::barrier<cuda::thread_scope_block>;
    __shared__ int slot[64];
    __shared__ alignas(barrier) unsigned char storage[2 * sizeof(barrier)];
    barrier* full = reinterpret_cast<barrier*>(storage);
    barrier* empty = full + 1;
    if (threadIdx.x == 0) {
        init(full, 128);
        init(empty, 128);
    }
    __syncthreads();
    int t = threadIdx.x % 64;
    if (threadIdx.x < 64) {
        for (int r = 0; r < rounds; ++r) {
            if (r > 0) empty->arrive_and_wait();
            slot[t] = x[r * 64 + t];
            (void)full->arrive();
        }
    } else {
        for (int r = 0; r < rounds; ++r) {
            full->arrive_and_wait();
            y[r * 64 + t] = slot[63 - t] + r;
            if (r + 1 < rounds) (void)empty->arrive();
        }
    }
}

// Named barriers: warps 0–1 hand over to warps 2–3.
extern "C" __global__ void named_barriers(const int* x, int* y) {
    __shared__ int stage[64];
    if (threadIdx.x < 64) {
        stage[threadIdx.x] = x[threadIdx.x];
        asm volatile("bar.arrive 1, 128;" ::: "memory");
    } else {
        asm volatile("bar.sync 1, 128;" ::: "memory");
        y[threadIdx.x - 64] = stage[127 - threadIdx.x] * 3;
    }
}

extern __shared__ unsigned char dynamic[];

extern "C" __global__ void dynamic_shared(const int* x, int* y) {
    int* first = reinterpret_cast<int*>(dynamic);
    double* second = reinterpret_cast<double*>(dynamic + blockDim.x * sizeof(int));
    int i = INDEX, t = threadIdx.x;
    first[t] = x[i];
    second[t] = x[i] * 0.5;
    __syncthreads();
    y[i] = first[blockDim.x - 1 - t] + (int)(second[(t + 1) % blockDim.x] * 2.0);
}

__constant__ float coefficients[5] = {1.0f, -2.0f, 0.5f, 3.0f, -0.25f};
__device__ int global_counter = 5;
__device__ const char* const names[2] = {"even", "odd"};

extern "C" __global__ void module_variables(float* y, int* letters) {
    int i = INDEX;
    float sum = 0, power = 1, x = i * 0.125f;
    for (int k = 0; k < 5; ++k, power *= x) sum += coefficients[k] * power;
    y[i] = sum;
    letters[i] = names[i % 2][i % 3];
    if (i == 0) global_counter += 2;
}

// Cache operators and vector accesses.
extern "C" __global__ void cached_accesses(const int4* x, int4* y, const unsigned char* bytes, short* shorts) {
    int i = INDEX;
    int4 v = __ldg(&x[i]);
    int4 w = __ldcs(&x[i]);
    int2 h = __ldcg(reinterpret_cast<const int2*>(&x[i]) + 1);
    __stcs(&y[i], make_int4(v.x + w.y, h.x, h.y, v.w));
    shorts[i] = (short)((signed char)bytes[i] - bytes[(i + 1) % 256]);
}
