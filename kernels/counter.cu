// counter += 1; with a gate, only if the gate is not zero.
//
// Shapes      counter: one int, updated in place; gate: one float, or null.
// Launch      one block of one thread.
// Registers <= 16
struct IncrementParams {
    int *counter;
    const float *gate;  // or null
};

extern "C" __global__ void increment(const IncrementParams p) {
    if (p.gate == nullptr || *p.gate != 0.0f) *p.counter = (int)((unsigned)*p.counter + 1u);
}
