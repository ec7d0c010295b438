//! Launches: blocks, warps, divergence, barriers and their schedule.

mod access;
mod atomic;
mod block;
mod builtin;
mod collective;
mod launch;
mod local;
mod matrix;
mod run;
mod trouble;
mod warp;

use std::sync::Arc;

use crate::check::{Checks, Fault};
use crate::counters::LaunchCounters;
use crate::ir::{GlobalSpace, Module};
use crate::memory::{AllocationKind, CODE_WINDOW, DeviceMemory, OutOfMemory};

/// Limits of the emulated device (compute capability 8.6).
pub mod limits {
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
}

/// Where a module's variables are placed in one device's memory. Dropping it frees nothing: call
/// [`Instance::unload`].
pub struct Instance {
    module: Arc<Module>,
    addresses: Vec<u64>,
}

impl Instance {
    /// Places variables and constants and resolves the addresses in their initialisers.
    ///
    /// # Errors
    /// When the variables don't fit.
    pub fn new(module: &Arc<Module>, memory: &DeviceMemory) -> Result<Instance, OutOfMemory> {
        let mut addresses: Vec<u64> = Vec::new();
        if module.uses_heap() {
            memory.make_heap()?;
        }
        for g in module.globals() {
            let kind = match g.space {
                GlobalSpace::Global => AllocationKind::Global,
                GlobalSpace::Const => AllocationKind::Const,
            };
            match memory.alloc_kind(g.size, &g.name, kind) {
                Ok(a) => addresses.push(a),
                Err(e) => {
                    Instance {
                        module: module.clone(),
                        addresses,
                    }
                    .unload(memory);
                    return Err(e);
                }
            }
        }
        let instance = Instance {
            module: module.clone(),
            addresses,
        };
        for (g, address) in module.globals().iter().zip(&instance.addresses) {
            let mut bytes = g.bytes.clone();
            bytes.resize(g.size as usize, 0);
            for r in &g.relocations {
                let value = instance.symbol(&r.symbol).wrapping_add(r.addend as u64) >> r.shift;
                let (at, width) = (r.offset as usize, r.width.min(8) as usize);
                if let Some(field) = bytes.get_mut(at..at + width) {
                    field.copy_from_slice(&value.to_le_bytes()[..width]);
                }
            }
            // The allocation was made for exactly these bytes.
            let _ = memory.write(*address, &bytes);
        }
        Ok(instance)
    }

    /// The address of a variable or function; 0 for a name that the module doesn't define, which
    /// compiling has excluded.
    fn symbol(&self, name: &str) -> u64 {
        if let Some(at) = self.module.globals().iter().position(|g| g.name == name) {
            return self.addresses[at];
        }
        self.module
            .function_index(name)
            .map_or(0, |i| CODE_WINDOW + 16 * u64::from(i))
    }

    /// The module.
    pub fn module(&self) -> &Arc<Module> {
        &self.module
    }

    /// Address and size in bytes of a module variable.
    pub fn global(&self, name: &str) -> Option<(u64, u64)> {
        let at = self.module.globals().iter().position(|g| g.name == name)?;
        Some((*self.addresses.get(at)?, self.module.globals()[at].size))
    }

    /// Frees the variables.
    pub fn unload(self, memory: &DeviceMemory) {
        for address in self.addresses {
            // A variable that is already gone was freed by the host program: nothing is left to do.
            let _ = memory.free(address);
        }
    }
}

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

/// Runs a kernel to its end.
///
/// # Errors
/// [`LaunchError::Config`] for a launch that the device refuses, [`LaunchError::Fault`] for the
/// first finding of a checker.
pub fn launch(
    memory: &DeviceMemory,
    instance: &Instance,
    config: &LaunchConfig<'_>,
    options: &Options,
) -> Result<LaunchReport, LaunchError> {
    launch::run(memory, instance, config, options)
}

/// Blocks of a kernel that fit on one multiprocessor at once (`cuOccupancyMaxActiveBlocksPerMultiprocessor`).
pub fn blocks_per_sm(
    kernel: &crate::ir::Kernel,
    block_threads: u32,
    dynamic_shared_bytes: u32,
) -> u32 {
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
