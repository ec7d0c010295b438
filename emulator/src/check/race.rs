//! Races by happens-before: vector clocks per warp, and shadow cells that hold the last accesses.
//!
//! Every warp has a clock, which goes up whenever the warp synchronises. `vc[a][b]` is the last clock of warp `b` whose
//! accesses happen before what warp `a` does now. Lanes of one warp are ordered only by
//! warp barriers, not by running in lockstep. Blocks are ordered by a fence, a strong write and a
//! strong read of one location (the pattern of grid barriers and "last block done"); the reading
//! side is taken to acquire at once, the writing side must have a fence.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use crate::memory::GlobalShadow;

/// Warps of a block at most.
pub const WARPS: usize = 32;

/// The accesses of other blocks that happen before what a warp does now.
#[derive(Clone, Debug, Default)]
pub struct Known {
    blocks: HashMap<u32, BlockKnown>,
}

#[derive(Clone, Debug, Default)]
struct BlockKnown {
    /// The accesses of all warps up to this clock.
    all: u32,
    /// Later clocks of single warps.
    warps: Option<Box<[u32; WARPS]>>,
}

impl Known {
    fn covers(&self, block: u32, warp: usize, clock: u32) -> bool {
        self.blocks
            .get(&block)
            .is_some_and(|b| b.all >= clock || b.warps.as_ref().is_some_and(|w| w[warp] >= clock))
    }

    fn join(&mut self, other: &Known) {
        for (block, theirs) in &other.blocks {
            let mine = self.blocks.entry(*block).or_default();
            mine.all = mine.all.max(theirs.all);
            if let Some(theirs) = &theirs.warps {
                let mine = mine.warps.get_or_insert_with(|| Box::new([0; WARPS]));
                for (m, t) in mine.iter_mut().zip(theirs.iter()) {
                    *m = (*m).max(*t);
                }
            }
        }
    }
}

fn join_known(a: &Option<Arc<Known>>, b: &Option<Arc<Known>>) -> Option<Arc<Known>> {
    match (a, b) {
        (None, x) | (x, None) => x.clone(),
        (Some(a), Some(b)) if Arc::ptr_eq(a, b) => Some(a.clone()),
        (Some(a), Some(b)) => {
            let mut joined = (**a).clone();
            joined.join(b);
            Some(Arc::new(joined))
        }
    }
}

/// The releases at each location: a strong read of it acquires them.
pub struct SyncTable {
    shards: Vec<Mutex<HashMap<u64, Arc<Known>>>>,
    /// Counts releases of the launch.
    pub time: AtomicU64,
    /// Covered writes by the address of their cell: plain writes whose cell a later strong write took over.
    plain: Mutex<HashMap<u64, u64>>,
    /// Whether `plain` holds any.
    any_plain: AtomicBool,
}

impl Default for SyncTable {
    fn default() -> Self {
        SyncTable {
            shards: (0..64).map(|_| Mutex::new(HashMap::new())).collect(),
            time: AtomicU64::new(1),
            plain: Mutex::default(),
            any_plain: AtomicBool::new(false),
        }
    }
}

impl SyncTable {
    fn plain(&self) -> std::sync::MutexGuard<'_, HashMap<u64, u64>> {
        self.plain
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The covered write of `cell`.
    fn plain_below(&self, cell: u64) -> Option<u64> {
        if !self.any_plain.load(SeqCst) {
            return None;
        }
        self.plain().get(&cell).copied()
    }

    /// Sets the covered write of `cell` when a new write takes the cell over.
    fn cover(&self, cell: u64, below: Option<u64>) {
        match below {
            Some(w) => {
                self.plain().insert(cell, w);
                self.any_plain.store(true, SeqCst);
            }
            None if self.any_plain.load(SeqCst) => {
                self.plain().remove(&cell);
            }
            None => {}
        }
    }

