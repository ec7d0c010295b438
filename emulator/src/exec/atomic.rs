//! Atomic operations, and the `mbarrier` objects that live in shared memory.

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::SeqCst};

use super::access::{AccessKind, lanes};
use super::block_state::MbarrierState;
use super::running::{Result, Run, classify};
use super::warp::Group;
use crate::arith::float::{self, HalfMode, Mode, Round};
use crate::check::FaultKind;
use crate::check::race::{Access, Gathered, Verdict};
use crate::ir::code::{AccessSpace, Address, Atomic, AtomicOp, Mbarrier};
use crate::memory::SHARED_WINDOW;
use crate::ptx::ast::Type;

/// The new value of a location.
fn update(op: AtomicOp, ty: Type, old: u64, b: u64, c: u64, flush: bool) -> u64 {
    let narrow = ty.bytes() < 8;
    let signed = |x: u64| {
        if narrow {
            i64::from(x as u32 as i32)
        } else {
            x as i64
        }
    };
    let unsigned = |x: u64| if narrow { u64::from(x as u32) } else { x };
    let truncate = |x: u64| if narrow { u64::from(x as u32) } else { x };
    match op {
        AtomicOp::Add => match ty {
            Type::F32 => {
                let mode = Mode {
                    round: Round::Nearest,
                    ftz: flush,
                    sat: false,
                };
                u64::from(float::add_f32(old as u32, b as u32, mode))
            }
            Type::F64 => float::add_f64(old, b, Round::Nearest),
            Type::F16 => u64::from(float::add_f16(old as u16, b as u16, HalfMode::PLAIN)),
            Type::F16x2 => u64::from(float::add_f16x2(old as u32, b as u32, HalfMode::PLAIN)),
            Type::BF16 => u64::from(float::add_bf16(old as u16, b as u16, HalfMode::PLAIN)),
            Type::BF16x2 => u64::from(float::add_bf16x2(old as u32, b as u32, HalfMode::PLAIN)),
            _ => truncate(old.wrapping_add(b)),
        },
        AtomicOp::Min if ty.is_signed() => truncate(signed(old).min(signed(b)) as u64),
        AtomicOp::Max if ty.is_signed() => truncate(signed(old).max(signed(b)) as u64),
        AtomicOp::Min => unsigned(old).min(unsigned(b)),
        AtomicOp::Max => unsigned(old).max(unsigned(b)),
        AtomicOp::And => old & b,
        AtomicOp::Or => old | b,
        AtomicOp::Xor => old ^ b,
        AtomicOp::Exch => b,
        AtomicOp::Cas => {
            if old == b {
                c
            } else {
                old
            }
        }
        AtomicOp::Inc => {
            if old >= b {
                0
            } else {
                old + 1
            }
        }
        AtomicOp::Dec => {
            if old == 0 || old > b {
                b
            } else {
                old - 1
            }
        }
    }
}

macro_rules! exchange {
    ($atomic:ty, $int:ty, $address:expr, $f:expr) => {{
        // SAFETY: the caller has checked that the address is aligned and inside an allocation of
        // the launch's snapshot, which outlives the launch.
        let cell = unsafe { &*($address as *const $atomic) };
        let mut old = cell.load(SeqCst);
        loop {
            let new = $f(u64::from(old)) as $int;
            match cell.compare_exchange_weak(old, new, SeqCst, SeqCst) {
                Ok(_) => break u64::from(old),
                Err(now) => old = now,
            }
        }
    }};
}

