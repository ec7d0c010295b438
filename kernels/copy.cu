// y = up to four parts side by side in each row: slices, padding and concatenation. A part without x is zeros.
//
// Elements are only moved, in units of 2 to 16 bytes: the largest that divides all extents and offsets.
//
// Shapes      y: `outer` rows of `y_stride` units; `width` units of each are written, from `y_offset` on.
//             Part k is units ends[k - 1]..ends[k] of the written ones. It comes from x[k], which has rows of `x_strides[k]`
//             units, and starts at `x_offsets[k]` of each.
// Launch      grid ceil(outer * width / 256), block 256, no shared memory.
// Traffic     reads each unit once, writes it once; overwrites y.
// Takes       outer * width < 2^32.
// Registers <= 32
struct CopyParams {
    void *y;
    const void *x[4];  // null for zeros
    unsigned outer;
    unsigned width;
    unsigned y_stride;
    unsigned y_offset;
    unsigned ends[4];
    unsigned x_strides[4];
    unsigned x_offsets[4];
};

template <typename U> static __device__ __forceinline__ void copy(const CopyParams &p) {
    const unsigned long long flat = blockIdx.x * 256ull + threadIdx.x;
    if (flat >= (unsigned long long)p.outer * p.width) return;
    const unsigned row = (unsigned)flat / p.width, at = (unsigned)flat - row * p.width;
    const void *x = p.x[0];
    unsigned long long from = (unsigned long long)row * p.x_strides[0] + p.x_offsets[0] + at;
#pragma unroll
    for (int k = 1; k < 4; ++k) {
        if (at >= p.ends[k - 1]) {
            x = p.x[k];
            from = (unsigned long long)row * p.x_strides[k] + p.x_offsets[k] + (at - p.ends[k - 1]);
        }
    }
    const U zero = {};
    static_cast<U *>(p.y)[(unsigned long long)row * p.y_stride + p.y_offset + at] = x ? static_cast<const U *>(x)[from] : zero;
}

extern "C" __global__ void __launch_bounds__(256) copy_2(const CopyParams p) { copy<unsigned short>(p); }
extern "C" __global__ void __launch_bounds__(256) copy_4(const CopyParams p) { copy<unsigned>(p); }
extern "C" __global__ void __launch_bounds__(256) copy_8(const CopyParams p) { copy<uint2>(p); }
extern "C" __global__ void __launch_bounds__(256) copy_16(const CopyParams p) { copy<uint4>(p); }
