//! Occupancy: how many blocks of a kernel are resident at once.

use crate::ir::Kernel;
use crate::limits;

/// Blocks of a kernel that fit on one multiprocessor at once (`cuOccupancyMaxActiveBlocksPerMultiprocessor`).
pub fn blocks_per_sm(kernel: &Kernel, block_threads: u32, dynamic_shared_bytes: u32) -> u32 {
    if block_threads == 0 || block_threads > limits::THREADS_PER_BLOCK {
        return 0;
    }
    let warps = block_threads.div_ceil(32);
    let by_threads = (limits::THREADS_PER_SM / 32) / warps;
    let registers_per_warp = (kernel.registers.max(1) * 32).div_ceil(256) * 256;
    // Warps are allotted to the four sub-cores, each with a quarter of the registers.
    let warps_by_registers = (limits::REGISTERS_PER_SM / 4 / registers_per_warp) * 4;
    let by_registers = warps_by_registers / warps;
    let shared = kernel
        .static_shared_bytes
        .saturating_add(dynamic_shared_bytes);
    if shared > limits::SHARED_PER_BLOCK {
        return 0;
    }
    let by_shared =
        limits::SHARED_PER_SM / (shared.div_ceil(128) * 128 + limits::RESERVED_SHARED_PER_BLOCK);
    by_threads
        .min(by_registers)
        .min(by_shared)
        .min(limits::BLOCKS_PER_SM)
}
