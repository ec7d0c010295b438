// Four floats at once from an offset.
extern "C" __global__ void kernel(const float* in, float4* out, int offset) {
#ifdef BUG  // the offset counts floats, and one float is not 16 bytes
    out[threadIdx.x] = *(const float4*)(in + offset + 4 * threadIdx.x);
#else
    const float* from = in + offset + 4 * threadIdx.x;
    out[threadIdx.x] = make_float4(from[0], from[1], from[2], from[3]);
#endif
}
