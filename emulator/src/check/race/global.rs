//! A launch's view of the shadow of global memory.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use super::clocks::{Clocks, SyncTable};
use super::verdict::{Access, Earlier, Verdict};
use crate::memory::GlobalShadow;

// Cells of global memory: launch 10 | block 22 | warp 5 | lane 5 | then, for writes, strong 1 |
// swap 1 | clock 20; for reads, kind 2 | clock 20 (or, for many blocks, a time in place of all but
// launch and kind).
const CLOCK: u64 = (1 << 20) - 1;
const GLOBAL_STRONG: u64 = 1 << 21;
const GLOBAL_SWAP: u64 = 1 << 20;
const ONE_LANE: u64 = 0;
const ONE_WARP: u64 = 1;
const ONE_BLOCK: u64 = 2;
const MANY_BLOCKS: u64 = 3;
/// Launches are numbered from 1 to this.
pub const MAX_LAUNCH: u64 = 1023;

/// A launch's view of the shadow of global memory.
#[derive(Clone, Copy)]
pub struct GlobalRace<'a> {
    shadow: GlobalShadow<'a>,
    shift: u32,
    launch: u64,
    table: &'a SyncTable,
}

/// The thread that makes an access.
#[derive(Clone, Copy)]
pub struct Who<'c> {
    /// Clocks of its block.
    pub clocks: &'c Clocks,
    /// Its warp.
    pub warp: usize,
    /// Its lane.
    pub lane: u32,
}

impl<'a> GlobalRace<'a> {
    /// `granule` is the kernel's narrowest access in bytes.
    pub(crate) fn new(
        shadow: GlobalShadow<'a>,
        granule: u32,
        launch: u64,
        table: &'a SyncTable,
    ) -> Self {
        GlobalRace {
            shadow,
            shift: granule.clamp(1, 16).trailing_zeros(),
            launch,
            table,
        }
    }

    #[inline(always)]
    fn ordered(&self, cell: u64, who: Who<'_>) -> bool {
        let block = (cell >> 32 & 0x3f_ffff) as u32;
        let (warp, lane, clock) = (
            (cell >> 27 & 31) as usize,
            (cell >> 22 & 31) as u32,
            (cell & CLOCK) as u32,
        );
        if block == who.clocks.block {
            if warp == who.warp {
                lane == who.lane || who.clocks.lane_ordered(warp, lane, clock, Some(who.lane))
            } else {
                who.clocks.vc[who.warp][warp] >= clock
            }
        } else {
            who.clocks.known[who.warp]
                .as_ref()
                .is_some_and(|k| k.covers(block, warp, clock))
        }
    }

    fn earlier(&self, cell: u64, who: Who<'_>, write: bool) -> Verdict {
        let block = (cell >> 32 & 0x3f_ffff) as u32;
        Verdict::Race(Earlier {
            block: (block != who.clocks.block).then_some(block),
            thread: Some(((cell >> 27 & 31) as u32, (cell >> 22 & 31) as u32)),
            write,
        })
    }

    #[inline(always)]
    fn tag(&self, who: Who<'_>) -> u64 {
        self.launch << 54
            | u64::from(who.clocks.block) << 32
            | (who.warp as u64) << 27
            | u64::from(who.lane) << 22
            | u64::from(who.clocks.clock(who.warp)).min(CLOCK)
    }

    /// A read of `bytes` at `address`.
    #[inline(always)]
    pub fn read(&self, address: u64, bytes: u32, who: Who<'_>, access: Access) -> Verdict {
        let mine = self.tag(who) | ONE_LANE << 20;
        let step = 1u64 << self.shift;
        let mut at = address & !(step - 1);
        while at < address + u64::from(bytes) {
            let (writer, reader) = self.shadow.cell(at, self.shift);
            at += step;
            if !access.strong {
                let r = reader.load(Relaxed);
                if r != mine {
                    self.note_read(reader, r, mine, who);
                }
            }
            let w = writer.load(Relaxed);
            if w >> 54 == self.launch
                && !self.ordered(w, who)
                && (!access.strong || w & GLOBAL_STRONG == 0)
                && w & GLOBAL_SWAP == 0
            {
                return self.earlier(w, who, true);
            }
            if access.strong
                && let Some(below) = self.plain_below(at - step, w, who)
            {
                return self.earlier(below, who, true);
            }
        }
        Verdict::Fine
    }

    /// For a strong access of a cell whose last write is `w`: the covered write of the cell, if it is unordered.
    #[inline(always)]
    fn plain_below(&self, cell: u64, w: u64, who: Who<'_>) -> Option<u64> {
        if w >> 54 != self.launch || w & GLOBAL_STRONG == 0 {
            return None;
        }
        self.table
            .plain_below(cell)
            .filter(|below| !self.ordered(*below, who))
    }