impl Run<'_, '_> {
    pub fn atomic(&mut self, g: &Group, a: &Atomic, active: u32) -> Result<()> {
        let addresses = self.addresses(&a.address);
        let b = a.b.fetch_wide(&self.warp.regs);
        let c = a.c.map_or([0; 32], |c| c.fetch_wide(&self.warp.regs));
        let bytes = a.ty.bytes();
        let mask = u64::MAX >> (64 - 8 * bytes);
        let mut old = [0u64; 32];
        let swap = a.op == AtomicOp::Cas;
        let reads = a.op != AtomicOp::Exch;
        let kind = AccessKind::Update { swap, reads };
        let site = self.launch.functions[g.function as usize].insts[g.pc as usize].site;
        self.count(g.function, site, |c| {
            c.atomics += u64::from(active.count_ones())
        });
        self.by_space(a.space, &addresses, active, |this, space, at, part| {
            match space {
                AccessSpace::Global | AccessSpace::Generic | AccessSpace::Const => {
                    this.check_global(g, at, part, bytes, kind, true, space)?;
                    this.strong_writes(at, part, 0, a.order.release);
                    for lane in lanes(part) {
                        let address = at[lane];
                        let f = |old: u64| {
                            update(a.op, a.ty, old, b[lane] & mask, c[lane] & mask, true)
                        };
                        old[lane] = match bytes {
                            2 => exchange!(AtomicU16, u16, address, f),
                            8 => exchange!(AtomicU64, u64, address, f),
                            _ => exchange!(AtomicU32, u32, address, f),
                        };
                        if f(old[lane]) != old[lane] {
                            this.block.changes += 1;
                        }
                    }
                    let w = this.warp.index as usize;
                    for lane in lanes(part) {
                        this.block
                            .clocks
                            .strong_read(w, at[lane], this.launch.table);
                    }
                    this.block.polls += 1 + part.count_ones() / 8;
                    this.count_access(g, AccessSpace::Global, at, part, bytes, kind);
                }
                AccessSpace::Shared => {
                    this.check_offsets(
                        g,
                        at,
                        part,
                        bytes,
                        space,
                        u64::from(this.block.shared_bytes),
                    )?;
                    let w = this.warp.index as usize;
                    for lane in lanes(part) {
                        let offset = at[lane] as usize;
                        if this.launch.shadow_shared {
                            let access = Access { strong: true, swap };
                            let block = &mut *this.block;
                            let mut early = Verdict::Fine;
                            if reads {
                                let v = block.shadow.read(
                                    &block.clocks,
                                    offset as u32,
                                    bytes,
                                    w,
                                    Some(lane as u32),
                                    access,
                                );
                                // The race checker keeps the update: an unordered write that comes later finds it.
                                if v == Verdict::Uninit {
                                    early = v;
                                } else {
                                    this.judge(g, v, lane, at[lane], "updated")?;
                                }
                            }
                            let block = &mut *this.block;
                            let clocks = &block.clocks;
                            let v = block.shadow.write(
                                clocks,
                                offset as u32,
                                bytes,
                                w,
                                lane as u32,
                                access,
                                false,
                                || false,
                            );
                            this.judge(g, v, lane, at[lane], "updated")?;
                            this.judge(g, early, lane, at[lane], "updated")?;
                        }
                        let memory = this.block.shared_slice_mut();
                        let mut raw = [0u8; 8];
                        raw[..bytes as usize]
                            .copy_from_slice(&memory[offset..offset + bytes as usize]);
                        old[lane] = u64::from_le_bytes(raw);
                        let new =
                            update(a.op, a.ty, old[lane], b[lane] & mask, c[lane] & mask, false);
                        memory[offset..offset + bytes as usize]
                            .copy_from_slice(&new.to_le_bytes()[..bytes as usize]);
                        if new != old[lane] {
                            this.block.changes += 1;
                        }
                    }
                    // A release covers its own write. The warps of a block take turns, so no other warp has seen the write yet.
                    this.strong_writes(at, part, SHARED_WINDOW, a.order.release);
                    for lane in lanes(part) {
                        this.block.clocks.strong_read(
                            w,
                            SHARED_WINDOW + at[lane],
                            this.launch.table,
                        );
                    }
                    this.block.polls += 1;
                    this.count_access(g, space, at, part, bytes, kind);
                }
                AccessSpace::Local | AccessSpace::Param => {
                    let lane = part.trailing_zeros() as usize;
                    let message =
                        String::from("an atomic operation on memory that only one thread has");
                    return Err(this.bad_access(
                        g,
                        FaultKind::OutOfBounds,
                        lane,
                        space,
                        at[lane],
                        message,
                    ));
                }
            }
            Ok(())
        })?;
        if let Some(d) = a.target {
            d.store_wide(&mut self.warp.regs, &old, active);
        }
        Ok(())
    }

    /// The offsets in shared memory of the lanes' `mbarrier` objects, checked.
    fn objects(&mut self, g: &Group, address: &Address, active: u32) -> Result<[u64; 32]> {
        let a = self.addresses(address).map(|a| {
            if classify(a) == AccessSpace::Shared {
                a - SHARED_WINDOW
            } else {
                a
            }
        });
        self.check_offsets(
            g,
            &a,
            active,
            8,
            AccessSpace::Shared,
            u64::from(self.block.shared_bytes),
        )?;
        Ok(a)
    }

    fn object(&mut self, g: &Group, at: u64, lane: usize) -> Result<&mut MbarrierState> {
        if !self.block.mbarriers.contains_key(&(at as u32)) {
            let message = String::from("this mbarrier was never initialised");
            return Err(self.bad_access(
                g,
                FaultKind::Uninitialized,
                lane,
                AccessSpace::Shared,
                at,
                message,
            ));
        }
        Ok(self.block.mbarriers.entry(at as u32).or_default())
    }

