// Element types without CUDA's headers: f32, f16 and bf16 in memory, f32 in registers.
//
// A kernel is compiled with -DT=f32, -DT=f16 or -DT=bf16. `to_float` and `from_float<T>` convert, rounding to nearest even.
// `Pack<T, N>` is N neighbouring elements, moved by one aligned load or store of at most 16 bytes.
#pragma once

typedef float f32;
struct f16 { unsigned short bits; };
struct bf16 { unsigned short bits; };

static __device__ __forceinline__ float to_float(f32 v) { return v; }
static __device__ __forceinline__ float to_float(f16 v) {
    float r;
    asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(v.bits));
    return r;
}
static __device__ __forceinline__ float to_float(bf16 v) { return __uint_as_float((unsigned)v.bits << 16); }

template <typename E> __device__ __forceinline__ E from_float(float v);
template <> __device__ __forceinline__ f32 from_float<f32>(float v) { return v; }
template <> __device__ __forceinline__ f16 from_float<f16>(float v) {
    f16 r;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r.bits) : "f"(v));
    return r;
}
template <> __device__ __forceinline__ bf16 from_float<bf16>(float v) {
    bf16 r;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r.bits) : "f"(v));
    return r;
}

template <typename E, int N> struct alignas(sizeof(E) * N) Pack {
    static_assert(sizeof(E) * N <= 16, "at most one 128-bit access");
    E v[N];
};

// Loads N elements from `p`, which is aligned to N elements, as floats.
template <int N, typename E> __device__ __forceinline__ void load_floats(const E *p, float (&out)[N]) {
    const Pack<E, N> pack = *reinterpret_cast<const Pack<E, N> *>(p);
#pragma unroll
    for (int i = 0; i < N; ++i) out[i] = to_float(pack.v[i]);
}

// Stores N floats, rounded to E, to `p`, which is aligned to N elements.
template <int N, typename E> __device__ __forceinline__ void store_floats(E *p, const float (&in)[N]) {
    Pack<E, N> pack;
#pragma unroll
    for (int i = 0; i < N; ++i) pack.v[i] = from_float<E>(in[i]);
    *reinterpret_cast<Pack<E, N> *>(p) = pack;
}
