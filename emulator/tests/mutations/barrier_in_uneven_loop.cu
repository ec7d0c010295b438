// A prefix sum whose number of rounds differs between warps.
extern "C" __global__ void kernel(const int* in, int* out) {
    __shared__ int sum[64];
    int t = threadIdx.x;
    sum[t] = in[t];
    __syncthreads();
#ifdef BUG  // threads below the distance leave the loop, and with it the barriers
    for (int distance = 1; distance <= t; distance *= 2) {
        int left = sum[t - distance];
#else
    for (int distance = 1; distance < 64; distance *= 2) {
        int left = distance <= t ? sum[t - distance] : 0;
#endif
        __syncthreads();
        sum[t] += left;
        __syncthreads();
    }
    out[t] = sum[t];
}
