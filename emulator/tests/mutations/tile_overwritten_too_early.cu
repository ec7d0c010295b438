// A tiled product of a row and a matrix column by column.
extern "C" __global__ void kernel(const float* a, const float* b, float* out, int tiles) {
    __shared__ float tile[64];
    float sum = 0.0f;
    for (int k = 0; k < tiles; ++k) {
        tile[threadIdx.x] = a[k * 64 + threadIdx.x];
        __syncthreads();
        for (int i = 0; i < 64; ++i) sum += tile[i] * b[(k * 64 + i) * 64 + threadIdx.x];
#ifndef BUG  // fast warps refill what slow warps still read
        __syncthreads();
#endif
    }
    out[threadIdx.x] = sum;
}
