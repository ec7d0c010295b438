//! Loads, stores and asynchronous copies: bounds, alignment, shadow state, bytes, counts.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, Ordering::Relaxed};

use super::running::{Result, Run, classify};
use super::trouble::Trouble;
use super::warp::Group;
use crate::check::FaultKind;
use crate::check::race::{Access, Earlier, Verdict, Who};
use crate::counters::tally;
use crate::ir::code::{AccessSpace, Address, Load, Order, Store, Target};
use crate::ir::regs::Reg;
use crate::memory::{AllocationKind, Heap, LOCAL_WINDOW, PARAM_WINDOW, Piece, SHARED_WINDOW};

/// Bytes of the line that `discard` drops.
const DISCARDED: u32 = 128;
/// The word that a discarded line is filled with: a NaN in every float type.
const DISCARDED_WORD: u32 = 0x7fff_7fff;

/// Up to sixteen bytes per lane, as up to four words: a word is four bytes of an element, or a
/// whole narrower element.
pub(super) type Words = [[u32; 32]; 4];

/// The lanes of a mask.
#[inline(always)]
pub(super) fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    let mut left = mask;
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let lane = left.trailing_zeros() as usize;
        left &= left - 1;
        Some(lane)
    })
}

/// What kind of access is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AccessKind {
    Read,
    Write,
    /// An atomic: reads and writes.
    Update {
        swap: bool,
        reads: bool,
    },
}

impl Run<'_, '_> {
    /// A fault of an access.
    #[cold]
    pub fn bad_access(
        &self,
        g: &Group,
        kind: FaultKind,
        lane: usize,
        space: AccessSpace,
        address: u64,
        message: String,
    ) -> Box<Trouble> {
        let mut t = self.trouble(g, kind, lane as u32, message);
        t.address = Some(address);
        t.early = kind == FaultKind::Uninitialized
            && !matches!(space, AccessSpace::Local | AccessSpace::Param);
        t.elsewhere = t.early && space != AccessSpace::Shared && self.launch.race.is_some();
        t.allocation = match space {
            AccessSpace::Shared => Some(self.shared_variable(address)),
            AccessSpace::Local => Some(format!(
                "local memory of the thread, {} bytes",
                self.warp.local.stride()
            )),
            AccessSpace::Param => Some(format!(
                "parameters of {} bytes",
                self.launch.config.params.len()
            )),
            _ => {
                if let Some(a) = self.launch.snapshot.find(address) {
                    Some(a.describe(address))
                } else if let Some(a) = self.launch.memory.find_freed(address) {
                    Some(format!("freed: {}", a.describe(address)))
                } else {
                    self.launch
                        .snapshot
                        .nearest(address)
                        .map(|a| format!("nearest: {}", a.describe(address)))
                }
            }
        };
        t
    }

    /// The shared variable that an offset belongs to.
    fn shared_variable(&self, offset: u64) -> String {
        let k = self.launch.kernel;
        let used = self.launch.module.shared().iter().zip(&k.shared_offsets);
        for (v, at) in used {
            let (start, size) = (u64::from(*at), v.size);
            if !v.dynamic && *at != crate::ir::UNUSED && offset >= start && offset < start + size {
                return format!(
                    "shared `{}` of {} bytes, offset {}",
                    v.name,
                    v.size,
                    offset - start
                );
            }
        }
        let dynamic = u64::from(k.static_shared_bytes);
        if offset >= dynamic && offset < u64::from(self.launch.shared_bytes) {
            return format!(
                "dynamic shared memory of {} bytes, offset {}",
                self.launch.config.dynamic_shared_bytes,
                offset - dynamic
            );
        }
        format!("shared memory of {} bytes", self.launch.shared_bytes)
    }

