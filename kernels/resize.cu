// Nearest-neighbour resizing: pixel (i, j) of the result is pixel (floor((i + 1/2) H / h), floor((j + 1/2) W / w)) of the
// image. Upsampling by a factor is a special case. Pixels are only moved, in units of 2 to 16 bytes: the largest that
// divides a pixel.
//
// Shapes      image x [N,H,W,C], result y [N,h,w,C], NHWC, densely packed, aligned to 16 bytes; C in units.
// Launch      grid ceil(N h w C / 256), block 256, no shared memory.
// Traffic     reads the image once (repeated pixels again from L2), writes the result once; overwrites y.
// Takes       below 2^32 elements each; (2 h + 1) H and (2 w + 1) W below 2^32.
// Registers <= 32
struct ResizeParams {
    const void *x;
    void *y;
    unsigned batch;
    unsigned height;          // of the image
    unsigned width;           // of the image
    unsigned resized_height;  // of the result
    unsigned resized_width;   // of the result
    unsigned channels;        // units per pixel
};

static __device__ __forceinline__ unsigned source(unsigned i, unsigned from, unsigned to) {
    return (2 * i + 1) * from / (2 * to);
}

template <typename U> static __device__ __forceinline__ void resize(const ResizeParams &p) {
    const unsigned long long flat = blockIdx.x * 256ull + threadIdx.x;
    if (flat >= (unsigned long long)p.batch * p.resized_height * p.resized_width * p.channels) return;
    const unsigned pixel = (unsigned)flat / p.channels, channel = (unsigned)flat - pixel * p.channels;
    const unsigned line = pixel / p.resized_width, j = pixel - line * p.resized_width;
    const unsigned n = line / p.resized_height, i = line - n * p.resized_height;
    const unsigned row = n * p.height + source(i, p.height, p.resized_height);
    const unsigned from = (row * p.width + source(j, p.width, p.resized_width)) * p.channels + channel;
    static_cast<U *>(p.y)[flat] = static_cast<const U *>(p.x)[from];
}

extern "C" __global__ void __launch_bounds__(256) resize_2(const ResizeParams p) { resize<unsigned short>(p); }
extern "C" __global__ void __launch_bounds__(256) resize_4(const ResizeParams p) { resize<unsigned>(p); }
extern "C" __global__ void __launch_bounds__(256) resize_8(const ResizeParams p) { resize<uint2>(p); }
extern "C" __global__ void __launch_bounds__(256) resize_16(const ResizeParams p) { resize<uint4>(p); }