    fn shard(&self, address: u64) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Known>>> {
        let at = (address >> 2) as usize % self.shards.len();
        self.shards[at]
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The clocks of one block.
pub struct Clocks {
    /// `vc[a][b]`: see the module's text.
    pub vc: Vec<[u32; WARPS]>,
    block: u32,
    full: Vec<u32>,
    partial: Vec<Option<Box<[[u32; 32]; 32]>>>,
    known: Vec<Option<Arc<Known>>>,
    acquired_at: Vec<u64>,
    fenced: Vec<Option<Arc<Known>>>,
    /// Warps that exited, and what was ordered before them in other blocks.
    exited: u32,
    exited_known: Option<Arc<Known>>,
    /// Whether the kernel has fences or releasing operations at all.
    pub releases: bool,
}

/// What a barrier has gathered from the warps that arrived.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    vc: Option<Box<[u32; WARPS]>>,
    known: Option<Arc<Known>>,
    acquired_at: u64,
    warps: u32,
}

impl Clocks {
    /// Clocks of a block of so many warps.
    pub fn new(block: u32, warps: usize, releases: bool) -> Clocks {
        let mut vc = vec![[0; WARPS]; warps];
        for (w, row) in vc.iter_mut().enumerate() {
            row[w] = 1;
        }
        Clocks {
            vc,
            // The cells of global memory keep 22 bits of the block.
            block: block & 0x3f_ffff,
            full: vec![0; warps],
            partial: vec![None; warps],
            known: vec![None; warps],
            acquired_at: vec![0; warps],
            fenced: vec![None; warps],
            exited: 0,
            exited_known: None,
            releases,
        }
    }

    /// The warp's own clock.
    #[inline(always)]
    pub fn clock(&self, warp: usize) -> u32 {
        self.vc[warp][warp]
    }

    /// A warp barrier among `mask`, where `live` are all lanes that haven't exited.
    pub fn warp_sync(&mut self, warp: usize, mask: u32, live: u32) {
        let clock = self.clock(warp);
        if mask & live == live {
            self.full[warp] = clock;
            self.partial[warp] = None;
        } else {
            let full = self.full[warp];
            let rows = self.partial[warp].get_or_insert_with(|| Box::new([[full; 32]; 32]));
            let mut joined = [0u32; 32];
            for lane in (0..32).filter(|l| mask >> l & 1 != 0) {
                for (j, c) in joined.iter_mut().zip(rows[lane].iter()) {
                    *j = (*j).max(*c);
                }
            }
            for lane in (0..32).filter(|l| mask >> l & 1 != 0) {
                joined[lane] = clock;
            }
            for lane in (0..32).filter(|l| mask >> l & 1 != 0) {
                rows[lane] = joined;
            }
        }
        self.vc[warp][warp] += 1;
    }

    /// Whether an access of lane `from` at `clock` is ordered before what `to` does now; no lane is
    /// the whole warp.
    #[inline(always)]
    fn lane_ordered(&self, warp: usize, from: u32, clock: u32, to: Option<u32>) -> bool {
        clock <= self.full[warp] || self.partial_ordered(warp, from, clock, to)
    }

    #[cold]
    fn partial_ordered(&self, warp: usize, from: u32, clock: u32, to: Option<u32>) -> bool {
        match (&self.partial[warp], to) {
            (None, _) => false,
            (Some(rows), Some(to)) => rows[to as usize][from as usize] >= clock,
            (Some(rows), None) => rows.iter().all(|r| r[from as usize] >= clock),
        }
    }

    /// All lanes of a warp have exited.
    pub fn exit(&mut self, warp: usize) {
        self.exited |= 1 << warp;
        self.exited_known = join_known(&self.exited_known, &self.known[warp]);
    }

    /// A warp arrives at a block barrier: its knowledge goes into `gathered`.
    pub fn arrive(&mut self, warp: usize, gathered: &mut Gathered) {
        let mine = &self.vc[warp];
        match &mut gathered.vc {
            Some(vc) => {
                for (g, m) in vc.iter_mut().zip(mine.iter()) {
                    *g = (*g).max(*m);
                }
            }
            None => gathered.vc = Some(Box::new(*mine)),
        }
        gathered.known = join_known(&gathered.known, &self.known[warp]);
        gathered.acquired_at = gathered.acquired_at.max(self.acquired_at[warp]);
        gathered.warps |= 1 << warp;
        self.full[warp] = self.clock(warp);
        self.partial[warp] = None;
        self.vc[warp][warp] += 1;
    }

