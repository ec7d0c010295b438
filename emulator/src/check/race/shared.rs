//! The shadow of a block's shared memory.

use super::clocks::{Clocks, WARPS};
use super::verdict::{Access, Earlier, Verdict};

const VALID: u64 = 1 << 42;
const STRONG: u64 = 1 << 43;
const ASYNC: u64 = 1 << 44;
const SWAP: u64 = 1 << 45;

/// Shadow of a block's shared memory: per granule the last write and the reads since.
#[derive(Default)]
pub struct SharedShadow {
    shift: u32,
    /// clock 32 | thread 10 | flags
    writes: Vec<u64>,
    /// latest clock 32 | warps 32
    reads: Vec<u64>,
    /// lanes 32 | warp 5 | clock 27, of the warp that read last
    lanes: Vec<u64>,
    /// Exact clocks of every warp's last read, kept if threads synchronise in other ways than by barriers of the whole
    /// block.
    exact: Vec<[u32; WARPS]>,
    /// Covered writes: a plain write whose cell a strong write took over, because a later atomic still races with it. Empty
    /// until there is one.
    plain: Vec<u64>,
}

impl SharedShadow {
    /// Forgets everything; `granule` is the narrowest access in bytes.
    pub fn reset(&mut self, bytes: u32, granule: u32, general: bool) {
        self.shift = granule.clamp(1, 16).trailing_zeros();
        let cells = (bytes as usize >> self.shift) + 1;
        for v in [&mut self.writes, &mut self.reads, &mut self.lanes] {
            v.clear();
            v.resize(cells, 0);
        }
        self.exact.clear();
        self.plain.clear();
        if general {
            self.exact.resize(cells, [0; WARPS]);
        }
    }

    /// For a strong access of a cell whose last write is `w`: the covered write of the cell, if it is unordered.
    #[inline(always)]
    fn plain_below(
        &self,
        cell: usize,
        w: u64,
        clocks: &Clocks,
        warp: usize,
        lane: Option<u32>,
    ) -> Option<u64> {
        let below = *self.plain.get(cell)?;
        (w & STRONG != 0 && below != 0 && !Self::write_ordered(below, clocks, warp, lane))
            .then_some(below)
    }

    /// Sets the covered write of a cell when a new write takes the cell over; `w` is the write so far.
    #[inline(always)]
    fn cover(&mut self, cell: usize, w: u64, strong: bool) {
        if strong && w & (VALID | STRONG) == VALID {
            if self.plain.is_empty() {
                self.plain.resize(self.writes.len(), 0);
            }
            self.plain[cell] = w;
        } else if !strong && !self.plain.is_empty() {
            self.plain[cell] = 0;
        }
    }

    fn earlier_writer(w: u64) -> Verdict {
        let thread = (w >> 32 & 0x3ff) as u32;
        Verdict::Race(Earlier {
            block: None,
            thread: Some((thread / 32, thread % 32)),
            write: true,
        })
    }

    #[inline(always)]
    fn write_ordered(w: u64, clocks: &Clocks, warp: usize, lane: Option<u32>) -> bool {
        let (by, from) = ((w >> 37 & 31) as usize, (w >> 32 & 31) as u32);
        let clock = w as u32;
        if by == warp {
            Some(from) == lane || clocks.lane_ordered(warp, from, clock, lane)
        } else {
            clocks.vc[warp][by] >= clock
        }
    }

    /// A read by a lane (or by the whole warp) of `bytes` at `offset`.
    #[inline(always)]
    pub fn read(
        &mut self,
        clocks: &Clocks,
        offset: u32,
        bytes: u32,
        warp: usize,
        lane: Option<u32>,
        access: Access,
    ) -> Verdict {
        let mut verdict = Verdict::Fine;
        let clock = clocks.clock(warp);
        let bits = lane.map_or(u32::MAX, |l| 1 << l);
        for cell in (offset >> self.shift) as usize..=((offset + bytes - 1) >> self.shift) as usize
        {
            let w = self.writes[cell];
            if w & (ASYNC | VALID) != VALID {
                if w & ASYNC != 0 {
                    return Verdict::Async;
                }
                verdict = Verdict::Uninit;
            } else if !Self::write_ordered(w, clocks, warp, lane)
                && (!access.strong || w & STRONG == 0)
                && w & SWAP == 0
            {
                return Self::earlier_writer(w);
            }
            if access.strong {
                if let Some(below) = self.plain_below(cell, w, clocks, warp, lane) {
                    return Self::earlier_writer(below);
                }
                continue;
            }
            if !self.exact.is_empty() {
                self.exact[cell][warp] = clock;
            }
            let r = self.reads[cell];
            let mine = 1u64 << warp;
            let (mask, latest) = (r & 0xffff_ffff, (r >> 32) as u32);
            if latest == clock {
                self.reads[cell] = r | mine;
            } else {
                let others = mask & !mine;
                let before =
                    others == 0 || Self::all_ordered(others as u32, latest, &clocks.vc[warp]);
                self.reads[cell] = if before {
                    u64::from(clock) << 32 | mine
                } else {
                    u64::from(latest.max(clock)) << 32 | mask | mine
                };
            }
            let tag = (warp as u64) << 27 | u64::from(clock & 0x7ff_ffff);
            let last = self.lanes[cell];
            self.lanes[cell] = if last as u32 as u64 == tag {
                last | u64::from(bits) << 32
            } else {
                u64::from(bits) << 32 | tag
            };
        }
        verdict
    }

