// Swizzled shared-memory tiles of 16-bit elements. Rows are made of chunks of 16 bytes, stored so that eight neighbouring
// rows of one chunk column lie in different banks: ldmatrix and cp.async then take one wavefront per 128 bytes.
#pragma once

// A tile with rows of CHUNKS chunks.
template <int CHUNKS> struct Tile {
    static_assert(CHUNKS == 4 || CHUNKS % 8 == 0 || CHUNKS % 4 == 2, "a swizzle is known for it");
    static constexpr int ROW_BYTES = CHUNKS * 16;

    // The chunk number is XORed with this. Rows of 64 bytes cover half of the banks, so pairs of rows share a value. Rows that
    // end a quarter of the banks beyond their start (CHUNKS % 4 == 2) meet the banks of every fourth row only.
    static __device__ __forceinline__ int swizzle(int row) {
        return CHUNKS == 4 ? row >> 1 & 3 : CHUNKS % 8 == 0 ? row & 7 : row >> 2 & 1;
    }

    // The byte at which a chunk starts.
    static __device__ __forceinline__ unsigned at(int row, int chunk) {
        return row * ROW_BYTES + ((chunk ^ swizzle(row)) << 4);
    }
};
