//! What a plan is compiled for: the GPU, and what is asked of its results.

/// What launches depend on beside shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Compute capability, major and minor.
    pub capability: (u32, u32),
    /// Dynamic shared memory that a block may opt into, in bytes.
    pub shared_bytes_per_block: u32,
    /// f16 products may be summed in f16 over short chunks.
    pub fast_accumulate: bool,
    /// The result of one sample may not depend on how many are in the batch, to the bit.
    pub deterministic: bool,
}

impl Target {
    /// NVIDIA GeForce RTX 3090 (GA102), for which the kernels are tuned.
    ///
    /// Source: NVIDIA, "Ampere GA102 GPU Architecture", 2021; CUDA C++ Programming Guide, table of technical
    /// specifications per compute capability.
    pub const RTX_3090: Self = Self {
        multiprocessors: 82,
        capability: (8, 6),
        shared_bytes_per_block: 99 * 1024,
        fast_accumulate: false,
        deterministic: false,
    };
}

/// Workspaces are aligned to this many bytes.
pub const WORKSPACE_ALIGNMENT: usize = 64;