    #[inline(always)]
    fn note_read(&self, reader: &AtomicU64, r: u64, mine: u64, who: Who<'_>) {
        if r >> 54 != self.launch {
            reader.store(mine, Relaxed);
            return;
        }
        let kind = r >> 20 & 3;
        if kind == MANY_BLOCKS {
            let now = self.table.time.load(Relaxed) & CLOCK;
            if r & CLOCK != now {
                reader.store(r & !CLOCK | now, Relaxed);
            }
            return;
        }
        let same_block = r >> 32 == mine >> 32;
        if !same_block {
            let now = self.table.time.load(Relaxed) & CLOCK;
            reader.store(mine & !(3 << 20 | CLOCK) | MANY_BLOCKS << 20 | now, Relaxed);
            return;
        }
        let latest = (r & CLOCK).max(mine & CLOCK);
        let same_warp = r >> 27 & 31 == mine >> 27 & 31;
        let value = match kind {
            ONE_BLOCK
                if r & CLOCK < mine & CLOCK
                    && who.clocks.vc[who.warp]
                        .iter()
                        .take(who.clocks.vc.len())
                        .all(|c| u64::from(*c) >= r & CLOCK) =>
            {
                mine
            }
            ONE_BLOCK => r & !CLOCK | latest,
            _ if same_warp && kind == ONE_LANE && r >> 22 & 31 == mine >> 22 & 31 => mine,
            _ if same_warp && r & CLOCK == mine & CLOCK => mine & !(3 << 20) | ONE_WARP << 20,
            _ if same_warp
                && who.clocks.lane_ordered(
                    who.warp,
                    (r >> 22 & 31) as u32,
                    (r & CLOCK) as u32,
                    Some(who.lane),
                ) =>
            {
                mine
            }
            _ if same_warp => mine & !(3 << 20) | ONE_WARP << 20,
            _ if u64::from(who.clocks.vc[who.warp][(r >> 27 & 31) as usize]) >= r & CLOCK => mine,
            _ => mine & !(3 << 20 | CLOCK) | ONE_BLOCK << 20 | latest,
        };
        if value != r {
            reader.store(value, Relaxed);
        }
    }

    /// A write of `bytes` at `address`; `same` tells whether it changes nothing.
    #[inline(always)]
    pub fn write(
        &self,
        address: u64,
        bytes: u32,
        who: Who<'_>,
        access: Access,
        same: impl Fn() -> bool,
    ) -> Verdict {
        let mine = self.tag(who)
            | if access.strong { GLOBAL_STRONG } else { 0 }
            | if access.swap { GLOBAL_SWAP } else { 0 };
        let step = 1u64 << self.shift;
        let mut at = address & !(step - 1);
        while at < address + u64::from(bytes) {
            let (writer, reader) = self.shadow.cell(at, self.shift);
            at += step;
            let w = writer.swap(mine, SeqCst);
            if w >> 54 == self.launch
                && !self.ordered(w, who)
                && (!access.strong || w & GLOBAL_STRONG == 0)
                && !same()
            {
                return self.earlier(w, who, true);
            }
            if access.strong {
                if let Some(below) = self.plain_below(at - step, w, who)
                    && !same()
                {
                    return self.earlier(below, who, true);
                }
                if w >> 54 == self.launch && w & GLOBAL_STRONG == 0 {
                    self.table.cover(at - step, Some(w));
                }
            } else {
                self.table.cover(at - step, None);
            }
            let r = reader.load(Relaxed);
            if r >> 54 == self.launch {
                if !access.swap && !self.reader_ordered(r, who) && !same() {
                    return if r >> 20 & 3 == MANY_BLOCKS {
                        Verdict::Race(Earlier {
                            block: None,
                            thread: None,
                            write: false,
                        })
                    } else {
                        self.earlier(r, who, false)
                    };
                }
                reader.store(0, Relaxed);
            }
        }
        Verdict::Fine
    }

    fn reader_ordered(&self, r: u64, who: Who<'_>) -> bool {
        let clock = (r & CLOCK) as u32;
        let same_block = r >> 32 & 0x3f_ffff == u64::from(who.clocks.block);
        let warp = (r >> 27 & 31) as usize;
        match r >> 20 & 3 {
            ONE_LANE => self.ordered(r, who),
            ONE_WARP if same_block && warp == who.warp => {
                who.clocks.lane_ordered(warp, 0, clock, Some(who.lane))
            }
            ONE_WARP => self.ordered(r, who),
            ONE_BLOCK if same_block => {
                let vc = &who.clocks.vc[who.warp];
                let others = (0..who.clocks.vc.len()).filter(|w| *w != who.warp);
                let ordered = |w: usize| vc[w] >= clock;
                // A barrier of part of the block orders only that part. Without exact clocks of the readers, a possible race counts.
                if who.clocks.releases {
                    others.clone().any(ordered)
                } else {
                    others.clone().all(ordered)
                }
            }
            ONE_BLOCK => {
                let block = (r >> 32 & 0x3f_ffff) as u32;
                who.clocks.known[who.warp]
                    .as_ref()
                    .is_some_and(|k| k.covers(block, warp, clock))
            }
            _ => {
                let acquired = who.clocks.acquired_at[who.warp];
                acquired != 0 && (acquired & CLOCK) > u64::from(clock)
            }
        }
    }
}
