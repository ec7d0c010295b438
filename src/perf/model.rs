//! From what a launch does to the time it takes.
//!
//! A multiprocessor that has `n` of the blocks in turn needs, of each resource, `n` times what a block needs of it; the
//! slowest resource bounds it. What no other block hides comes on top: how a block begins and ends, what its steps wait
//! for, and the eighth of its copies that products do not hide. Of `r` blocks side by side each hides the others', so that
//! an `r`-th remains. DRAM is shared by all: with `x` times the loads in flight that its bandwidth and latency ask for, and
//! in no order, it has work for a share of `1 - exp(-x)` of the time.

use std::fmt;

use super::gpu::{Gpu, SUB_CORES};

/// Threads of a warp.
const WARP: f64 = 32.0;
/// Bytes of a sector.
const SECTOR: f64 = 32.0;
/// Bytes of a wavefront of shared memory.
const WAVEFRONT: f64 = 128.0;
/// Registers are given out to a warp in units of this many.
const REGISTER_UNIT: f64 = 256.0;
/// What the runtime keeps of shared memory for each block (CUDA C++ Programming Guide, compute capability 8.x).
const RESERVED_SHARED: f64 = 1024.0;
/// Share of the copies of a pipelined main loop that its products do not hide: the first and last of a pipeline of eight
/// steps or so; of the tile choice, where it was never fitted.
const UNHIDDEN_COPIES: f64 = 0.125;
/// Latencies of DRAM that a block waits for before its first product and behind its last one, beside some hundreds of
/// clocks of instructions.
const ENDS_LATENCIES: f64 = 2.0;
/// Instructions of prologue and epilogue, in clocks; with two latencies the 2500 clocks of the tile choice less what L2
/// spares. Estimate.
const ENDS_CLOCKS: f64 = 1400.0;

/// What a kernel does, as far as the model asks: totals over the grid.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KernelWork {
    /// Blocks that compute.
    pub blocks: f64,
    /// Threads of a block.
    pub threads: f64,
    /// Registers of a thread.
    pub registers: f64,
    /// Shared memory of a block, in bytes.
    pub shared_bytes: f64,
    /// Warp instructions `mma.m16n8k16` with f32 sums.
    pub mma: f64,
    /// The same with f16 sums.
    pub mma_half: f64,
    /// Warp instructions of f32 multiply-adds outside of tensor cores.
    pub fma: f64,
    /// Warp instructions of all kinds; 0 if unknown.
    pub instructions: f64,
    /// Passes of shared memory, 128 bytes each.
    pub shared_wavefronts: f64,
    /// Lines of 128 bytes that loads look up in the L1 cache, one a clock; 0 for copies that pass it by.
    pub l1_lines: f64,
    /// Bytes that the L1 cache returns to registers, those of a broadcast once per lane.
    pub l1_bytes: f64,
    /// Sectors of 32 bytes between multiprocessors and L2, loaded or stored.
    pub sectors: f64,
    /// Bytes between L2 and DRAM.
    pub dram_bytes: f64,
    /// Bytes that a thread has on their way from memory at once.
    pub in_flight_bytes: f64,
    /// Whether the main loop is a pipeline of copies and products.
    pub pipelined: bool,
    /// Clocks of a chain of a block that nothing else of the block hides, beside its beginning and end.
    pub chain_clocks: f64,
}

/// A resource that can bound a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// Tensor units, with f32 sums.
    Tensor,
    /// Tensor units, with f16 sums.
    TensorHalf,
    /// Multiply-adds outside of tensor cores.
    Fma,
    /// Issue of instructions.
    Issue,
    /// Shared memory.
    Shared,
    /// The L1 cache.
    L1,
    /// The L2 cache.
    L2,
    /// Device memory.
    Dram,
    /// What a block waits for and nothing hides.
    Latency,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tensor => "tensor, f32 sums",
            Self::TensorHalf => "tensor, f16 sums",
            Self::Fma => "FMA",
            Self::Issue => "issue",
            Self::Shared => "shared memory",
            Self::L1 => "L1",
            Self::L2 => "L2",
            Self::Dram => "DRAM",
            Self::Latency => "latency",
        })
    }
}

/// What the model says of a launch.
#[derive(Clone, Debug, PartialEq)]
pub struct LaunchPrediction {
    /// From its start to its end.
    pub seconds: f64,
    /// The resource that takes longest.
    pub bound: Bound,
    /// Seconds that it would take less if that resource were free.
    pub saved_seconds: f64,
    /// Seconds of each resource alone.
    pub bounds: Vec<(Bound, f64)>,
    /// Blocks that fit on a multiprocessor at once.
    pub resident: u32,
    /// Blocks that the busiest multiprocessor has, one after another or side by side.
    pub blocks_in_turn: u32,
}

