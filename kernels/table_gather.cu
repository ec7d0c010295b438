// y_i[n, c] = table[clamp(counter, 0, rows - 1), label[n] + 1, first_i + c]: looks up in the conditioning table what each
// block of the network adds for step and label.
//
// Shapes      table [rows, entries, width] f32; counter i32[1]; label i32[samples], -1 for none; y_i [samples, width_i] of
//             f32 or T (-DT). `results` holds four 64-bit words for each result: address, first column, width, 1 for T.
// Launch      grid (ceil(widest / 256), results, samples), block 256, no shared memory.
// Traffic     reads and writes each column once. A label outside the table gives NaN. Overwrites.
// Registers <= 24
#include "common/types.cuh"

struct TableGatherParams {
    const float *table;
    const int *counter;
    const int *label;
    const unsigned long long *results;
    int rows;     // steps
    int entries;  // labels and one for none
    int width;    // columns of all results together
    int samples;
};

extern "C" __global__ void __launch_bounds__(256) table_gather(const TableGatherParams p) {
    const int n = blockIdx.z;
    const unsigned long long *result = p.results + 4 * blockIdx.y;
    const int c = blockIdx.x * 256 + threadIdx.x;
    const int width = (int)result[2];
    if (c >= width) return;
    const int row = min(max(*p.counter, 0), p.rows - 1);
    const int entry = p.label[n] + 1;
    float v = __int_as_float(0x7fc00000);
    if (entry >= 0 && entry < p.entries) {
        v = p.table[((long long)row * p.entries + entry) * p.width + (int)result[1] + c];
    }
    const long long at = (long long)n * width + c;
    if (result[3])
        reinterpret_cast<T *>(result[0])[at] = from_float<T>(v);
    else
        reinterpret_cast<float *>(result[0])[at] = v;
}