    fn all_ordered(mut warps: u32, clock: u32, vc: &[u32; WARPS]) -> bool {
        while warps != 0 {
            if vc[warps.trailing_zeros() as usize] < clock {
                return false;
            }
            warps &= warps - 1;
        }
        true
    }

    /// A write by a lane of `bytes` at `offset`; `same` tells whether it changes nothing.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    pub fn write(
        &mut self,
        clocks: &Clocks,
        offset: u32,
        bytes: u32,
        warp: usize,
        lane: u32,
        access: Access,
        pending: bool,
        same: impl Fn() -> bool,
    ) -> Verdict {
        let clock = clocks.clock(warp);
        let flags = if access.strong { STRONG } else { 0 }
            | if access.swap { SWAP } else { 0 }
            | if pending { ASYNC } else { VALID };
        let value = u64::from(clock) | (warp as u64) << 37 | u64::from(lane) << 32 | flags;
        for cell in (offset >> self.shift) as usize..=((offset + bytes - 1) >> self.shift) as usize
        {
            let w = self.writes[cell];
            if w & ASYNC != 0 {
                return Verdict::Async;
            }
            if w & VALID != 0
                && !Self::write_ordered(w, clocks, warp, Some(lane))
                && (!access.strong || w & STRONG == 0)
                && !same()
            {
                return Self::earlier_writer(w);
            }
            if access.strong
                && let Some(below) = self.plain_below(cell, w, clocks, warp, Some(lane))
                && !same()
            {
                return Self::earlier_writer(below);
            }
            self.cover(cell, w, access.strong);
            let r = self.reads[cell];
            if r != 0 {
                if !access.swap
                    && let Some(earlier) = self.reader_conflict(cell, clocks, warp, lane)
                    && !same()
                {
                    return Verdict::Race(earlier);
                }
                self.reads[cell] = 0;
                self.lanes[cell] = 0;
                if !self.exact.is_empty() {
                    self.exact[cell] = [0; WARPS];
                }
            }
            self.writes[cell] = value;
        }
        Verdict::Fine
    }

    #[inline(always)]
    fn reader_conflict(
        &self,
        cell: usize,
        clocks: &Clocks,
        warp: usize,
        lane: u32,
    ) -> Option<Earlier> {
        let vc = &clocks.vc[warp];
        let by_warp = |w: usize| Earlier {
            block: None,
            thread: Some((w as u32, 0)),
            write: false,
        };
        if self.exact.is_empty() {
            let r = self.reads[cell];
            let (others, latest) = (r as u32 & !(1 << warp), (r >> 32) as u32);
            if others != 0 && !Self::all_ordered(others, latest, vc) {
                return Some(by_warp(others.trailing_zeros() as usize));
            }
        } else {
            let late = self.exact[cell]
                .iter()
                .enumerate()
                .find(|(w, c)| *w != warp && **c > vc[*w]);
            if let Some((w, _)) = late {
                return Some(by_warp(w));
            }
        }
        let last = self.lanes[cell];
        let (lanes, by, clock) = (
            (last >> 32) as u32 & !(1 << lane),
            (last >> 27 & 31) as usize,
            last as u32 & 0x7ff_ffff,
        );
        if lanes != 0 && by == warp && clock > clocks.full[warp] & 0x7ff_ffff {
            let late = (0..32).find(|l| {
                lanes >> l & 1 != 0 && !clocks.partial_ordered(warp, *l, clock, Some(lane))
            });
            if let Some(l) = late {
                return Some(Earlier {
                    block: None,
                    thread: Some((warp as u32, l)),
                    write: false,
                });
            }
        }
        None
    }

    /// An asynchronous copy completes: its destination becomes a write of the lane that waited.
    pub fn complete_copy(
        &mut self,
        clocks: &Clocks,
        offset: u32,
        bytes: u32,
        warp: usize,
        lane: u32,
    ) {
        let value =
            u64::from(clocks.clock(warp)) | (warp as u64) << 37 | u64::from(lane) << 32 | VALID;
        for cell in (offset >> self.shift) as usize..=((offset + bytes - 1) >> self.shift) as usize
        {
            self.writes[cell] = value;
        }
    }
}
