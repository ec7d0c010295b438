//! The interpreter: runs one warp, group by group, until it has to wait.

use super::block::BlockState;
use super::launch::Launch;
use super::local;
use super::trouble::Trouble;
use super::warp::{Caller, Group, State, Warp};
use crate::arith::matrix;
use crate::check::FaultKind;
use crate::check::race::Clocks;
use crate::counters::Counts;
use crate::ir::code::{
    Address, Barrier, BarrierKind, Call, CallTarget, Op, Passed, Reg, Space, Special,
};
use crate::ir::layout;
use crate::ir::regs::{Base, SP};
use crate::memory::{CODE_WINDOW, LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, WINDOW_BYTES};

/// Jumps back after which a group that others of its warp wait for lets them run.
const SPINS: u32 = 1024;
/// Instructions that a group may then run ahead.
const AHEAD: i64 = 4096;
/// Jumps back that an atomic or a strong load counts as: a loop with one of them probably waits.
const POLL_SPINS: u32 = 31;
/// Instructions that a strong load counts as in a warp's turn.
const POLL_COST: i64 = 64;
/// Deepest nesting of calls.
const MAX_CALLS: usize = 4096;

/// Why a warp stopped running.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Budget,
    Blocked,
    Done,
}

enum End {
    /// All its lanes exited.
    Exited,
    /// It is still there, in whatever state it says.
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
    /// Runs for at most so many instructions.
    pub fn run(&mut self, mut budget: i64) -> Result<Outcome> {
        loop {
            let Some(at) = self.pick()? else {
                return Ok(if self.warp.groups.is_empty() {
                    Outcome::Done
                } else {
                    Outcome::Blocked
                });
            };
            if budget <= 0 {
                return Ok(Outcome::Budget);
            }
            let mut group = self.warp.groups.swap_remove(at);
            self.warp.regs.base = group.base;
            let started = budget;
            let end = self.run_group(&mut group, &mut budget);
            let ran = (started - budget).max(0) as u64;
            self.warp.instructions += ran;
            self.block.instructions += ran;
            self.warp.stamp += 1;
            group.stamp = self.warp.stamp;
            if let End::Stays = end? {
                self.warp.groups.push(group);
            }
        }
    }

    pub fn clocks(&mut self) -> &mut Clocks {
        &mut self.block.clocks
    }

    /// Brings groups together and chooses the one to run: the one furthest behind.
    fn pick(&mut self) -> Result<Option<usize>> {
        if let [only] = &self.warp.groups[..] {
            match only.state {
                State::Ready => return Ok(Some(0)),
                State::Barrier(_) => return Ok(None),
                _ => {}
            }
        }
        if self.warp.groups.is_empty() {
            return Ok(None);
        }
        let groups = &mut self.warp.groups;
        let mut a = 0;
        while a < groups.len() {
            let mut b = a + 1;
            while b < groups.len() {
                let joins = matches!(
                    (groups[a].state, groups[b].state),
                    (State::Ready, State::Ready) | (State::Aligned, State::Aligned)
                );
                if joins && groups[a].same_place(&groups[b]) {
                    let other = groups.swap_remove(b);
                    groups[a].mask |= other.mask;
                    groups[a].dynamic = groups[a].dynamic.max(other.dynamic);
                    groups[a].last = groups[a].last.max(other.last);
                } else {
                    b += 1;
                }
            }
            a += 1;
        }
        let live = self.warp.live;
        for g in groups
            .iter_mut()
            .filter(|g| g.state == State::Aligned && g.mask == live)
        {
            g.state = State::Ready;
        }
        if groups.iter().any(|g| g.state == State::Collective) {
            self.resolve_collectives()?;
        }
        let groups = &self.warp.groups;
        let ready = groups
            .iter()
            .enumerate()
            .filter(|(_, g)| g.state == State::Ready);
        let chosen = if self.warp.rotate {
            ready.min_by_key(|(_, g)| g.stamp).map(|(i, _)| i)
        } else {
            ready.min_by(|(_, a), (_, b)| a.order(b)).map(|(i, _)| i)
        };
        if chosen.is_some() || groups.iter().any(|g| matches!(g.state, State::Barrier(_))) {
            return Ok(chosen);
        }
        // Nobody can go on: the group that waits earliest in the program is to blame.
        let Some(g) = groups.iter().min_by(|a, b| a.order(b)) else {
            return Ok(None);
        };
        let g = g.clone();
        Err(self.stuck(&g))
    }