    fn earlier(&self, e: Earlier, now: &str) -> String {
        let what = if e.write { "written" } else { "read" };
        let [bx, by, _] = self.launch.config.block;
        let who = match (e.block, e.thread) {
            (block, Some((warp, lane))) => {
                let t = warp * 32 + lane;
                let place = match block {
                    Some(b) => format!("block {b} (linear), "),
                    None => String::new(),
                };
                format!(
                    "{place}thread [{}, {}, {}] (warp {warp})",
                    t % bx,
                    t / bx % by,
                    t / bx / by
                )
            }
            (_, None) => String::from("threads of several blocks"),
        };
        format!("{now} without synchronisation: {what} before by {who}")
    }

    /// Checks an access to global memory: bounds, alignment, initialisation, races.
    #[allow(clippy::too_many_arguments)] // what an access is, all of it hot
    #[inline(always)]
    pub fn check_global(
        &self,
        g: &Group,
        a: &[u64; 32],
        active: u32,
        bytes: u32,
        kind: AccessKind,
        strong: bool,
        space: AccessSpace,
    ) -> Result<()> {
        let mut low = u64::MAX;
        let (mut high, mut misaligned) = (0, 0);
        for (lane, address) in a.iter().enumerate() {
            let on = active >> lane & 1 != 0;
            low = low.min(if on { *address } else { u64::MAX });
            high = high.max(if on { *address } else { 0 });
            misaligned |= if on {
                address & u64::from(bytes - 1)
            } else {
                0
            };
        }
        if misaligned != 0 {
            for lane in lanes(active) {
                if a[lane] & u64::from(bytes - 1) != 0 {
                    let message = format!(
                        "address {:#x} is not a multiple of the access size {bytes}",
                        a[lane]
                    );
                    return Err(self.bad_access(
                        g,
                        FaultKind::Misaligned,
                        lane,
                        space,
                        a[lane],
                        message,
                    ));
                }
            }
        }
        let snapshot = &self.launch.snapshot;
        let whole = snapshot
            .find(low)
            .filter(|x| high < x.end() && x.end() - high >= u64::from(bytes));
        let mut host = whole.is_some_and(|x| x.kind == AllocationKind::Host);
        let mut constant = whole.is_some_and(|x| x.kind == AllocationKind::Const);
        if whole.is_none() {
            // The lanes are in several allocations, or one is outside of all.
            for lane in lanes(active) {
                match snapshot.find(a[lane]) {
                    Some(x) if x.end() - a[lane] >= u64::from(bytes) => {
                        host |= x.kind == AllocationKind::Host;
                        constant |= x.kind == AllocationKind::Const;
                    }
                    _ => {
                        let freed = self.launch.memory.find_freed(a[lane]).is_some()
                            && snapshot.find(a[lane]).is_none();
                        let (kind, what) = if freed {
                            (FaultKind::UseAfterFree, "was freed")
                        } else {
                            (FaultKind::OutOfBounds, "is not inside an allocation")
                        };
                        let message =
                            format!("{bytes} bytes at {:#x}: the address {what}", a[lane]);
                        return Err(self.bad_access(g, kind, lane, space, a[lane], message));
                    }
                }
            }
        }
        if let Some(heap) = self.launch.memory.heap()
            && high >= heap.base
            && low < heap.base + heap.size
        {
            self.check_heap(g, heap, a, active, bytes, space)?;
        }
        if constant && kind != AccessKind::Read {
            let lane = active.trailing_zeros() as usize;
            let message = String::from("a write to constant memory");
            return Err(self.bad_access(g, FaultKind::ReadOnly, lane, space, a[lane], message));
        }
        let memory = self.launch.memory;
        let checks = self.launch.options.checks;
        let reads = matches!(
            kind,
            AccessKind::Read | AccessKind::Update { reads: true, .. }
        );
        if reads && checks.uninit && !host {
            let dense = high - low <= 4096 && memory.all_init(low, high - low + u64::from(bytes));
            if !dense {
                for lane in lanes(active) {
                    let (mut at, end) = (a[lane], a[lane] + u64::from(bytes));
                    while at < end {
                        let width = bytes.min(8);
                        if !memory.is_init(at, width)
                            && snapshot
                                .find(at)
                                .is_none_or(|x| x.kind != AllocationKind::Host)
                        {
                            let message =
                                format!("{bytes} bytes read, of which some were never written");
                            if let Some(race) = &self.launch.race {
                                // The race checker keeps the read: an unordered write that comes later finds it.
                                let who = Who {
                                    clocks: &self.block.clocks,
                                    warp: self.warp.index as usize,
                                    lane: lane as u32,
                                };
                                race.read(a[lane], bytes, who, Access::default());
                            }
                            return Err(self.bad_access(
                                g,
                                FaultKind::Uninitialized,
                                lane,
                                space,
                                a[lane],
                                message,
                            ));
                        }
                        at += u64::from(width);
                    }
                }
            }
        }
        if kind != AccessKind::Read {
            for lane in lanes(active) {
                let width = bytes.min(8);
                memory.note_init(a[lane], width);
                if bytes == 16 {
                    memory.note_init(a[lane] + 8, 8);
                }
            }
        }
        if kind == AccessKind::Write || space == AccessSpace::Const {
            return Ok(());
        }
        let Some(race) = &self.launch.race else {
            return Ok(());
        };
        let clocks = &self.block.clocks;
        for lane in lanes(active) {
            let who = Who {
                clocks,
                warp: self.warp.index as usize,
                lane: lane as u32,
            };
            let (verdict, now) = match kind {
                AccessKind::Update { swap, .. } => (
                    race.write(a[lane], bytes, who, Access { strong: true, swap }, || false),
                    "updated",
                ),
                _ => (
                    race.read(
                        a[lane],
                        bytes,
                        who,
                        Access {
                            strong,
                            swap: false,
                        },
                    ),
                    "read",
                ),
            };
            if let Verdict::Race(e) = verdict {
                let message = self.earlier(e, now);
                return Err(self.bad_access(g, FaultKind::Race, lane, space, a[lane], message));
            }
        }
        Ok(())
    }