/// Blocks of `work` that a multiprocessor of `gpu` has room for; at least one, since a launch that fits nowhere is refused
/// elsewhere.
fn resident(gpu: &Gpu, work: &KernelWork) -> f64 {
    let warps = (work.threads / WARP).ceil().max(1.0);
    let registers = (work.registers * WARP / REGISTER_UNIT).ceil() * REGISTER_UNIT * warps;
    let limits = [
        gpu.blocks.value,
        gpu.threads.value / (warps * WARP),
        gpu.registers.value / registers.max(1.0),
        gpu.shared_bytes.value / (work.shared_bytes + RESERVED_SHARED),
    ];
    limits.into_iter().fold(f64::MAX, f64::min).floor().max(1.0)
}

/// Predicts a launch of `work` on `gpu`.
pub fn predict(gpu: &Gpu, work: &KernelWork) -> LaunchPrediction {
    let clocks = clocks(gpu, work);
    let (bound, _) = clocks
        .each
        .iter()
        .copied()
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .unwrap_or((Bound::Latency, 0.0));
    let without = without(work, bound);
    let rest = match bound {
        Bound::Latency => clocks.total - clocks.latency(),
        _ => self::clocks(gpu, &without).total,
    };
    let seconds = |clocks: f64| clocks / gpu.clock_hz.value;
    LaunchPrediction {
        seconds: seconds(clocks.total),
        bound,
        saved_seconds: seconds((clocks.total - rest).max(0.0)),
        bounds: clocks
            .each
            .iter()
            .map(|&(bound, clocks)| (bound, seconds(clocks)))
            .collect(),
        resident: clocks.resident as u32,
        blocks_in_turn: clocks.in_turn as u32,
    }
}

/// The work without what burdens a resource.
fn without(work: &KernelWork, bound: Bound) -> KernelWork {
    let mut rest = *work;
    match bound {
        Bound::Tensor => rest.mma = 0.0,
        Bound::TensorHalf => rest.mma_half = 0.0,
        Bound::Fma => rest.fma = 0.0,
        Bound::Issue => rest.instructions = 0.0,
        Bound::Shared => rest.shared_wavefronts = 0.0,
        Bound::L1 => (rest.l1_lines, rest.l1_bytes) = (0.0, 0.0),
        Bound::L2 => rest.sectors = 0.0,
        Bound::Dram => rest.dram_bytes = 0.0,
        Bound::Latency => rest.chain_clocks = 0.0,
    }
    rest
}

struct Clocks {
    total: f64,
    each: Vec<(Bound, f64)>,
    resident: f64,
    in_turn: f64,
}

impl Clocks {
    fn latency(&self) -> f64 {
        let found = self.each.iter().find(|(bound, _)| *bound == Bound::Latency);
        found.map_or(0.0, |(_, clocks)| *clocks)
    }
}

