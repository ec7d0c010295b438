//! Device allocations, host memory that the driver knows, memory pools, and the memory that graphs own.

use super::super::abi::{DevicePtr, Handle};
use crate::memory::DeviceMemory;

/// What a device allocation was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `cuMemAlloc`.
    Plain,
    /// `cuMemAllocAsync`, from this pool.
    Pooled(Handle),
    /// A `__device__` or `__constant__` variable of this module.
    Global(Handle),
    /// A graph's allocation node.
    Graph,
    /// `cuMemAllocManaged`.
    Managed,
}

/// A device allocation as the driver's calls see it.
#[derive(Clone, Copy, Debug)]
pub struct DeviceAllocation {
    /// Its size.
    pub bytes: usize,
    /// The context that it belongs to.
    pub ctx: Handle,
    /// What it was made for.
    pub purpose: Purpose,
}

/// Host memory that the device can copy from and to while the host goes on.
#[derive(Clone, Copy, Debug)]
pub struct HostRange {
    /// Its size.
    pub bytes: usize,
    /// The context that it belongs to.
    pub ctx: Handle,
    /// Flags of the call that made or registered it.
    pub flags: u32,
    /// Made by `cuMemHostAlloc` (else registered).
    pub allocated: bool,
}

/// A memory pool: its attributes and what is in use from it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pool {
    /// `CU_MEMPOOL_ATTR_REUSE_*`: accepted and reported back; the emulator never reuses memory early.
    pub reuse: [u32; 3],
    /// `CU_MEMPOOL_ATTR_RELEASE_THRESHOLD`: accepted and reported back.
    pub release_threshold: u64,
    /// Bytes in use.
    pub used: u64,
    /// The most bytes that were in use since the last reset.
    pub used_high: u64,
}

/// Memory of a graph's allocation node; it lives as long as a graph or an instance of one that has the node.
pub struct GraphMemory {
    /// Where it lies.
    pub address: DevicePtr,
    /// Its size.
    pub bytes: usize,
    /// The memory that it is a part of.
    pub device: &'static DeviceMemory,
}

impl Drop for GraphMemory {
    fn drop(&mut self) {
        // The tables may be locked by whoever drops the graph; their entry goes with the next sweep.
        let _ = self.device.free(self.address);
    }
}
