//! What a launch is asked for, how it is run, and what comes back.

use crate::check::{Checks, Fault};
use crate::counters::LaunchCounters;
use crate::memory::OutOfMemory;

/// One launch.
#[derive(Clone, Debug)]
pub struct LaunchConfig<'a> {
    /// The entry's name.
    pub kernel: &'a str,
    /// `gridDim`.
    pub grid: [u32; 3],
    /// `blockDim`.
    pub block: [u32; 3],
    /// Dynamic shared memory in bytes.
    pub dynamic_shared_bytes: u32,
    /// The parameter buffer, laid out as [`crate::ir::Kernel::parameters`] says.
    pub params: &'a [u8],
    /// All blocks must be resident at once (`cuLaunchCooperativeKernel`).
    pub cooperative: bool,
}

/// How a launch is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which checkers watch.
    pub checks: Checks,
    /// Seed of the adversarial schedule.
    pub seed: u64,
    /// Worker threads; 0 takes one per core.
    pub threads: usize,
    /// Whether to count.
    pub counters: bool,
    /// Stops a launch after so many warp instructions per block (a watchdog); 0 is no limit.
    pub max_warp_instructions_per_block: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            checks: Checks::ALL,
            seed: 0,
            threads: 0,
            counters: false,
            max_warp_instructions_per_block: 0,
        }
    }
}

/// What a launch that ended well reports.
#[derive(Clone, Debug, Default)]
pub struct LaunchReport {
    /// Counters, when asked for.
    pub counters: Option<LaunchCounters>,
}

/// A launch that the device refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No such entry in the module.
    #[error("module has no kernel `{0}`")]
    NoSuchKernel(String),
    /// A zero or too large `gridDim`.
    #[error("grid {grid:?} is outside 1..={limit:?}")]
    Grid {
        /// What was asked for.
        grid: [u32; 3],
        /// Largest per axis.
        limit: [u32; 3],
    },
    /// A zero or too large `blockDim`.
    #[error("block {block:?} is outside 1..={limit:?} or has more than {threads} threads")]
    Block {
        /// What was asked for.
        block: [u32; 3],
        /// Largest per axis.
        limit: [u32; 3],
        /// Largest number of threads (1024, or the kernel's `.maxntid`).
        threads: u32,
    },
    /// `.reqntid` says otherwise.
    #[error("block {block:?} is not the kernel's required {required:?}")]
    RequiredBlock {
        /// What was asked for.
        block: [u32; 3],
        /// The kernel's `.reqntid`.
        required: [u32; 3],
    },
    /// Too much shared memory.
    #[error("{bytes} bytes of shared memory (static + dynamic) are more than {limit}")]
    Shared {
        /// Static and dynamic bytes.
        bytes: u64,
        /// Largest.
        limit: u32,
    },
    /// The parameter buffer has the wrong length.
    #[error("{found} bytes of parameters, the kernel takes {expected}")]
    Parameters {
        /// What the kernel takes.
        expected: u32,
        /// What was given.
        found: usize,
    },
    /// Too many threads for the kernel's registers.
    #[error("{threads} threads of {registers} registers are more than {limit} registers")]
    Registers {
        /// Threads per block.
        threads: u32,
        /// Registers per thread.
        registers: u32,
        /// Registers per multiprocessor.
        limit: u32,
    },
    /// No memory is left for the barrier of a cooperative grid.
    #[error("no room for the barrier of a cooperative grid: {0}")]
    Workspace(OutOfMemory),
    /// A cooperative launch with more blocks than can be resident.
    #[error("a cooperative launch of {blocks} blocks, only {limit} can be resident")]
    Cooperative {
        /// Blocks of the grid.
        blocks: u64,
        /// Resident at once.
        limit: u64,
    },
}

/// Why a launch failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LaunchError {
    /// The configuration was refused; nothing ran.
    #[error("launch of the kernel refused: {0}")]
    Config(#[from] ConfigError),
    /// A checker stopped the launch.
    #[error("{0}")]
    Fault(Box<Fault>),
}
