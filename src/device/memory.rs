//! Memory that a plan takes, and what the machine has.

use std::fmt;

/// Memory that a plan takes on this device, known before anything is allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryReport {
    /// Activations and workspaces.
    pub arena_bytes: usize,
    /// Weights, in packed and plain form as kernels read them.
    pub parameter_bytes: usize,
    /// Inputs, state and constants.
    pub buffer_bytes: usize,
}

impl MemoryReport {
    /// All of it.
    pub fn total_bytes(&self) -> usize {
        self.arena_bytes + self.parameter_bytes + self.buffer_bytes
    }
}

impl std::ops::Add for MemoryReport {
    type Output = Self;

    /// The memory of two plans that are loaded at the same time.
    fn add(self, other: Self) -> Self {
        Self {
            arena_bytes: self.arena_bytes + other.arena_bytes,
            parameter_bytes: self.parameter_bytes + other.parameter_bytes,
            buffer_bytes: self.buffer_bytes + other.buffer_bytes,
        }
    }
}

impl fmt::Display for MemoryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: usize| bytes as f64 / (1 << 20) as f64;
        write!(
            f,
            "{:.1} MiB (weights {:.1}, activations {:.1}, inputs and state {:.1})",
            mib(self.total_bytes()),
            mib(self.parameter_bytes),
            mib(self.arena_bytes),
            mib(self.buffer_bytes)
        )
    }
}

/// Bytes that processes can still allocate without swapping, as the kernel estimates them;
/// `None` where `/proc/meminfo` does not tell.
pub fn available_memory_bytes() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