    /// Checks the lanes that access the kernels' heap (`malloc`) against the blocks of it that are allocated.
    #[cold]
    fn check_heap(
        &self,
        g: &Group,
        heap: &Heap,
        a: &[u64; 32],
        active: u32,
        bytes: u32,
        space: AccessSpace,
    ) -> Result<()> {
        for lane in lanes(active) {
            if a[lane] < heap.base || a[lane] >= heap.base + heap.size {
                continue;
            }
            let (kind, message) = match heap.find(a[lane], u64::from(bytes)) {
                Piece::Live => continue,
                Piece::Freed(base, size) => (
                    FaultKind::UseAfterFree,
                    format!(
                        "{bytes} bytes at {:#x}: freed by the kernel, {size} bytes from malloc at {base:#x}",
                        a[lane]
                    ),
                ),
                Piece::Outside => (
                    FaultKind::OutOfBounds,
                    format!(
                        "{bytes} bytes at {:#x}: not inside what malloc gave",
                        a[lane]
                    ),
                ),
            };
            return Err(self.bad_access(g, kind, lane, space, a[lane], message));
        }
        Ok(())
    }

    /// Turns a shadow's verdict into a fault, if its checker is on.
    #[inline(always)]
    pub fn judge(
        &self,
        g: &Group,
        verdict: Verdict,
        lane: usize,
        offset: u64,
        now: &str,
    ) -> Result<()> {
        if verdict == Verdict::Fine {
            return Ok(());
        }
        let checks = self.launch.options.checks;
        let (kind, message) = match verdict {
            Verdict::Uninit if checks.uninit => (
                FaultKind::Uninitialized,
                String::from("shared memory read that was never written"),
            ),
            Verdict::Async if checks.async_hazard => (
                FaultKind::AsyncHazard,
                format!(
                    "{now} while a `cp.async` to it is pending: its wait is missing or too early"
                ),
            ),
            Verdict::Race(e) if checks.race => (FaultKind::Race, self.earlier(e, now)),
            _ => return Ok(()),
        };
        Err(self.bad_access(g, kind, lane, AccessSpace::Shared, offset, message))
    }

