//! What the warps of a block share: shared memory, barriers, clocks, counts.

use super::launch_state::Launch;
use super::trouble::Trouble;
use crate::check::FaultKind;
use crate::check::race::{Clocks, Gathered, SharedShadow};
use crate::counters::tally::Tally;
use crate::ir::layout;

/// One of a block's sixteen barriers.
#[derive(Default)]
pub(super) struct BarrierState {
    /// Warps that arrived, by bit.
    pub arrived: u32,
    /// Warps that arrived and wait, by bit.
    pub waiting: u32,
    /// For each warp, the lanes that arrived while others of the warp have not.
    pub lanes: [u32; 32],
    /// Threads that take part, if the instruction says how many.
    pub count: Option<u32>,
    /// The instruction that the others wait at: function and index.
    pub place: Option<(u32, u32)>,
    /// Lanes whose predicate holds, and lanes that arrived.
    pub holds: u32,
    pub total: u32,
    pub gathered: Gathered,
}

/// What a finished barrier tells its warps.
pub(super) struct Released {
    pub id: u32,
    pub warps: u32,
    pub holds: u32,
    pub total: u32,
}

/// An `mbarrier` object.
#[derive(Clone, Default)]
pub(super) struct MbarrierState {
    pub expected: u32,
    pub pending: u32,
    pub phase: u64,
    pub gathered: Gathered,
    /// What the completed phases gathered.
    pub done: Gathered,
}

/// The part of a block that its warps share.
pub(super) struct BlockState {
    pub linear: u64,
    pub coordinates: [u32; 3],
    /// Shared memory as words, for its alignment.
    pub shared: Vec<u64>,
    pub shared_bytes: u32,
    pub shadow: SharedShadow,
    pub clocks: Clocks,
    pub barriers: [BarrierState; 16],
    pub released: Vec<Released>,
    pub mbarriers: std::collections::HashMap<u32, MbarrierState>,
    pub tally: Option<Tally>,
    /// Counts what a block does when it waits for other blocks: strong loads, atomics, sleeps.
    pub polls: u32,
    /// Strong writes and atomics that changed something since the last yield.
    pub changes: u64,
    /// Warps that aren't done.
    pub live_warps: u32,
    /// For every warp that is done, [`last_effect`](super::warp::Warp::last_effect).
    pub gone: [Option<u32>; 32],
    pub instructions: u64,
}

impl BlockState {
    pub fn shared_slice(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.shared)[..self.shared_bytes as usize]
    }

    pub fn shared_slice_mut(&mut self) -> &mut [u8] {
        let bytes = self.shared_bytes as usize;
        &mut bytemuck::cast_slice_mut(&mut self.shared)[..bytes]
    }

    /// The fault of warp `at`, which has exited, if it executed something that comes after barrier `id`.
    pub fn went_past(&self, launch: &Launch<'_>, id: usize, at: usize) -> Result<(), Box<Trouble>> {
        let (Some(last), Some((function, pc))) = (self.gone[at], self.barriers[id].place) else {
            return Ok(());
        };
        let f = &launch.functions[function as usize];
        if function != launch.kernel.function || !layout::reaches(f, pc, last) {
            return Ok(());
        }
        let message = format!(
            "barrier {id}: other warps wait, but warp {at} went past it and exited without arriving"
        );
        Err(Box::new(Trouble {
            kind: FaultKind::DivergentBarrier,
            function,
            pc,
            lane: 0,
            address: None,
            allocation: None,
            message,
            early: false,
            elsewhere: false,
        }))
    }

    /// Completes a barrier if all that it waits for have arrived.
    pub fn try_complete(&mut self, id: u32) {
        let b = &mut self.barriers[id as usize];
        if b.arrived == 0 {
            return;
        }
        let complete = match b.count {
            Some(threads) => b.arrived.count_ones() * 32 >= threads,
            None => b.arrived & self.live_warps == self.live_warps,
        };
        if !complete {
            return;
        }
        let b = std::mem::take(b);
        let waiting: Vec<usize> = (0..32).filter(|w| b.waiting >> w & 1 != 0).collect();
        self.clocks
            .release(&waiting, &b.gathered, b.count.is_none());
        self.released.push(Released {
            id,
            warps: b.waiting,
            holds: b.holds,
            total: b.total,
        });
    }
}