    /// One arrival at an `mbarrier`. The last of a phase completes the phase.
    fn arrive(&mut self, g: &Group, at: u64, lane: usize, count: u32, drop: bool) -> Result<u64> {
        let w = self.warp.index as usize;
        let mut gathered = std::mem::take(&mut self.object(g, at, lane)?.gathered);
        self.block.clocks.arrive(w, &mut gathered);
        let state = self.object(g, at, lane)?;
        state.gathered = gathered;
        let token = state.phase << 32 | u64::from(state.pending);
        if count == 0 || count > state.pending {
            let message = format!(
                "{count} arrivals at an mbarrier that expects {}",
                state.pending
            );
            return Err(self.bad_access(
                g,
                FaultKind::DivergentBarrier,
                lane,
                AccessSpace::Shared,
                at,
                message,
            ));
        }
        state.pending -= count;
        if drop {
            state.expected -= count.min(state.expected);
        }
        if state.pending == 0 {
            state.phase += 1;
            state.pending = state.expected;
            state.done = std::mem::take(&mut state.gathered);
        }
        self.block.changes += 1;
        Ok(token)
    }

    pub fn mbarrier(&mut self, g: &Group, m: &Mbarrier, active: u32) -> Result<()> {
        match m {
            Mbarrier::Init { address, count } => {
                let a = self.objects(g, address, active)?;
                let counts = *self.warp.regs.get32(*count);
                for lane in lanes(active) {
                    let expected = counts[lane];
                    if expected == 0 || expected >= 1 << 20 {
                        let message =
                            format!("an mbarrier expects 1 to 2^20 − 1 arrivals, not {expected}");
                        return Err(self.bad_access(
                            g,
                            FaultKind::Unsupported,
                            lane,
                            AccessSpace::Shared,
                            a[lane],
                            message,
                        ));
                    }
                    let state = MbarrierState {
                        expected,
                        pending: expected,
                        phase: 0,
                        gathered: Gathered::default(),
                        done: Gathered::default(),
                    };
                    self.block.mbarriers.insert(a[lane] as u32, state);
                }
            }
            Mbarrier::Inval { address } => {
                let a = self.objects(g, address, active)?;
                for lane in lanes(active) {
                    self.object(g, a[lane], lane)?;
                    self.block.mbarriers.remove(&(a[lane] as u32));
                }
            }
            Mbarrier::Arrive {
                address,
                state,
                count,
                drop,
                ..
            } => {
                let a = self.objects(g, address, active)?;
                let counts = count.map(|c| *self.warp.regs.get32(c));
                let mut tokens = [0; 32];
                for lane in lanes(active) {
                    tokens[lane] =
                        self.arrive(g, a[lane], lane, counts.map_or(1, |c| c[lane]), *drop)?;
                }
                if let Some(d) = state {
                    self.warp.regs.put64(*d, &tokens, active);
                }
            }
            Mbarrier::Test {
                address,
                done,
                state,
                parity,
            } => {
                let a = self.objects(g, address, active)?;
                let tokens = state.map(|s| *self.warp.regs.get64(s));
                let parities = parity.map(|p| *self.warp.regs.get32(p));
                let mut bits = 0;
                let w = self.warp.index as usize;
                for lane in lanes(active) {
                    let object = self.object(g, a[lane], lane)?;
                    let over = match (tokens, parities) {
                        (Some(t), _) => t[lane] >> 32 < object.phase,
                        (None, Some(p)) => object.phase & 1 != u64::from(p[lane] & 1),
                        (None, None) => false,
                    };
                    if over {
                        bits |= 1 << lane;
                        let gathered = object.done.clone();
                        self.block.clocks.acquire(w, &gathered);
                    }
                }
                self.block.polls += 16;
                self.warp.regs.put_pred(*done, bits, active);
            }
            Mbarrier::PendingCount { d, state } => {
                let tokens = *self.warp.regs.get64(*state);
                self.warp.regs.put32(*d, &tokens.map(|t| t as u32), active);
            }
            Mbarrier::CopyArrive { address, noinc } => {
                let a = self.objects(g, address, active)?;
                // The arrival happens when the thread's copies are complete: they are completed now.
                self.complete_copies(g, active)?;
                for lane in lanes(active) {
                    if !noinc {
                        self.object(g, a[lane], lane)?.pending += 1;
                    }
                    self.arrive(g, a[lane], lane, 1, false)?;
                }
            }
        }
        Ok(())
    }
}