    /// Checks bounds and alignment of an access to shared, local or parameter memory.
    #[inline(always)]
    pub fn check_offsets(
        &self,
        g: &Group,
        a: &[u64; 32],
        active: u32,
        bytes: u32,
        space: AccessSpace,
        limit: u64,
    ) -> Result<()> {
        let mut bad = 0u32;
        for (lane, address) in a.iter().enumerate() {
            let wrong = (address & u64::from(bytes - 1) != 0)
                | (*address > limit.wrapping_sub(u64::from(bytes)))
                | (limit < u64::from(bytes));
            bad |= u32::from(wrong) << lane;
        }
        bad &= active;
        if bad == 0 {
            return Ok(());
        }
        let lane = bad.trailing_zeros() as usize;
        let (kind, message) = if a[lane]
            .checked_add(u64::from(bytes))
            .is_none_or(|end| end > limit)
        {
            (
                FaultKind::OutOfBounds,
                format!(
                    "{bytes} bytes at offset {:#x}, the limit is {limit:#x}",
                    a[lane]
                ),
            )
        } else {
            (
                FaultKind::Misaligned,
                format!(
                    "offset {:#x} is not a multiple of the access size {bytes}",
                    a[lane]
                ),
            )
        };
        Err(self.bad_access(g, kind, lane, space, a[lane], message))
    }

    /// Splits generic addresses by state space and calls `f` with addresses relative to each.
    pub fn by_space(
        &mut self,
        space: AccessSpace,
        a: &[u64; 32],
        active: u32,
        mut f: impl FnMut(&mut Self, AccessSpace, &[u64; 32], u32) -> Result<()>,
    ) -> Result<()> {
        if space != AccessSpace::Generic {
            return f(self, space, a, active);
        }
        let mut left = active;
        while left != 0 {
            let space = classify(a[left.trailing_zeros() as usize]);
            let part = lanes(left)
                .filter(|l| classify(a[*l]) == space)
                .fold(0, |m, l| m | 1 << l);
            left &= !part;
            let window = match space {
                AccessSpace::Shared => SHARED_WINDOW,
                AccessSpace::Local => LOCAL_WINDOW,
                AccessSpace::Param => PARAM_WINDOW,
                _ => 0,
            };
            let relative: [u64; 32] = std::array::from_fn(|l| a[l].wrapping_sub(window));
            f(self, space, &relative, part)?;
        }
        Ok(())
    }

    /// Counts a request to global or shared memory. An atomic counts as a store; its sector is read first.
    pub fn count_access(
        &mut self,
        g: &Group,
        space: AccessSpace,
        a: &[u64; 32],
        active: u32,
        bytes: u32,
        kind: AccessKind,
    ) {
        if self.block.tally.is_none() {
            return;
        }
        let site = self.launch.functions[g.function as usize].insts[g.pc as usize].site;
        let moved = u64::from(active.count_ones() * bytes);
        match space {
            AccessSpace::Global => {
                let mut out = Vec::new();
                let ideal = tally::sectors(a, active, bytes, &mut out);
                let (mut read, mut written) = (0, 0);
                if let Some(cache) = &self.launch.cache {
                    let accesses: &[bool] = match kind {
                        AccessKind::Read => &[false],
                        AccessKind::Write => &[true],
                        AccessKind::Update { .. } => &[false, true],
                    };
                    for s in &out {
                        for &write in accesses {
                            let (r, w) = cache.touch(s * 32, write);
                            read += r;
                            written += w;
                        }
                    }
                }
                self.count(g.function, site, |c| {
                    if kind != AccessKind::Read {
                        c.global_store_requests += 1;
                        c.global_store_sectors += out.len() as u64;
                        c.global_store_sectors_ideal += ideal;
                        c.global_store_bytes += moved;
                    } else {
                        c.global_load_requests += 1;
                        c.global_load_sectors += out.len() as u64;
                        c.global_load_sectors_ideal += ideal;
                        c.global_load_bytes += moved;
                    }
                    c.dram_read_bytes += read;
                    c.dram_write_bytes += written;
                });
            }
            AccessSpace::Shared => {
                let (real, ideal) = tally::wavefronts(&a.map(|x| x as u32), active, bytes);
                self.count(g.function, site, |c| {
                    c.shared_requests += 1;
                    c.shared_wavefronts += real;
                    c.shared_wavefronts_ideal += ideal;
                    c.shared_bytes += moved;
                });
            }
            AccessSpace::Local => self.count(g.function, site, |c| c.local_requests += 1),
            _ => {}
        }
    }

