// Shared-memory tiles of 16-bit elements whose rows are chunks of 16 bytes, stored so that eight neighbouring rows of one
// chunk column lie in different banks: what ldmatrix reads and cp.async writes then takes one wavefront per 128 bytes.
#pragma once

// A tile with rows of CHUNKS chunks.
template <int CHUNKS> struct Tile {
    static_assert(CHUNKS >= 4 && (CHUNKS & (CHUNKS - 1)) == 0, "rows are 64, 128, 256 ... bytes");
    static constexpr int ROW_BYTES = CHUNKS * 16;

    // What the chunk number is XORed with. A row of 64 bytes covers half the banks, so pairs of rows share a value.
    static __device__ __forceinline__ int swizzle(int row) { return CHUNKS == 4 ? row >> 1 & 3 : row & 7; }

    // Byte at which a chunk starts.
    static __device__ __forceinline__ unsigned at(int row, int chunk) {
        return row * ROW_BYTES + ((chunk ^ swizzle(row)) << 4);
    }
};
