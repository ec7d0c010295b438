//! Races by happens-before: vector clocks per warp, and shadow cells that hold the last accesses.
//!
//! Every warp has a clock, which goes up whenever the warp synchronises. `vc[a][b]` is the last clock of warp `b` whose
//! accesses happen before what warp `a` does now. Lanes of one warp are ordered only by
//! warp barriers, not by running in lockstep. Blocks are ordered by a fence, a strong write and a
//! strong read of one location (the pattern of grid barriers and "last block done"); the reading
//! side is taken to acquire at once, the writing side must have a fence.

mod clocks;
mod global;
mod shared;
mod verdict;

pub use clocks::{Clocks, Gathered, SyncTable};
pub use global::{GlobalRace, MAX_LAUNCH, Who};
pub use shared::SharedShadow;
pub use verdict::{Access, Earlier, Verdict};