    /// Reads `count` units of `unit` bytes per lane.
    #[allow(clippy::too_many_arguments)] // what an access is, all of it hot
    #[inline(always)]
    pub fn read_words(
        &mut self,
        g: &Group,
        space: AccessSpace,
        a: &[u64; 32],
        active: u32,
        unit: u32,
        count: usize,
        order: Order,
        out: &mut Words,
    ) -> Result<()> {
        let bytes = unit * count as u32;
        match space {
            AccessSpace::Global | AccessSpace::Const | AccessSpace::Generic => {
                self.check_global(g, a, active, bytes, AccessKind::Read, order.strong, space)?;
                for (k, words) in out.iter_mut().enumerate().take(count) {
                    let step = u64::from(unit) * k as u64;
                    for lane in lanes(active) {
                        words[lane] = read_unit(a[lane] + step, unit);
                    }
                }
                if order.strong {
                    // The reader looks at the releases after it has read: a writer publishes its release before it writes.
                    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
                    self.block.polls += 16;
                    self.strong_reads(a, active, 0);
                }
                self.count_access(
                    g,
                    AccessSpace::Global,
                    a,
                    if space == AccessSpace::Const {
                        0
                    } else {
                        active
                    },
                    bytes,
                    AccessKind::Read,
                );
            }
            AccessSpace::Shared => {
                self.check_offsets(
                    g,
                    a,
                    active,
                    bytes,
                    space,
                    u64::from(self.block.shared_bytes),
                )?;
                if self.launch.shadow_shared {
                    let w = self.warp.index as usize;
                    let access = Access {
                        strong: order.strong,
                        swap: false,
                    };
                    for lane in lanes(active) {
                        let block = &mut *self.block;
                        let v = block.shadow.read(
                            &block.clocks,
                            a[lane] as u32,
                            bytes,
                            w,
                            Some(lane as u32),
                            access,
                        );
                        self.judge(g, v, lane, a[lane], "read")?;
                    }
                }
                if order.strong {
                    self.block.polls += 16;
                    self.strong_reads(a, active, SHARED_WINDOW);
                }
                let memory = self.block.shared_slice();
                for (k, words) in out.iter_mut().enumerate().take(count) {
                    for lane in lanes(active) {
                        let at = a[lane] as usize + unit as usize * k;
                        words[lane] = bytes_at(memory, at, unit);
                    }
                }
                self.count_access(g, space, a, active, bytes, AccessKind::Read);
            }
            AccessSpace::Local => {
                self.check_offsets(
                    g,
                    a,
                    active,
                    bytes,
                    space,
                    u64::from(self.warp.local.stride()),
                )?;
                for lane in lanes(active) {
                    let mut raw = [0u8; 16];
                    let at = a[lane] as u32;
                    if self.launch.options.checks.uninit
                        && !self.warp.local.is_written(lane, at, bytes)
                    {
                        let message = String::from("local memory read that was never written");
                        return Err(self.bad_access(
                            g,
                            FaultKind::Uninitialized,
                            lane,
                            space,
                            a[lane],
                            message,
                        ));
                    }
                    self.warp.local.read(lane, at, &mut raw[..bytes as usize]);
                    for (k, words) in out.iter_mut().enumerate().take(count) {
                        words[lane] = bytes_at(&raw, unit as usize * k, unit);
                    }
                }
                self.count_access(g, space, a, active, bytes, AccessKind::Read);
            }
            AccessSpace::Param => {
                let params = self.launch.config.params;
                self.check_offsets(g, a, active, bytes, space, params.len() as u64)?;
                for (k, words) in out.iter_mut().enumerate().take(count) {
                    for lane in lanes(active) {
                        words[lane] = bytes_at(params, a[lane] as usize + unit as usize * k, unit);
                    }
                }
            }
        }
        Ok(())
    }

