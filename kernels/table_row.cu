// y = `repeat` copies of row clamp(counter, 0, rows - 1) of a table of 4-byte elements, which are only moved.
//
// Shapes      table [rows, width], counter: one int, y [repeat, width], in units of 4 or 16 bytes.
// Launch      grid ceil(repeat * width / 256), block 256, no shared memory.
// Traffic     reads the row once from DRAM, writes y once; overwrites y.
// Takes       repeat * width < 2^32.
// Registers <= 24
struct TableRowParams {
    const void *table;
    const int *counter;
    void *y;
    unsigned rows;
    unsigned width;   // units of a row
    unsigned repeat;  // copies
};

template <typename U> static __device__ __forceinline__ void table_row(const TableRowParams &p) {
    const unsigned long long at = blockIdx.x * 256ull + threadIdx.x;
    if (at >= (unsigned long long)p.repeat * p.width) return;
    const unsigned row = min((unsigned)max(*p.counter, 0), p.rows - 1);
    const U *from = static_cast<const U *>(p.table) + (unsigned long long)row * p.width;
    static_cast<U *>(p.y)[at] = from[(unsigned)at % p.width];
}

extern "C" __global__ void __launch_bounds__(256) table_row_4(const TableRowParams p) { table_row<unsigned>(p); }
extern "C" __global__ void __launch_bounds__(256) table_row_16(const TableRowParams p) { table_row<uint4>(p); }