fn clocks(gpu: &Gpu, work: &KernelWork) -> Clocks {
    let resident = resident(gpu, work);
    let multiprocessors = gpu.multiprocessors.value;
    let blocks = work.blocks.max(1.0);
    let in_turn = (blocks / multiprocessors).ceil();
    let active = blocks.min(multiprocessors);
    // Of a resource that each multiprocessor has, the busiest one has its blocks' share.
    let own = |count: f64, per_clock: f64| count / blocks * in_turn / per_clock;
    let l2_rate =
        (gpu.l2_bytes_per_clock.value * multiprocessors / active).min(gpu.l1_bytes_per_clock.value);
    let l2 = own(work.sectors * SECTOR, l2_rate);
    let at_once = blocks.min(resident * multiprocessors);
    let in_flight = at_once * work.threads * work.in_flight_bytes;
    let dram_rate = gpu.dram_reached_bytes_per_second.value / gpu.clock_hz.value;
    let load = in_flight / (dram_rate * gpu.dram_latency_clocks.value);
    let dram = match work.dram_bytes > 0.0 {
        true => work.dram_bytes / (dram_rate * (1.0 - (-load).exp())),
        false => 0.0,
    };
    let throughput = [
        (
            Bound::Tensor,
            own(work.mma * gpu.mma_clocks.value, SUB_CORES),
        ),
        (
            Bound::TensorHalf,
            own(work.mma_half * gpu.mma_half_clocks.value, SUB_CORES),
        ),
        (Bound::Fma, own(work.fma, gpu.fma_per_clock.value)),
        (
            Bound::Issue,
            own(work.instructions, gpu.issue_per_clock.value),
        ),
        (
            Bound::Shared,
            own(
                work.shared_wavefronts * WAVEFRONT,
                gpu.shared_bytes_per_clock.value,
            ),
        ),
        (
            Bound::L1,
            own(work.l1_lines, 1.0).max(own(work.l1_bytes, gpu.l1_bytes_per_clock.value)),
        ),
        (Bound::L2, l2),
        (Bound::Dram, dram),
    ];
    let busy = throughput
        .iter()
        .map(|(_, clocks)| *clocks)
        .fold(0.0, f64::max);
    let (end_clocks, unhidden) = match work.pipelined {
        true => (ENDS_CLOCKS, UNHIDDEN_COPIES * l2),
        false => (0.0, 0.0),
    };
    let alone = ENDS_LATENCIES * gpu.dram_latency_clocks.value + end_clocks + work.chain_clocks;
    let rounds = (in_turn / resident).ceil();
    let hidden = resident.min(in_turn);
    let latency = (rounds / hidden).max(1.0) * alone + unhidden;
    Clocks {
        total: (busy + latency).max(rounds * alone),
        each: throughput
            .into_iter()
            .chain([(Bound::Latency, latency)])
            .collect(),
        resident,
        in_turn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work() -> KernelWork {
        KernelWork {
            blocks: 1000.0,
            threads: 256.0,
            registers: 64.0,
            shared_bytes: 16384.0,
            mma: 4e6,
            mma_half: 1e5,
            fma: 1e6,
            instructions: 6e6,
            shared_wavefronts: 3e6,
            l1_lines: 1e5,
            l1_bytes: 1e6,
            sectors: 4e6,
            dram_bytes: 5e7,
            in_flight_bytes: 16.0,
            pipelined: true,
            chain_clocks: 100.0,
        }
    }

    fn gpus() -> impl Iterator<Item = &'static Gpu> {
        Gpu::names().map(|name| Gpu::named(name).expect("a data file"))
    }

    #[test]
    fn more_of_anything_is_never_faster() {
        type Change = fn(&mut KernelWork);
        let changes: [Change; 11] = [
            |w| w.registers = 128.0,
            |w| w.shared_bytes *= 3.0,
            |w| w.mma *= 1.5,
            |w| w.mma_half *= 100.0,
            |w| w.fma *= 20.0,
            |w| w.instructions *= 4.0,
            |w| w.shared_wavefronts *= 4.0,
            |w| w.l1_lines *= 50.0,
            |w| w.sectors *= 3.0,
            |w| w.dram_bytes *= 10.0,
            |w| w.chain_clocks *= 10.0,
        ];
        for gpu in gpus() {
            let before = predict(gpu, &work()).seconds;
            for (index, change) in changes.iter().enumerate() {
                let mut more = work();
                change(&mut more);
                let after = predict(gpu, &more).seconds;
                assert!(
                    after >= before * (1.0 - 1e-6),
                    "{}: change {index}",
                    gpu.name
                );
            }
        }
    }

    #[test]
    fn a_launch_takes_at_least_each_bound_and_saves_at_most_all() {
        for gpu in gpus() {
            let prediction = predict(gpu, &work());
            for (bound, seconds) in &prediction.bounds {
                assert!(prediction.seconds >= *seconds, "{}: {bound}", gpu.name);
            }
            assert!((0.0..=prediction.seconds).contains(&prediction.saved_seconds));
        }
    }

    #[test]
    fn a_block_more_than_a_wave_costs_another_one() {
        let gpu = Gpu::named("rtx3090").expect("a data file");
        let per_block = |blocks: f64| {
            // One block at a time, so that none hides what another waits for.
            predict(
                gpu,
                &KernelWork {
                    blocks,
                    shared_bytes: 90_000.0,
                    mma: 4000.0 * blocks,
                    pipelined: true,
                    ..KernelWork::default()
                },
            )
        };
        let (full, more, twice) = (per_block(82.0), per_block(83.0), per_block(164.0));
        assert_eq!((full.blocks_in_turn, more.blocks_in_turn), (1, 2));
        assert!((more.seconds / full.seconds - 2.0).abs() < 1e-9);
        assert_eq!(more.seconds, twice.seconds);
    }

    #[test]
    fn few_threads_do_not_reach_the_bandwidth() {
        let gpu = Gpu::named("rtx3090").expect("a data file");
        let copy = |blocks: f64| KernelWork {
            blocks,
            threads: 128.0,
            registers: 32.0,
            dram_bytes: 1e9,
            sectors: 1e9 / SECTOR,
            in_flight_bytes: 16.0,
            ..KernelWork::default()
        };
        let all = predict(gpu, &copy(1e5));
        assert_eq!(all.bound, Bound::Dram);
        let rate = 1e9 / all.seconds;
        assert!((0.9..1.0).contains(&(rate / gpu.dram_reached_bytes_per_second.value)));
        assert!(predict(gpu, &copy(41.0)).seconds > 3.0 * all.seconds);
    }
}
