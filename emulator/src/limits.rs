//! Limits and sizes of the emulated device (GeForce RTX 3090, compute capability 8.6).

/// Global memory in bytes.
pub const TOTAL_MEMORY: u64 = 24 << 30;
/// Global memory that the driver itself holds on a real card with nothing allocated, in bytes.
pub const DRIVER_RESERVE: u64 = 384 << 20;
/// Constant memory of a module in bytes.
pub const CONSTANT_MEMORY: u32 = 64 << 10;
/// Threads per block.
pub const THREADS_PER_BLOCK: u32 = 1024;
/// `blockDim` per axis.
pub const BLOCK_DIM: [u32; 3] = [1024, 1024, 64];
/// `gridDim` per axis.
pub const GRID_DIM: [u32; 3] = [0x7fff_ffff, 65535, 65535];
/// Shared memory per block, static and dynamic, after opting in.
pub const SHARED_PER_BLOCK: u32 = 99 * 1024;
/// Static shared memory per block.
pub const STATIC_SHARED_PER_BLOCK: u32 = 48 * 1024;
/// Shared memory per multiprocessor.
pub const SHARED_PER_SM: u32 = 100 * 1024;
/// Reserved shared memory per resident block.
pub const RESERVED_SHARED_PER_BLOCK: u32 = 1024;
/// Multiprocessors.
pub const SMS: u32 = 82;
/// Resident threads per multiprocessor.
pub const THREADS_PER_SM: u32 = 1536;
/// Resident blocks per multiprocessor.
pub const BLOCKS_PER_SM: u32 = 16;
/// 32-bit registers per multiprocessor.
pub const REGISTERS_PER_SM: u32 = 65536;