    fn strong_reads(&mut self, a: &[u64; 32], active: u32, window: u64) {
        if !self.block.clocks.releases {
            return;
        }
        let w = self.warp.index as usize;
        for lane in lanes(active) {
            self.block
                .clocks
                .strong_read(w, window + a[lane], self.launch.table);
        }
    }

    /// Strong writes release what the warp knew at its last fence.
    pub fn strong_writes(&mut self, a: &[u64; 32], active: u32, window: u64, release: bool) {
        if !self.block.clocks.releases {
            return;
        }
        let w = self.warp.index as usize;
        for lane in lanes(active) {
            self.block
                .clocks
                .strong_write(w, window + a[lane], release, self.launch.table);
        }
    }

    /// Writes `count` units of `unit` bytes per lane.
    #[allow(clippy::too_many_arguments)] // what an access is, all of it hot
    #[inline(always)]
    pub fn write_words(
        &mut self,
        g: &Group,
        space: AccessSpace,
        a: &[u64; 32],
        active: u32,
        unit: u32,
        count: usize,
        order: Order,
        value: &(Words, u32),
    ) -> Result<()> {
        let bytes = unit * count as u32;
        let words = &value.0;
        match space {
            AccessSpace::Global | AccessSpace::Generic => {
                self.check_global(g, a, active, bytes, AccessKind::Write, order.strong, space)?;
                if order.strong {
                    self.block.changes += 1;
                }
                // Lane by lane: several lanes may write the same value to one address.
                for lane in lanes(active) {
                    let at = |k: usize| a[lane] + u64::from(unit) * k as u64;
                    if let Some(race) = &self.launch.race {
                        let who = Who {
                            clocks: &self.block.clocks,
                            warp: self.warp.index as usize,
                            lane: lane as u32,
                        };
                        let same = || (0..count).all(|k| read_unit(at(k), unit) == words[k][lane]);
                        let access = Access {
                            strong: order.strong,
                            swap: false,
                        };
                        if let Verdict::Race(e) = race.write(a[lane], bytes, who, access, same) {
                            let message = self.earlier(e, "written");
                            return Err(self.bad_access(
                                g,
                                FaultKind::Race,
                                lane,
                                space,
                                a[lane],
                                message,
                            ));
                        }
                    }
                    // A release covers its own write, so it comes after the write is noted and before another thread can see it.
                    if order.strong {
                        self.strong_writes(a, 1 << lane, 0, order.release);
                    }
                    for (k, words) in words.iter().enumerate().take(count) {
                        write_unit(at(k), unit, words[lane]);
                    }
                }
                self.count_access(g, AccessSpace::Global, a, active, bytes, AccessKind::Write);
            }
            AccessSpace::Shared => {
                self.check_offsets(
                    g,
                    a,
                    active,
                    bytes,
                    space,
                    u64::from(self.block.shared_bytes),
                )?;
                if order.strong {
                    self.block.changes += 1;
                }
                let w = self.warp.index as usize;
                for lane in lanes(active) {
                    let at = a[lane] as usize;
                    if self.launch.shadow_shared {
                        let block = &mut *self.block;
                        let memory: &[u8] =
                            &bytemuck::cast_slice(&block.shared)[..block.shared_bytes as usize];
                        let same = || {
                            (0..count).all(|k| {
                                bytes_at(memory, at + unit as usize * k, unit) == words[k][lane]
                            })
                        };
                        let access = Access {
                            strong: order.strong,
                            swap: false,
                        };
                        let v = block.shadow.write(
                            &block.clocks,
                            at as u32,
                            bytes,
                            w,
                            lane as u32,
                            access,
                            false,
                            same,
                        );
                        self.judge(g, v, lane, a[lane], "written")?;
                    }
                    if order.strong {
                        self.strong_writes(a, 1 << lane, SHARED_WINDOW, order.release);
                    }
                    let memory = self.block.shared_slice_mut();
                    for (k, words) in words.iter().enumerate().take(count) {
                        let from = at + unit as usize * k;
                        memory[from..from + unit as usize]
                            .copy_from_slice(&words[lane].to_le_bytes()[..unit as usize]);
                    }
                }
                self.count_access(g, space, a, active, bytes, AccessKind::Write);
            }
            AccessSpace::Local => {
                self.check_offsets(
                    g,
                    a,
                    active,
                    bytes,
                    space,
                    u64::from(self.warp.local.stride()),
                )?;
                for lane in lanes(active) {
                    let mut raw = [0u8; 16];
                    for (k, words) in words.iter().enumerate().take(count) {
                        let from = unit as usize * k;
                        raw[from..from + unit as usize]
                            .copy_from_slice(&words[lane].to_le_bytes()[..unit as usize]);
                    }
                    self.warp
                        .local
                        .write(lane, a[lane] as u32, &raw[..bytes as usize]);
                }
                self.count_access(g, space, a, active, bytes, AccessKind::Write);
            }
            AccessSpace::Const | AccessSpace::Param => {
                let lane = active.trailing_zeros() as usize;
                let message = String::from("a write to read-only memory");
                return Err(self.bad_access(g, FaultKind::ReadOnly, lane, space, a[lane], message));
            }
        }
        Ok(())
    }