    /// The barrier completes: what was gathered happens before what the waiting warps do next, and they get one common clock.
    ///
    /// A barrier of the `whole` block completes only when the threads that don't take part have exited, so what they did
    /// is ordered too.
    pub fn release(&mut self, waiting: &[usize], gathered: &Gathered, whole: bool) {
        let Some(vc) = &gathered.vc else { return };
        let mut level = 0;
        for w in 0..self.vc.len() {
            if gathered.warps & !self.exited & 1 << w != 0 {
                level = level.max(vc[w]);
            }
        }
        // A waiting warp has no access with a clock between its own and `level`, so `level` may stand for its own clock. A
        // warp that only arrived may have run on.
        let mut row = **vc;
        for w in waiting {
            row[*w] = level;
        }
        if whole {
            for w in (0..WARPS).filter(|w| self.exited >> w & 1 != 0) {
                row[w] = u32::MAX;
            }
        }
        let known = if whole {
            join_known(&gathered.known, &self.exited_known)
        } else {
            gathered.known.clone()
        };
        for w in waiting {
            let mine = &mut self.vc[*w];
            for (m, r) in mine.iter_mut().zip(row.iter()) {
                *m = (*m).max(*r);
            }
            self.full[*w] = level;
            self.partial[*w] = None;
            mine[*w] = level + 1;
            self.known[*w] = join_known(&self.known[*w], &known);
            self.acquired_at[*w] = self.acquired_at[*w].max(gathered.acquired_at);
        }
    }

    /// What a completed phase gathered happens before what the warp does next, though it did not wait.
    pub fn acquire(&mut self, warp: usize, gathered: &Gathered) {
        let Some(vc) = &gathered.vc else { return };
        let mine = self.clock(warp);
        for (m, g) in self.vc[warp].iter_mut().zip(vc.iter()) {
            *m = (*m).max(*g);
        }
        self.vc[warp][warp] = mine;
        // The lanes of the warp itself arrived too: what they did before is ordered.
        if gathered.warps >> warp & 1 != 0 {
            self.full[warp] = self.full[warp].max(vc[warp]);
        }
        self.known[warp] = join_known(&self.known[warp], &gathered.known);
        self.acquired_at[warp] = self.acquired_at[warp].max(gathered.acquired_at);
    }

    /// A fence: the warp's next strong writes release all that happened before it.
    pub fn fence(&mut self, warp: usize) {
        let mut known = self.known[warp].as_deref().cloned().unwrap_or_default();
        let all = self.vc[warp][..self.vc.len()]
            .iter()
            .copied()
            .min()
            .unwrap_or(0);
        known.blocks.insert(
            self.block,
            BlockKnown {
                all,
                warps: Some(Box::new(self.vc[warp])),
            },
        );
        self.fenced[warp] = Some(Arc::new(known));
        self.vc[warp][warp] += 1;
    }

    /// A strong write to `address`; `release` if it is one by itself.
    pub fn strong_write(&mut self, warp: usize, address: u64, release: bool, table: &SyncTable) {
        if !self.releases {
            return;
        }
        if release {
            self.fence(warp);
        }
        let Some(fenced) = &self.fenced[warp] else {
            return;
        };
        let mut shard = table.shard(address);
        let entry = shard.entry(address).or_insert_with(|| fenced.clone());
        if !Arc::ptr_eq(entry, fenced) {
            let mut joined = (**entry).clone();
            joined.join(fenced);
            *entry = Arc::new(joined);
        }
        drop(shard);
        table.time.fetch_add(1, SeqCst);
    }

    /// A strong read of `address`.
    pub fn strong_read(&mut self, warp: usize, address: u64, table: &SyncTable) {
        if !self.releases {
            return;
        }
        let Some(released) = table.shard(address).get(&address).cloned() else {
            return;
        };
        self.acquired_at[warp] = table.time.load(SeqCst);
        if let Some(mine) = released.blocks.get(&self.block) {
            for u in 0..self.vc.len() {
                let c = mine.all.max(mine.warps.as_ref().map_or(0, |w| w[u]));
                if u != warp {
                    self.vc[warp][u] = self.vc[warp][u].max(c);
                }
            }
        }
        let released = Some(released);
        self.known[warp] = join_known(&self.known[warp], &released);
    }
}

/// The earlier one of two accesses that race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// Linear index of the block; `None` is the same block.
    pub block: Option<u32>,
    /// Warp and lane, where they are known.
    pub thread: Option<(u32, u32)>,
    /// A write.
    pub write: bool,
}

/// What a shadow cell says about an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong.
    Fine,
    /// Nobody wrote the location.
    Uninit,
    /// The destination of a copy that wasn't waited for.
    Async,
    /// Unordered.
    Race(Earlier),
}

/// How an access takes part in synchronisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Atomic, volatile, relaxed …
    pub strong: bool,
    /// A compare-and-swap: a plain read before it, as such loops begin with, does not count as a race.
    pub swap: bool,
}

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
