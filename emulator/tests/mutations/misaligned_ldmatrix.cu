// Loads 8 × 8 matrices from rows of a padded tile.
extern "C" __global__ void kernel(const unsigned* in, unsigned* out) {
#ifdef BUG  // rows of 36 bytes: only every fourth starts at 16
    const int pitch = 9;
#else
    const int pitch = 8;
#endif
    __shared__ __align__(16) unsigned tile[8 * 9];
    if (threadIdx.x < 32) {
        int row = threadIdx.x / 4, column = threadIdx.x % 4;
        tile[row * pitch + column] = in[threadIdx.x];
    }
    __syncthreads();
    unsigned address = (unsigned)__cvta_generic_to_shared(&tile[(threadIdx.x % 8) * pitch]);
    unsigned fragment;
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(fragment) : "r"(address) : "memory");
    out[threadIdx.x] = fragment;
}