    pub fn load(&mut self, g: &Group, l: &Load, active: u32) -> Result<()> {
        let a = self.addresses(&l.address);
        let width = l.ty.bytes();
        let unit = width.min(4);
        let per = (width / unit) as usize;
        let mut words: Words = [[0; 32]; 4];
        let count = per * l.targets.len();
        if l.space == AccessSpace::Param && l.address.base.is_none() {
            // Parameters are the same for all lanes.
            let params = self.launch.config.params;
            let bytes = unit * count as u32;
            self.check_offsets(g, &a, active, bytes, l.space, params.len() as u64)?;
            for (k, w) in words.iter_mut().enumerate().take(count) {
                *w = [bytes_at(params, a[0] as usize + unit as usize * k, unit); 32];
            }
        } else {
            self.by_space(l.space, &a, active, |this, space, a, part| {
                this.read_words(g, space, a, part, unit, count, l.order, &mut words)
            })?;
        }
        let regs = &mut self.warp.regs;
        for (n, target) in l.targets.iter().enumerate() {
            let Target::Reg(reg, bits) = *target else {
                continue;
            };
            match (reg, width) {
                (Reg::W(s), 4) => regs.put32(s, &words[n], active),
                (Reg::D(s), 8) => {
                    let (lo, hi) = (&words[2 * n], &words[2 * n + 1]);
                    regs.put64(
                        s,
                        &std::array::from_fn(|l| u64::from(hi[l]) << 32 | u64::from(lo[l])),
                        active,
                    );
                }
                (reg, width) => {
                    let unused = 64 - 8 * width.min(8);
                    let signed = l.ty.is_signed();
                    let keep = u64::MAX >> (64 - bits.max(8));
                    let out = std::array::from_fn(|lane| {
                        let v = u64::from(words[n][lane]) << unused;
                        (if signed {
                            (v as i64 >> unused) as u64
                        } else {
                            v >> unused
                        }) & keep
                    });
                    reg.store_wide(regs, &out, active);
                }
            }
        }
        Ok(())
    }

    pub fn store(&mut self, g: &Group, s: &Store, active: u32) -> Result<()> {
        let a = self.addresses(&s.address);
        let width = s.ty.bytes();
        let unit = width.min(4);
        let per = (width / unit) as usize;
        let mut value: (Words, u32) = ([[0; 32]; 4], unit);
        for (n, reg) in s.sources.iter().enumerate() {
            match (*reg, width) {
                (Reg::W(r), 4) => value.0[n] = *self.warp.regs.get32(r),
                (Reg::D(r), 8) => {
                    let v = self.warp.regs.get64(r);
                    value.0[2 * n] = std::array::from_fn(|l| v[l] as u32);
                    value.0[2 * n + 1] = std::array::from_fn(|l| (v[l] >> 32) as u32);
                }
                (reg, width) => {
                    let v = reg.fetch_wide(&self.warp.regs);
                    let mask = u32::MAX >> (32 - 8 * width.min(4));
                    value.0[n] = std::array::from_fn(|l| v[l] as u32 & mask);
                }
            }
        }
        let count = per * s.sources.len();
        self.by_space(s.space, &a, active, |this, space, a, part| {
            this.write_words(g, space, a, part, unit, count, s.order, &value)
        })
    }

