//! A warp: its registers, its groups of lanes that run together, its local memory.

use super::local::Local;
use crate::ir::regs::{Base, Regs};

/// A caller's frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub function: u32,
    /// The instruction that it continues at.
    pub back: u32,
    pub base: Base,
    /// Its frame in local memory.
    pub frame: u32,
    /// Bytes that `alloca` took above the frame.
    pub dynamic: u32,
}

/// Whether a group of lanes can run, or what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupState {
    Ready,
    /// Waits for the lanes of its member mask.
    Collective,
    /// Waits for all lanes of the warp, at this instruction.
    Aligned,
    /// Has arrived at the block barrier of this number and waits for it.
    Barrier(u32),
}

/// Lanes of a warp that have not diverged: they run together.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub mask: u32,
    pub function: u32,
    pub pc: u32,
    pub base: Base,
    /// Its frame in local memory.
    pub frame: u32,
    /// Bytes that `alloca` took above the frame: the most that any lane took.
    pub dynamic: u32,
    pub callers: Vec<Caller>,
    pub state: GroupState,
    /// Backward jumps since it last yielded to another group.
    pub spins: u32,
    /// The last instruction that it executed since it split off.
    pub last: Option<u32>,
    /// When it last ran.
    pub stamp: u64,
}

impl Group {
    pub fn split(&self, mask: u32, pc: u32) -> Group {
        Group {
            mask,
            pc,
            last: None,
            state: GroupState::Ready,
            spins: 0,
            ..self.clone()
        }
    }

    pub fn same_place(&self, other: &Group) -> bool {
        self.pc == other.pc && self.function == other.function && self.callers == other.callers
    }

    /// Its position at a level of the call stack, doubled: a group inside a call stands half an instruction before the one
    /// that the caller continues at.
    fn place(&self, level: usize) -> Option<u64> {
        match level.cmp(&self.callers.len()) {
            std::cmp::Ordering::Less => Some(2 * u64::from(self.callers[level].back) - 1),
            std::cmp::Ordering::Equal => Some(2 * u64::from(self.pc)),
            std::cmp::Ordering::Greater => None,
        }
    }

    /// Which of two groups is behind the other. Positions are compared from the outermost frame inwards.
    pub fn order(&self, other: &Group) -> std::cmp::Ordering {
        let mut level = 0;
        loop {
            match (self.place(level), other.place(level)) {
                (Some(a), Some(b)) if a == b => {
                    let name =
                        |g: &Group| g.callers.get(level + 1).map_or(g.function, |c| c.function);
                    if level < self.callers.len()
                        && level < other.callers.len()
                        && name(self) != name(other)
                    {
                        return name(self).cmp(&name(other));
                    }
                    level += 1;
                }
                (Some(a), Some(b)) => return a.cmp(&b),
                _ => return std::cmp::Ordering::Equal,
            }
        }
    }

    /// The instruction at which `self`, which is behind, has to stop: there it joins `other` or lets it run.
    pub fn stop_for(&self, other: &Group) -> u32 {
        let depth = self.callers.len();
        for level in 0..depth {
            if self.place(level) != other.place(level) {
                return u32::MAX;
            }
        }
        if depth > 0 {
            let name = other
                .callers
                .get(depth)
                .map_or(other.function, |c| c.function);
            if name != self.function {
                return u32::MAX;
            }
        }
        other
            .place(depth)
            .map_or(u32::MAX, |p| p.div_ceil(2) as u32)
    }
}

/// A `cp.async` that is not complete.
#[derive(Clone, Debug)]
pub(super) struct PendingCopy {
    pub mask: u32,
    pub to: [u32; 32],
    pub from: [u64; 32],
    pub read_bytes: [u8; 32],
    pub bytes: u32,
    /// The number of the commit group, by lane.
    pub group: [u32; 32],
}

/// One warp.
pub(super) struct Warp {
    pub index: u32,
    /// Lanes that exist.
    pub initial: u32,
    /// Lanes that haven't exited.
    pub live: u32,
    pub regs: Regs,
    pub groups: Vec<Group>,
    pub local: Local,
    pub copies: Vec<PendingCopy>,
    /// Commit groups of `cp.async` so far, by lane.
    pub committed: [u32; 32],
    pub instructions: u64,
    /// Whether the group that waited longest runs next.
    pub rotate: bool,
    pub stamp: u64,
    /// The last instruction of the kernel itself, not of a function that it calls, that other warps can see an effect of.
    pub last_effect: Option<u32>,
}
