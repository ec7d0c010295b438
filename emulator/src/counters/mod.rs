//! What a launch did, counted: the input of a roofline.

pub(crate) mod tally;

use std::collections::BTreeMap;

use serde::Serialize;

/// Counters of one launch, one line, or one instruction. All are sums over warps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Warp instructions issued.
    pub warp_instructions: u64,
    /// Lanes that took part: at most 32 per warp instruction.
    pub lane_instructions: u64,
    /// Global memory load requests (warp instructions).
    pub global_load_requests: u64,
    /// Global memory store requests (warp instructions).
    pub global_store_requests: u64,
    /// 32-byte sectors that the loads touched.
    pub global_load_sectors: u64,
    /// Sectors that the same bytes would need if they were contiguous.
    pub global_load_sectors_ideal: u64,
    /// 32-byte sectors that the stores touched.
    pub global_store_sectors: u64,
    /// Sectors that the same bytes would need if they were contiguous.
    pub global_store_sectors_ideal: u64,
    /// Bytes asked for by the lanes of global loads.
    pub global_load_bytes: u64,
    /// Bytes written by the lanes of global stores.
    pub global_store_bytes: u64,
    /// Bytes read from DRAM in the model of a 6 MB cache.
    pub dram_read_bytes: u64,
    /// Bytes written to DRAM in the same model.
    pub dram_write_bytes: u64,
    /// Shared memory requests (warp instructions).
    pub shared_requests: u64,
    /// Wavefronts (passes of 32 banks) that the requests took.
    pub shared_wavefronts: u64,
    /// Wavefronts that the same bytes need without a bank conflict.
    pub shared_wavefronts_ideal: u64,
    /// Bytes moved between shared memory and lanes.
    pub shared_bytes: u64,
    /// Local memory requests (warp instructions): spills and indexed arrays.
    pub local_requests: u64,
    /// Atomic operations and reductions, counted per lane.
    pub atomics: u64,
    /// Block barriers that warps arrived at.
    pub barriers: u64,
    /// Multiply-adds of matrix instructions.
    pub mma_fma: u64,
}

impl Counts {
    /// Adds another count to this one.
    pub fn add(&mut self, other: &Counts) {
        self.warp_instructions += other.warp_instructions;
        self.lane_instructions += other.lane_instructions;
        self.global_load_requests += other.global_load_requests;
        self.global_store_requests += other.global_store_requests;
        self.global_load_sectors += other.global_load_sectors;
        self.global_load_sectors_ideal += other.global_load_sectors_ideal;
        self.global_store_sectors += other.global_store_sectors;
        self.global_store_sectors_ideal += other.global_store_sectors_ideal;
        self.global_load_bytes += other.global_load_bytes;
        self.global_store_bytes += other.global_store_bytes;
        self.dram_read_bytes += other.dram_read_bytes;
        self.dram_write_bytes += other.dram_write_bytes;
        self.shared_requests += other.shared_requests;
        self.shared_wavefronts += other.shared_wavefronts;
        self.shared_wavefronts_ideal += other.shared_wavefronts_ideal;
        self.shared_bytes += other.shared_bytes;
        self.local_requests += other.local_requests;
        self.atomics += other.atomics;
        self.barriers += other.barriers;
        self.mma_fma += other.mma_fma;
    }

    /// Mean share of active lanes, 0 to 1.
    pub fn lane_efficiency(&self) -> f64 {
        if self.warp_instructions == 0 {
            0.0
        } else {
            self.lane_instructions as f64 / (32 * self.warp_instructions) as f64
        }
    }
}

/// The counters of one launch; serialises to JSON with serde.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LaunchCounters {
    /// The kernel.
    pub kernel: String,
    /// Blocks run.
    pub blocks: u64,
    /// Threads per block.
    pub threads_per_block: u32,
    /// Sums over the launch.
    pub total: Counts,
    /// Warp instructions by class (`integer`, `f32`, `f64`, `half`, `special`, `convert`, `move`,
    /// `control`, `load_global`, …).
    pub classes: BTreeMap<String, u64>,
    /// Matrix instructions by shape and types, e.g. `mma.m16n8k16.f32.f16.f16.f32`.
    pub mma: BTreeMap<String, u64>,
    /// Per PTX line.
    pub ptx_lines: BTreeMap<u32, Counts>,
    /// Per source line (`file:line`), where the PTX has `.loc`.
    pub source_lines: BTreeMap<String, Counts>,
}
