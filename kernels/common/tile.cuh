// Shared-memory tiles of 16-bit elements whose rows are chunks of 16 bytes, stored so that eight neighbouring rows of one
// chunk column lie in different banks: what ldmatrix reads and cp.async writes then takes one wavefront per 128 bytes.
#pragma once

// A tile with rows of CHUNKS chunks.
template <int CHUNKS> struct Tile {
    static_assert(CHUNKS == 4 || CHUNKS % 8 == 0 || CHUNKS % 4 == 2, "a swizzle is known for it");
    static constexpr int ROW_BYTES = CHUNKS * 16;

    // What the chunk number is XORed with. Rows of 64 bytes cover half the banks, so pairs of rows share a value; rows
    // that end a quarter of the banks further on than they start only meet every fourth row.
    static __device__ __forceinline__ int swizzle(int row) {
        return CHUNKS == 4 ? row >> 1 & 3 : CHUNKS % 8 == 0 ? row & 7 : row >> 2 & 1;
    }

    // Byte at which a chunk starts.
    static __device__ __forceinline__ unsigned at(int row, int chunk) {
        return row * ROW_BYTES + ((chunk ^ swizzle(row)) << 4);
    }
};