    /// A group waits for lanes that can't come.
    fn stuck(&self, g: &Group) -> Box<Trouble> {
        let missing = self.warp.live & !g.mask;
        let (kind, message) = if g.state == State::Collective {
            let named = self.member_mask(g);
            let absent = named & missing;
            (
                FaultKind::BadMask,
                format!(
                    "the member mask {named:#010x} names lanes {absent:#010x}, which wait elsewhere; only lanes {:#010x} arrived",
                    g.mask
                ),
            )
        } else {
            (
                FaultKind::DivergentBarrier,
                format!(
                    "only lanes {:#010x} of the warp arrived, lanes {missing:#010x} wait elsewhere",
                    g.mask
                ),
            )
        };
        self.trouble(g, kind, g.mask.trailing_zeros(), message)
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

    /// Where a group must stop to let another run or join it.
    fn stop(&self, group: &Group, boosted: bool) -> u32 {
        if boosted {
            return u32::MAX;
        }
        self.warp
            .groups
            .iter()
            .filter(|g| g.state == State::Ready)
            .map(|g| group.stop_for(g))
            .min()
            .unwrap_or(u32::MAX)
    }

    fn run_group(&mut self, g: &mut Group, budget: &mut i64) -> Result<End> {
        let boosted = std::mem::take(&mut self.warp.rotate) && !self.warp.groups.is_empty();
        if boosted {
            *budget = (*budget).min(AHEAD);
        }
        let mut stop = self.stop(g, boosted);
        let mut first = true;
        let functions = self.launch.functions;
        loop {
            let f = &functions[g.function as usize];
            if !first && g.pc >= stop {
                // Another group is here, or behind: it is its turn, or they go on together.
                return Ok(End::Stays);
            }
            first = false;
            if *budget <= 0 {
                return Ok(End::Stays);
            }
            let inst = &f.insts[g.pc as usize];
            let active = match inst.guard {
                None => g.mask,
                Some((p, negated)) => {
                    let p = self.warp.regs.get_pred(p);
                    g.mask & if negated { !p } else { p }
                }
            };
            if let Op::Jump(to) = inst.op {
                g.pc = to;
                if to < stop || boosted {
                    continue;
                }
                return Ok(End::Stays);
            }
            *budget -= 1;
            self.count(g.function, inst.site, |c| {
                c.warp_instructions += 1;
                c.lane_instructions += u64::from(active.count_ones());
            });
            match &inst.op {
                Op::Alu(f) => {
                    if active != 0 {
                        f(&mut self.warp.regs, active);
                    }
                    g.pc += 1;
                    g.last = Some(g.pc - 1);
                    continue;
                }
                Op::Branch(to) => {
                    let back = *to <= g.pc;
                    if active == g.mask {
                        g.pc = *to;
                    } else if active == 0 {
                        g.pc += 1;
                        continue;
                    } else {
                        let other = g.split(active, *to);
                        *g = g.split(g.mask & !active, g.pc + 1);
                        self.warp.groups.push(other);
                        // The one behind runs: both go back and are chosen from.
                        return Ok(End::Stays);
                    }
                    if back && !self.warp.groups.is_empty() {
                        g.spins += 1;
                        if g.spins >= SPINS {
                            g.spins = 0;
                            self.warp.rotate = true;
                            return Ok(End::Stays);
                        }
                    }
                    continue;
                }
                Op::BranchIndex(index, targets) => {
                    if active == 0 {
                        g.pc += 1;
                        continue;
                    }
                    let values = *self.warp.regs.get32(*index);
                    let mut left = active;
                    let rest = g.mask & !active;
                    let original = g.clone();
                    let mut parts: Vec<Group> = Vec::new();
                    while left != 0 {
                        let lane = left.trailing_zeros();
                        let value = values[lane as usize];
                        let Some(to) = targets.get(value as usize) else {
                            let message = format!(
                                "branch index {value}, there are {} targets",
                                targets.len()
                            );
                            return Err(self.trouble(g, FaultKind::BadTarget, lane, message));
                        };
                        let same = (0..32)
                            .filter(|l| left >> l & 1 != 0 && values[*l] == value)
                            .fold(0, |m, l| m | 1 << l);
                        left &= !same;
                        parts.push(original.split(same, *to));
                    }
                    if rest != 0 {
                        parts.push(original.split(rest, original.pc + 1));
                    }
                    let Some(mine) = parts.pop() else { continue };
                    if parts.is_empty() {
                        g.pc = mine.pc;
                        continue;
                    }
                    *g = mine;
                    self.warp.groups.append(&mut parts);
                    return Ok(End::Stays);
                }
                Op::Call(call) => {
                    if active == 0 {
                        g.pc += 1;
                        continue;
                    }
                    if let CallTarget::Builtin(b) = call.target {
                        self.builtin(g, b, call, active)?;
                        g.pc += 1;
                        continue;
                    }
                    self.call(g, call, active)?;
                    if g.mask != active || matches!(call.target, CallTarget::Indirect(_)) {
                        return Ok(End::Stays);
                    }
                    stop = self.stop(g, boosted);
                    continue;
                }
                Op::Return => {
                    if active == 0 {
                        g.pc += 1;
                        continue;
                    }
                    if active != g.mask {
                        let other = g.split(active, g.pc);
                        let rest = g.split(g.mask & !active, g.pc + 1);
                        *g = other;
                        self.warp.groups.push(rest);
                        self.go_back(g)?;
                        return Ok(End::Stays);
                    }
                    self.go_back(g)?;
                    stop = self.stop(g, boosted);
                    continue;
                }
                Op::Exit => {
                    if active == 0 {
                        g.pc += 1;
                        continue;
                    }
                    self.exit(g, active)?;
                    if active == g.mask {
                        return Ok(End::Exited);
                    }
                    g.mask &= !active;
                    g.pc += 1;
                    continue;
                }
                Op::Trap => {
                    if active == 0 {
                        g.pc += 1;
                        continue;
                    }
                    return Err(self.trouble(
                        g,
                        FaultKind::Trap,
                        active.trailing_zeros(),
                        String::from("the kernel trapped"),
                    ));
                }
                _ if active == 0 => {
                    g.pc += 1;
                    continue;
                }
                Op::Barrier(b) => {
                    if let Some(end) = self.barrier(g, b, active)? {
                        return Ok(end);
                    }
                    continue;
                }
                Op::Collective(mask, c) => {
                    self.warp.last_effect = self.effect(g);
                    if self.collective(g, *mask, c, active)? {
                        g.last = Some(g.pc);
                        g.pc += 1;
                        continue;
                    }
                    return Ok(End::Stays);
                }
                Op::LoadMatrix(_)
                | Op::MoveMatrix(..)
                | Op::FragmentMove(_)
                | Op::MatrixMultiply(_) => {
                    if active != self.warp.live {
                        return self.wait_aligned(g, active);
                    }
                    if self.warp.live != u32::MAX {
                        let message = format!(
                            "all 32 lanes execute this instruction, lanes {:#010x} have exited or don't exist",
                            !self.warp.live
                        );
                        return Err(self.trouble(
                            g,
                            FaultKind::DivergentBarrier,
                            active.trailing_zeros(),
                            message,
                        ));
                    }
                    match &inst.op {
                        Op::LoadMatrix(l) => self.load_matrix(g, l)?,
                        Op::MoveMatrix(d, a) => {
                            let out = matrix::movmatrix(self.warp.regs.get32(*a));
                            self.warp.regs.put32(*d, &out, u32::MAX);
                        }
                        Op::FragmentMove(m) => self.fragment_move(g, m)?,
                        Op::MatrixMultiply(m) => self.multiply(g, m),
                        _ => {}
                    }
                }
                Op::Special(d, special) => self.special(*d, *special, active),
                Op::ActiveMask(d) => self.warp.regs.put32(*d, &[active; 32], active),
                Op::IsSpace { d, a, space } => {
                    let a = *self.warp.regs.get64(*a);
                    let mut bits = 0;
                    for (lane, address) in a.iter().enumerate() {
                        let is = match space {
                            Space::Const => self
                                .launch
                                .snapshot
                                .find(*address)
                                .is_some_and(|a| a.kind == crate::memory::AllocationKind::Const),
                            Space::Global => classify(*address) == Space::Global,
                            space => classify(*address) == *space,
                        };
                        bits |= u32::from(is) << lane;
                    }
                    self.warp.regs.put_pred(*d, bits, active);
                }
                Op::Load(l) => {
                    self.load(g, l, active)?;
                    if l.order.strong {
                        // Probably a loop that waits: the others get their turn sooner.
                        *budget -= POLL_COST;
                        g.spins = g.spins.saturating_add(POLL_SPINS);
                    }
                }
                Op::Store(s) => {
                    self.warp.last_effect = self.effect(g);
                    self.store(g, s, active)?;
                }
                Op::Atomic(a) => {
                    self.warp.last_effect = self.effect(g);
                    self.atomic(g, a, active)?;
                    g.spins = g.spins.saturating_add(POLL_SPINS);
                }
                Op::CopyAsync(c) => self.copy_async(g, c, active)?,
                Op::CopyCommit => {
                    for lane in (0..32).filter(|l| active >> l & 1 != 0) {
                        self.warp.committed[lane] += 1;
                    }
                }
                Op::CopyWait(left) => self.copy_wait(g, *left, active)?,
                Op::Mbarrier(m) => self.mbarrier(g, m, active)?,
                Op::Fence => {
                    let w = self.warp.index as usize;
                    self.clocks().fence(w);
                }
                Op::Sleep => {
                    self.block.polls += 64;
                    *budget = (*budget).min(0);
                    if !self.warp.groups.is_empty() {
                        self.warp.rotate = true;
                        g.pc += 1;
                        g.last = Some(g.pc - 1);
                        return Ok(End::Stays);
                    }
                }
                Op::StackAllocate(d, size, align) => self.allocate(g, *d, *size, *align, active)?,
                Op::StackSave(d) => {
                    let top = u64::from(g.dynamic);
                    d.store_wide(&mut self.warp.regs, &[top; 32], active);
                }
                Op::StackRestore(a) => {
                    // Lanes that don't restore still have what they took.
                    if active == g.mask {
                        let tops = a.fetch_wide(&self.warp.regs);
                        let most = (0..32)
                            .filter(|l| active >> l & 1 != 0)
                            .map(|l| tops[l])
                            .max();
                        g.dynamic = g.dynamic.min(most.unwrap_or(0) as u32);
                    }
                }
                Op::Discard(space, address) => self.discard(g, *space, address, active)?,
                Op::Hint => {}
                Op::Jump(_) => {}
            }
            g.last = Some(g.pc);
            g.pc += 1;
        }
    }

    /// The place for [`Warp::last_effect`]: only instructions of the kernel itself count.
    fn effect(&self, g: &Group) -> Option<u32> {
        if g.callers.is_empty() {
            Some(g.pc)
        } else {
            self.warp.last_effect
        }
    }

    /// Adds to an instruction's counts, where they are kept.
    #[inline(always)]
    pub fn count(&mut self, function: u32, site: u32, add: impl FnOnce(&mut Counts)) {
        if let Some(t) = &mut self.block.tally {
            add(&mut t.sites[function as usize][site as usize]);
        }
    }

    /// An aligned instruction that only a part of the warp has reached.
    fn wait_aligned(&mut self, g: &mut Group, active: u32) -> Result<End> {
        if active != g.mask {
            let rest = g.split(g.mask & !active, g.pc + 1);
            self.warp.groups.push(rest);
            *g = g.split(active, g.pc);
        }
        g.state = State::Aligned;
        Ok(End::Stays)
    }

    /// Lanes exit; whoever waits for them in the warp waits in vain if they went past.
    fn exit(&mut self, g: &Group, lanes: u32) -> Result<()> {
        for waiting in &self.warp.groups {
            let named = match waiting.state {
                State::Collective => self.member_mask(waiting),
                State::Aligned => u32::MAX,
                _ => continue,
            };
            let Some(last) = g.last else { continue };
            if named & lanes == 0 || waiting.function != g.function {
                continue;
            }
            let f = &self.launch.functions[g.function as usize];
            if layout::reaches(f, waiting.pc, last) {
                let kind = if waiting.state == State::Collective {
                    FaultKind::BadMask
                } else {
                    FaultKind::DivergentBarrier
                };
                let message = format!(
                    "lanes {:#010x} wait here, but lanes {:#010x} went past and exited",
                    waiting.mask,
                    named & lanes
                );
                return Err(self.trouble(waiting, kind, waiting.mask.trailing_zeros(), message));
            }
        }
        // What was copied for the lanes lands at the latest now.
        if !self.warp.copies.is_empty() {
            self.land_all(g, lanes)?;
        }
        self.warp.live &= !lanes;
        // A barrier that lanes reach one by one is complete for the warp when those that don't have left.
        let w = self.warp.index as usize;
        for id in 0..16 {
            let state = &mut self.block.barriers[id];
            if state.lanes[w] != 0 && state.lanes[w] & self.warp.live == self.warp.live {
                self.arrive_at(id);
                self.block.try_complete(id as u32);
            }
        }
        Ok(())
    }

    fn call(&mut self, g: &mut Group, call: &Call, active: u32) -> Result<()> {
        let mut mask = active;
        let target = match call.target {
            CallTarget::Direct(index) => index,
            CallTarget::Indirect(s) => {
                let values = *self.warp.regs.get64(s);
                let lane = active.trailing_zeros();
                let address = values[lane as usize];
                let index = address.wrapping_sub(CODE_WINDOW) / 16;
                let valid = address >= CODE_WINDOW && address.is_multiple_of(16);
                let Some(f) = self
                    .launch
                    .functions
                    .get(index as usize)
                    .filter(|f| valid && !f.is_kernel)
                else {
                    let message = format!("a call to {address:#x}, which is not a function");
                    return Err(self.trouble(g, FaultKind::BadTarget, lane, message));
                };
                if f.params.len() != call.arguments.len() || f.returns.len() != call.returns.len() {
                    let message =
                        format!("a call of `{}` with another function's prototype", f.name);
                    return Err(self.trouble(g, FaultKind::BadTarget, lane, message));
                }
                mask = (0..32)
                    .filter(|l| active >> l & 1 != 0 && values[*l] == address)
                    .fold(0, |m, l| m | 1 << l);
                index as u32
            }
            CallTarget::Builtin(_) => return Ok(()),
        };
        if g.callers.len() >= MAX_CALLS {
            let message = format!("calls are nested deeper than {MAX_CALLS}");
            return Err(self.trouble(g, FaultKind::StackOverflow, mask.trailing_zeros(), message));
        }
        if mask != g.mask {
            // The others come later: those with another target to this instruction again, those
            // that don't call to the next.
            let again = active & !mask;
            let skip = g.mask & !active;
            if again != 0 {
                let part = g.split(again, g.pc);
                self.warp.groups.push(part);
            }
            if skip != 0 {
                let part = g.split(skip, g.pc + 1);
                self.warp.groups.push(part);
            }
            *g = g.split(mask, g.pc);
        }
        let caller = &self.launch.functions[g.function as usize];
        let callee = &self.launch.functions[target as usize];
        let frame = (g.frame + caller.frame_bytes + g.dynamic).next_multiple_of(16);
        self.grow_stack(g, mask, frame, callee.frame_bytes)?;
        let base = Base {
            r32: g.base.r32 + caller.n32,
            r64: g.base.r64 + caller.n64,
            pred: g.base.pred + caller.npred,
        };
        self.warp
            .regs
            .reserve(base, callee.n32, callee.n64, callee.npred);
        let arguments: Vec<_> = call
            .arguments
            .iter()
            .zip(&callee.params)
            .map(|(a, p)| (*a, *p))
            .collect();
        for (from, to) in arguments {
            self.pass(mask, (g.base, g.frame, from), (base, frame, to));
        }
        g.callers.push(Caller {
            function: g.function,
            back: g.pc + 1,
            base: g.base,
            frame: g.frame,
            dynamic: g.dynamic,
        });
        (g.function, g.pc, g.base, g.frame, g.dynamic) = (target, 0, base, frame, 0);
        self.warp.regs.base = base;
        self.launch
            .fill_constants(&mut self.warp.regs, target, frame, mask);
        Ok(())
    }

    /// Takes so many bytes of local memory, which nobody has written yet.
    fn grow_stack(&mut self, g: &Group, mask: u32, at: u32, bytes: u32) -> Result<()> {
        let end = u64::from(at) + u64::from(bytes);
        if end > u64::from(local::MAX_BYTES) {
            let message = format!(
                "the stack needs {end} bytes per thread, the limit is {}",
                local::MAX_BYTES
            );
            return Err(self.trouble(g, FaultKind::StackOverflow, mask.trailing_zeros(), message));
        }
        self.warp.local.reserve(end as u32);
        self.warp.local.forget(mask, at, bytes);
        Ok(())
    }

    /// `alloca`: all lanes get the same address, with room for the one that asks for most.
    fn allocate(
        &mut self,
        g: &mut Group,
        d: Reg,
        size: Reg,
        align: u32,
        active: u32,
    ) -> Result<()> {
        let sizes = size.fetch_wide(&self.warp.regs);
        let most = (0..32)
            .filter(|l| active >> l & 1 != 0)
            .map(|l| sizes[l])
            .max()
            .unwrap_or(0);
        let top = g.frame + self.launch.functions[g.function as usize].frame_bytes + g.dynamic;
        let at = top.next_multiple_of(align.max(8));
        // More than the limit is too much in any case.
        let bytes = most.min(u64::from(local::MAX_BYTES) + 1) as u32;
        self.grow_stack(g, active, at, bytes)?;
        g.dynamic += at + bytes - top;
        d.store_wide(&mut self.warp.regs, &[u64::from(at); 32], active);
        Ok(())
    }

    fn go_back(&mut self, g: &mut Group) -> Result<()> {
        let Some(caller) = g.callers.pop() else {
            return Err(self.trouble(
                g,
                FaultKind::BadTarget,
                g.mask.trailing_zeros(),
                String::from("a return without a call"),
            ));
        };
        let callee = &self.launch.functions[g.function as usize];
        let site = &self.launch.functions[caller.function as usize].insts[caller.back as usize - 1];
        if let Op::Call(call) = &site.op {
            for (from, to) in callee.returns.iter().zip(&call.returns) {
                self.pass(
                    g.mask,
                    (g.base, g.frame, *from),
                    (caller.base, caller.frame, *to),
                );
            }
        }
        (g.function, g.pc, g.base, g.frame) =
            (caller.function, caller.back, caller.base, caller.frame);
        g.dynamic = caller.dynamic;
        g.last = None;
        self.warp.regs.base = g.base;
        Ok(())
    }

    /// Copies an argument or a return value between frames.
    fn pass(&mut self, mask: u32, from: (Base, u32, Passed), to: (Base, u32, Passed)) {
        let size = from.2.size().min(to.2.size());
        let mut bytes = vec![0u8; size as usize];
        for lane in (0..32usize).filter(|l| mask >> l & 1 != 0) {
            self.warp.regs.base = from.0;
            let written = match from.2 {
                Passed::Memory(at, _) => {
                    self.warp.local.read(lane, from.1 + at, &mut bytes);
                    self.warp.local.is_written(lane, from.1 + at, size)
                }
                Passed::Register(Reg::W(s), _) => {
                    let v = self.warp.regs.get32(s)[lane].to_le_bytes();
                    bytes.copy_from_slice(&v[..size as usize]);
                    true
                }
                Passed::Register(Reg::D(s), _) => {
                    let v = self.warp.regs.get64(s)[lane].to_le_bytes();
                    bytes.copy_from_slice(&v[..size as usize]);
                    true
                }
            };
            self.warp.regs.base = to.0;
            let mut wide = [0u8; 8];
            let n = bytes.len().min(8);
            wide[..n].copy_from_slice(&bytes[..n]);
            match to.2 {
                Passed::Memory(at, _) => {
                    // Struct padding is passed as it is, also where nobody wrote it.
                    if written {
                        self.warp.local.write(lane, to.1 + at, &bytes);
                    } else {
                        for (i, byte) in bytes.iter().enumerate() {
                            let from_at = match from.2 {
                                Passed::Memory(a, _) => from.1 + a + i as u32,
                                Passed::Register(..) => 0,
                            };
                            if self.warp.local.is_written(lane, from_at, 1) {
                                self.warp.local.write(lane, to.1 + at + i as u32, &[*byte]);
                            }
                        }
                    }
                }
                Passed::Register(Reg::W(s), _) => {
                    let mut v = *self.warp.regs.get32(s);
                    v[lane] = u64::from_le_bytes(wide) as u32;
                    self.warp.regs.put32(s, &v, 1 << lane);
                }
                Passed::Register(Reg::D(s), _) => {
                    let mut v = *self.warp.regs.get64(s);
                    v[lane] = u64::from_le_bytes(wide);
                    self.warp.regs.put64(s, &v, 1 << lane);
                }
            }
        }
        self.warp.regs.base = from.0;
    }

    /// All of the warp's lanes have arrived at a block barrier.
    fn arrive_at(&mut self, id: usize) {
        let w = self.warp.index as usize;
        let state = &mut self.block.barriers[id];
        state.arrived |= 1 << w;
        state.lanes[w] = 0;
        let mut gathered = std::mem::take(&mut state.gathered);
        self.block.clocks.arrive(w, &mut gathered);
        self.block.barriers[id].gathered = gathered;
    }

    fn barrier(&mut self, g: &mut Group, b: &Barrier, active: u32) -> Result<Option<End>> {
        if b.aligned && active != self.warp.live {
            return self.wait_aligned(g, active).map(Some);
        }
        if active != g.mask {
            let rest = g.split(g.mask & !active, g.pc + 1);
            self.warp.groups.push(rest);
            *g = g.split(active, g.pc);
        }
        self.warp.last_effect = self.effect(g);
        let lane = active.trailing_zeros();
        let uniform = |values: &[u32; 32]| {
            let v = values[lane as usize];
            (0..32)
                .all(|l| active >> l & 1 == 0 || values[l] == v)
                .then_some(v)
        };
        let Some(id) = uniform(self.warp.regs.get32(b.id)) else {
            return Err(self.trouble(
                g,
                FaultKind::DivergentBarrier,
                lane,
                String::from("lanes name different barriers"),
            ));
        };
        if id >= 16 {
            return Err(self.trouble(
                g,
                FaultKind::Unsupported,
                lane,
                format!("barrier {id}, there are 16"),
            ));
        }
        let count = match b.count {
            Some(s) => match uniform(self.warp.regs.get32(s)) {
                Some(n) if n > 0 && n % 32 == 0 && n <= 1024 => Some(n),
                Some(n) => {
                    let message = format!(
                        "{n} threads at a barrier: the count is a multiple of 32 from 32 to 1024"
                    );
                    return Err(self.trouble(g, FaultKind::DivergentBarrier, lane, message));
                }
                None => {
                    let message = String::from("lanes give different thread counts");
                    return Err(self.trouble(g, FaultKind::DivergentBarrier, lane, message));
                }
            },
            None => None,
        };
        let holds = match b.source {
            Some((p, negated)) => {
                let p = self.warp.regs.get_pred(p);
                (if negated { !p } else { p }) & active
            }
            None => 0,
        };
        let site = self.launch.functions[g.function as usize].insts[g.pc as usize].site;
        self.count(g.function, site, |c| c.barriers += 1);
        let w = self.warp.index as usize;
        let state = &mut self.block.barriers[id as usize];
        let fresh = state.arrived == 0 && state.lanes.iter().all(|l| *l == 0);
        if !fresh && state.count != count {
            let message = format!(
                "barrier {id}: this warp says {count:?} threads, others said {:?} (none is the whole block)",
                state.count
            );
            return Err(self.trouble(g, FaultKind::DivergentBarrier, lane, message));
        }
        if fresh {
            state.count = count;
            state.place = None;
        }
        let place = (g.function, g.pc);
        if b.aligned && count.is_none() && b.kind != BarrierKind::Arrive {
            match state.place {
                Some(other) if other != place => {
                    let there = &self.launch.functions[other.0 as usize];
                    let line = there
                        .insts
                        .get(other.1 as usize)
                        .map_or(0, |i| there.sites[i.site as usize].line);
                    let message = format!(
                        "other warps of the block wait at a different barrier, at PTX line {line}"
                    );
                    return Err(self.trouble(g, FaultKind::DivergentBarrier, lane, message));
                }
                _ => state.place = Some(place),
            }
        }
        if count.is_none() && state.place.is_some() {
            let done = !self.block.live_warps;
            for at in (0..32).filter(|w| done >> w & 1 != 0 && self.block.gone[*w].is_some()) {
                self.block.went_past(self.launch, id as usize, at)?;
            }
        }
        let state = &mut self.block.barriers[id as usize];
        state.lanes[w] |= active;
        state.holds += holds.count_ones();
        state.total += active.count_ones();
        let warp_arrived = state.lanes[w] & self.warp.live == self.warp.live;
        if warp_arrived {
            if state.arrived >> w & 1 != 0 {
                let message =
                    format!("barrier {id}: the warp arrives twice before the barrier completes");
                return Err(self.trouble(g, FaultKind::DivergentBarrier, lane, message));
            }
            self.arrive_at(id as usize);
        }
        if b.kind == BarrierKind::Arrive {
            if warp_arrived {
                self.block.try_complete(id);
            }
            g.last = Some(g.pc);
            g.pc += 1;
            return Ok(if self.block.released.is_empty() {
                None
            } else {
                Some(End::Stays)
            });
        }
        self.block.barriers[id as usize].waiting |= 1 << w;
        g.state = State::Barrier(id);
        if warp_arrived {
            self.block.try_complete(id);
        }
        Ok(Some(End::Stays))
    }

    fn special(&mut self, d: Reg, special: Special, mask: u32) {
        let [bx, by, bz] = self.launch.config.block;
        let first = self.warp.index * 32;
        let mut out = [0u64; 32];
        let lanes = |f: &dyn Fn(u32) -> u64| -> [u64; 32] { std::array::from_fn(|l| f(l as u32)) };
        let time = self.warp.instructions * 4 + self.block.instructions;
        match special {
            Special::Tid(0) => out = lanes(&|l| u64::from((first + l) % bx)),
            Special::Tid(1) => out = lanes(&|l| u64::from((first + l) / bx % by)),
            Special::Tid(2) => out = lanes(&|l| u64::from((first + l) / bx / by)),
            Special::Ntid(axis) => {
                out = [u64::from(*[bx, by, bz].get(axis as usize).unwrap_or(&0)); 32]
            }
            Special::Ctaid(axis) => {
                out = [u64::from(*self.block.coordinates.get(axis as usize).unwrap_or(&0)); 32];
            }
            Special::Nctaid(axis) => {
                out = [u64::from(*self.launch.config.grid.get(axis as usize).unwrap_or(&0)); 32];
            }
            Special::LaneId => out = lanes(&u64::from),
            Special::WarpId => out = [u64::from(self.warp.index); 32],
            Special::NWarpId => out = [48; 32],
            Special::SmId => out = [self.block.linear % u64::from(super::limits::SMS); 32],
            Special::NSmId => out = [u64::from(super::limits::SMS); 32],
            Special::GridId => out = [self.launch.grid_id; 32],
            Special::LaneMaskEq => out = lanes(&|l| 1 << l),
            Special::LaneMaskLt => out = lanes(&|l| (1u64 << l) - 1),
            Special::LaneMaskLe => out = lanes(&|l| (2u64 << l) - 1),
            Special::LaneMaskGt => out = lanes(&|l| !((2u64 << l) - 1) & 0xffff_ffff),
            Special::LaneMaskGe => out = lanes(&|l| !((1u64 << l) - 1) & 0xffff_ffff),
            Special::Clock | Special::Clock64 => out = [time; 32],
            Special::ClockHi => out = [time >> 32; 32],
            Special::GlobalTimer | Special::GlobalTimerLo => out = [time; 32],
            Special::GlobalTimerHi => out = [time >> 32; 32],
            Special::DynamicSharedSize => {
                out = [u64::from(self.launch.config.dynamic_shared_bytes); 32]
            }
            Special::TotalSharedSize => out = [u64::from(self.launch.shared_bytes); 32],
            // The driver's convention, which cooperative groups read: the address of the grid's barrier.
            Special::EnvReg(1) => out = [self.launch.grid_workspace >> 32; 32],
            Special::EnvReg(2) => out = [self.launch.grid_workspace & 0xffff_ffff; 32],
            Special::Tid(_) | Special::EnvReg(_) | Special::Zero => {}
        }
        d.store_wide(&mut self.warp.regs, &out, mask);
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
pub(super) fn classify(address: u64) -> Space {
    let within = |window: u64| address.wrapping_sub(window) < WINDOW_BYTES;
    if within(SHARED_WINDOW) {
        Space::Shared
    } else if within(LOCAL_WINDOW) {
        Space::Local
    } else if within(PARAM_WINDOW) {
        Space::Param
    } else {
        Space::Global
    }
}
