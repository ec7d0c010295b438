// A ballot in a branch.
extern "C" __global__ void kernel(const int* in, unsigned* out) {
    int lane = threadIdx.x;
    unsigned votes = 0;
#ifdef BUG  // all lanes are named, some took the other way
    if (in[lane] > 0) votes = __ballot_sync(0xffffffffu, lane & 1);
#else
    unsigned here = __ballot_sync(0xffffffffu, in[lane] > 0);
    if (in[lane] > 0) votes = __ballot_sync(here, lane & 1);
#endif
    out[lane] = votes;
}
