// Counts threads.
extern "C" __global__ void kernel(int* counter) {
#ifdef BUG  // a read and a write that another thread can come between
    *counter += 1;
#else
    atomicAdd(counter, 1);
#endif
}
