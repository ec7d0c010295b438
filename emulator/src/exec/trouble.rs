//! A fault as the instruction finds it: before block, thread and source line are filled in.

use super::warp::Warp;
use crate::check::FaultKind;

/// What went wrong, and at which instruction.
pub(super) struct Trouble {
    pub kind: FaultKind,
    pub function: u32,
    pub pc: u32,
    pub lane: u32,
    pub address: Option<u64>,
    pub allocation: Option<String>,
    pub message: String,
    /// Set for a read of memory that no thread has written yet. If an unordered thread writes there later, the fault is a
    /// race.
    pub early: bool,
    /// Set for such a read of memory that other blocks can write.
    pub elsewhere: bool,
}

impl Trouble {
    /// A fault at the instruction of a warp's first group.
    pub fn at_warp(warp: &Warp, kind: FaultKind, message: String) -> Trouble {
        let group = warp.groups.first();
        Trouble {
            kind,
            function: group.map_or(0, |g| g.function),
            pc: group.map_or(0, |g| g.pc),
            lane: group.map_or(0, |g| g.mask.trailing_zeros() % 32),
            address: None,
            allocation: None,
            message,
            early: false,
            elsewhere: false,
        }
    }
}
