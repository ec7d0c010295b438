//! A fault where it happens, before it is known to whom it belongs.

use super::warp::Warp;
use crate::check::FaultKind;

/// What went wrong, and where in the code.
pub(super) struct Trouble {
    pub kind: FaultKind,
    pub function: u32,
    pub pc: u32,
    pub lane: u32,
    pub address: Option<u64>,
    pub allocation: Option<String>,
    pub message: String,
    /// A read of memory that nobody wrote so far: if a thread that isn't ordered with it writes there later, the two
    /// race.
    pub early: bool,
    /// Such a read of memory that other blocks reach.
    pub elsewhere: bool,
}

impl Trouble {
    /// At the place of a warp's first group.
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
