// Counter-based random numbers with the bits of src/tensor/philox.rs, where streams and formulas are described.
//
// Each float operation is an intrinsic that rounds, so that the compiler fuses none.
#pragma once

struct PhiloxKey {
    unsigned k0;
    unsigned k1;
};

// One block of four uniform words: philox4x32 with ten rounds.
static __device__ __forceinline__ uint4 philox4x32_10(PhiloxKey key, uint4 c) {
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const unsigned high0 = __umulhi(0xD2511F53u, c.x), low0 = 0xD2511F53u * c.x;
        const unsigned high1 = __umulhi(0xCD9E8D57u, c.z), low1 = 0xCD9E8D57u * c.z;
        c = make_uint4(high1 ^ c.y ^ key.k0, low1, high0 ^ c.w ^ key.k1, low0);
        key.k0 += 0x9E3779B9u;
        key.k1 += 0xBB67AE85u;
    }
    return c;
}

// The key of one purpose under a seed.
static __device__ __forceinline__ PhiloxKey philox_stream_key(unsigned seed_low, unsigned seed_high, unsigned purpose) {
    const uint4 words = philox4x32_10({seed_low, seed_high}, make_uint4(purpose, 0, 0, 0x4b455921u));
    return {words.x, words.y};
}

// ln u for a normal float u in (0, 1].
static __device__ __forceinline__ float philox_ln(float u) {
    const unsigned sqrt_half = 0x3f3504f3u;
    const int shifted = (int)(__float_as_uint(u) - sqrt_half);
    const int exponent = shifted >> 23;
    const float m = __uint_as_float((unsigned)(shifted & 0x007fffff) + sqrt_half);
    const float s = __fdiv_rn(__fadd_rn(m, -1.0f), __fadd_rn(m, 1.0f));
    const float q = __fmul_rn(s, s);
    float series = __fmul_rn(q, 1.0f / 9.0f);
    series = __fmul_rn(q, __fadd_rn(1.0f / 7.0f, series));
    series = __fmul_rn(q, __fadd_rn(1.0f / 5.0f, series));
    series = __fmul_rn(q, __fadd_rn(1.0f / 3.0f, series));
    series = __fadd_rn(1.0f, series);
    const float ln_2 = 0.693147180559945309f;
    return __fadd_rn(__fmul_rn((float)exponent, ln_2), __fmul_rn(__fadd_rn(s, s), series));
}

// Sine and cosine of 2 pi b / 2^32.
static __device__ __forceinline__ void philox_sin_cos(unsigned b, float &sine, float &cosine) {
    const float step = 3.14159265358979324f / 33554432.0f;
    const unsigned quarter = (b + (1u << 29)) >> 30;
    const float x = __fmul_rn((float)((int)(b - (quarter << 30)) >> 6), step);
    const float z = __fmul_rn(x, x);
    float s = __fmul_rn(z, 1.0f / 362880.0f);
    s = __fmul_rn(z, __fadd_rn(-1.0f / 5040.0f, s));
    s = __fmul_rn(z, __fadd_rn(1.0f / 120.0f, s));
    s = __fadd_rn(-1.0f / 6.0f, s);
    s = __fadd_rn(x, __fmul_rn(__fmul_rn(x, z), s));
    float c = __fmul_rn(z, 1.0f / 3628800.0f);
    c = __fmul_rn(z, __fadd_rn(1.0f / 40320.0f, -c));
    c = __fmul_rn(z, __fadd_rn(-1.0f / 720.0f, c));
    c = __fmul_rn(z, __fadd_rn(1.0f / 24.0f, c));
    c = __fmul_rn(z, __fadd_rn(-0.5f, c));
    c = __fadd_rn(1.0f, c);
    const bool swapped = quarter & 1;
    const float u = swapped ? c : s, v = swapped ? s : c;
    sine = quarter & 2 ? -u : u;
    cosine = (quarter + 1) & 2 ? -v : v;
}

// Two standard normals from two words, by Box and Muller.
static __device__ __forceinline__ void philox_normal_pair(unsigned a, unsigned b, float &first, float &second) {
    const float u = __fmul_rn((float)((a >> 8) + 1), 1.0f / 16777216.0f);
    const float radius = __fsqrt_rn(__fmul_rn(-2.0f, philox_ln(u)));
    float sine, cosine;
    philox_sin_cos(b, sine, cosine);
    first = __fmul_rn(radius, cosine);
    second = __fmul_rn(radius, sine);
}

// Numbers 4 block .. 4 block + 3 of image `image` at step `step`.
static __device__ __forceinline__ void philox_normals(PhiloxKey key, unsigned image, unsigned step, unsigned block, float (&out)[4]) {
    const uint4 words = philox4x32_10(key, make_uint4(block, step, image, 0));
    philox_normal_pair(words.x, words.y, out[0], out[1]);
    philox_normal_pair(words.z, words.w, out[2], out[3]);
}
