//! The device's address space: allocations, their bytes, and which bytes were ever written.
//!
//! A device address is the host address of the byte in one large reserved mapping, so managed and
//! pinned memory need no translation and only touched pages exist. Freed ranges are not handed out
//! again while there is fresh address space, so that a use after free is found and named.

mod arena;
mod heap;
mod mapping;

pub(crate) use arena::GlobalShadow;
pub use arena::{AccessError, Allocation, AllocationKind, DeviceMemory, OutOfMemory, Snapshot};
pub(crate) use heap::{BadFree, Heap, Piece};

/// Generic addresses of shared memory: this window's base plus the shared offset.
pub const SHARED_WINDOW: u64 = 0x10_0000_0000;
/// Generic addresses of local memory (every thread sees its own at the same addresses).
pub const LOCAL_WINDOW: u64 = 0x11_0000_0000;
/// Generic addresses of kernel parameters.
pub const PARAM_WINDOW: u64 = 0x12_0000_0000;
/// Size of each of the windows above.
pub const WINDOW_BYTES: u64 = 1 << 28;
/// Addresses of functions, as `mov` yields them: this base plus 16 times the function's index.
pub const CODE_WINDOW: u64 = 0x13_0000_0000;
