//! A warp while it runs, with its block and its launch: what every class of instructions needs of it.

use super::block_state::BlockState;
use super::launch_state::Launch;
use super::trouble::Trouble;
use super::warp::{Group, GroupState, Warp};
use crate::check::FaultKind;
use crate::check::race::Clocks;
use crate::counters::Counts;
use crate::ir::code::{AccessSpace, Address};
use crate::ir::regs::{Reg, SP};
use crate::memory::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, WINDOW_BYTES};

/// What became of a group that stopped running.
pub(super) enum End {
    /// All its lanes exited.
    Exited,
    /// It still exists, in the state that it says.
    Stays,
}

pub(super) type Result<T> = std::result::Result<T, Box<Trouble>>;

/// A warp, its block and its launch, while it runs.
pub(super) struct Run<'r, 'l> {
    pub launch: &'r Launch<'l>,
    pub block: &'r mut BlockState,
    pub warp: &'r mut Warp,
}

impl Run<'_, '_> {
    pub fn clocks(&mut self) -> &mut Clocks {
        &mut self.block.clocks
    }

    pub fn trouble(&self, g: &Group, kind: FaultKind, lane: u32, message: String) -> Box<Trouble> {
        Box::new(Trouble {
            kind,
            function: g.function,
            pc: g.pc,
            lane: lane % 32,
            address: None,
            allocation: None,
            message,
            early: false,
            elsewhere: false,
        })
    }

    /// The new value of [`Warp::last_effect`]: only instructions of the kernel itself count.
    pub fn effect(&self, g: &Group) -> Option<u32> {
        if g.callers.is_empty() {
            Some(g.pc)
        } else {
            self.warp.last_effect
        }
    }

    /// Adds to an instruction's counts, if the launch counts.
    #[inline(always)]
    pub fn count(&mut self, function: u32, site: u32, add: impl FnOnce(&mut Counts)) {
        if let Some(t) = &mut self.block.tally {
            add(&mut t.sites[function as usize][site as usize]);
        }
    }

    /// Makes the lanes that reached an aligned instruction wait for the rest of the warp.
    pub fn wait_aligned(&mut self, g: &mut Group, active: u32) -> Result<End> {
        if active != g.mask {
            let rest = g.split(g.mask & !active, g.pc + 1);
            self.warp.groups.push(rest);
            *g = g.split(active, g.pc);
        }
        g.state = GroupState::Aligned;
        Ok(End::Stays)
    }

    /// The addresses that an operand gives the lanes.
    #[inline(always)]
    pub fn addresses(&self, a: &Address) -> [u64; 32] {
        match a.base {
            None => [a.offset as u64; 32],
            Some(Reg::W(s)) => {
                let base = self.warp.regs.get32(s);
                std::array::from_fn(|l| u64::from(base[l]).wrapping_add(a.offset as u64))
            }
            Some(Reg::D(s)) => {
                let base = self.warp.regs.get64(s);
                std::array::from_fn(|l| base[l].wrapping_add(a.offset as u64))
            }
        }
    }

    /// Lane bits of a predicate with its negation.
    pub fn holds(&self, p: (SP, bool)) -> u32 {
        let bits = self.warp.regs.get_pred(p.0);
        if p.1 { !bits } else { bits }
    }
}

/// The state space of a generic address.
pub(super) fn classify(address: u64) -> AccessSpace {
    let within = |window: u64| address.wrapping_sub(window) < WINDOW_BYTES;
    if within(SHARED_WINDOW) {
        AccessSpace::Shared
    } else if within(LOCAL_WINDOW) {
        AccessSpace::Local
    } else if within(PARAM_WINDOW) {
        AccessSpace::Param
    } else {
        AccessSpace::Global
    }
}