    /// `discard.L2`: whole lines of global memory count as never written, and the cache does not write them back. The race
    /// checker takes it as a write.
    pub fn discard(
        &mut self,
        g: &Group,
        space: AccessSpace,
        at: &Address,
        active: u32,
    ) -> Result<()> {
        let a = self.addresses(at);
        self.by_space(space, &a, active, |this, space, a, part| {
            if !matches!(space, AccessSpace::Global | AccessSpace::Generic) {
                let message = String::from("`discard` of an address outside global memory");
                let lane = part.trailing_zeros() as usize;
                return Err(this.bad_access(
                    g,
                    FaultKind::OutOfBounds,
                    lane,
                    space,
                    a[lane],
                    message,
                ));
            }
            this.check_global(g, a, part, DISCARDED, AccessKind::Write, false, space)?;
            for lane in lanes(part) {
                for at in (a[lane]..a[lane] + u64::from(DISCARDED)).step_by(16) {
                    if let Some(race) = &this.launch.race {
                        let who = Who {
                            clocks: &this.block.clocks,
                            warp: this.warp.index as usize,
                            lane: lane as u32,
                        };
                        if let Verdict::Race(e) =
                            race.write(at, 16, who, Access::default(), || false)
                        {
                            let message = this.earlier(e, "discarded");
                            return Err(this.bad_access(
                                g,
                                FaultKind::Race,
                                lane,
                                space,
                                at,
                                message,
                            ));
                        }
                    }
                    for word in 0..4 {
                        write_unit(at + 4 * word, 4, DISCARDED_WORD);
                    }
                }
                let host = this.launch.snapshot.find(a[lane]);
                if host.is_none_or(|x| x.kind != AllocationKind::Host) {
                    // Cannot fail: the range was checked to lie in one allocation.
                    let _ = this
                        .launch
                        .memory
                        .mark_uninit(a[lane], u64::from(DISCARDED));
                }
                if let Some(cache) = &this.launch.cache {
                    cache.discard(a[lane]);
                }
            }
            Ok(())
        })
    }
}

/// A unit of a byte slice whose bounds were checked.
#[inline(always)]
pub(super) fn bytes_at(memory: &[u8], at: usize, unit: u32) -> u32 {
    match unit {
        4 => u32::from_le_bytes([memory[at], memory[at + 1], memory[at + 2], memory[at + 3]]),
        2 => u32::from(u16::from_le_bytes([memory[at], memory[at + 1]])),
        _ => u32::from(memory[at]),
    }
}

/// Reads a unit of global memory.
#[inline(always)]
pub(super) fn read_unit(address: u64, unit: u32) -> u32 {
    // SAFETY: every caller has checked that the address lies in an allocation of the launch's
    // snapshot and is aligned; the mapping outlives the launch. Other threads access the bytes
    // with atomics only.
    unsafe {
        match unit {
            4 => (*(address as *const AtomicU32)).load(Relaxed),
            2 => u32::from((*(address as *const AtomicU16)).load(Relaxed)),
            _ => u32::from((*(address as *const AtomicU8)).load(Relaxed)),
        }
    }
}

/// Writes a unit of global memory.
#[inline(always)]
pub(super) fn write_unit(address: u64, unit: u32, value: u32) {
    // SAFETY: as in `read_unit`.
    unsafe {
        match unit {
            4 => (*(address as *const AtomicU32)).store(value, Relaxed),
            2 => (*(address as *const AtomicU16)).store(value as u16, Relaxed),
            _ => (*(address as *const AtomicU8)).store(value as u8, Relaxed),
        }
    }
}
