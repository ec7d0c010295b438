//! The interpreter: runs one warp, group by group, until it has to wait.

use super::running::{End, Result, Run, classify};
use super::trouble::Trouble;
use super::warp::{Group, GroupState};
use crate::arith::matrix;
use crate::check::FaultKind;
use crate::ir::code::{AccessSpace, CallTarget, Op};
use crate::ir::layout;

/// A group yields to the other groups of its warp after so many backward jumps.
const SPINS: u32 = 1024;
/// Instructions that the group which it yields to may run ahead.
const AHEAD: i64 = 4096;
/// Backward jumps that an atomic or a strong load counts as: a loop with one of them probably waits.
const POLL_SPINS: u32 = 31;
/// Instructions that a strong load uses up of a warp's turn.
const POLL_COST: i64 = 64;
/// Why a warp stopped running.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WarpOutcome {
    Budget,
    Blocked,
    Done,
}

impl Run<'_, '_> {
    /// Runs for at most `budget` instructions.
    pub fn run(&mut self, mut budget: i64) -> Result<WarpOutcome> {
        loop {
            let Some(at) = self.pick()? else {
                return Ok(if self.warp.groups.is_empty() {
                    WarpOutcome::Done
                } else {
                    WarpOutcome::Blocked
                });
            };
            if budget <= 0 {
                return Ok(WarpOutcome::Budget);
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

    /// Joins groups at the same instruction and chooses the group that is furthest behind to run.
    fn pick(&mut self) -> Result<Option<usize>> {
        if let [only] = &self.warp.groups[..] {
            match only.state {
                GroupState::Ready => return Ok(Some(0)),
                GroupState::Barrier(_) => return Ok(None),
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
                    (GroupState::Ready, GroupState::Ready)
                        | (GroupState::Aligned, GroupState::Aligned)
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
            .filter(|g| g.state == GroupState::Aligned && g.mask == live)
        {
            g.state = GroupState::Ready;
        }
        if groups.iter().any(|g| g.state == GroupState::Collective) {
            self.resolve_collectives()?;
        }
        let groups = &self.warp.groups;
        let ready = groups
            .iter()
            .enumerate()
            .filter(|(_, g)| g.state == GroupState::Ready);
        let chosen = if self.warp.rotate {
            ready.min_by_key(|(_, g)| g.stamp).map(|(i, _)| i)
        } else {
            ready.min_by(|(_, a), (_, b)| a.order(b)).map(|(i, _)| i)
        };
        if chosen.is_some()
            || groups
                .iter()
                .any(|g| matches!(g.state, GroupState::Barrier(_)))
        {
            return Ok(chosen);
        }
        // No group can run: the one that waits earliest in the program is reported.
        let Some(g) = groups.iter().min_by(|a, b| a.order(b)) else {
            return Ok(None);
        };
        let g = g.clone();
        Err(self.stuck(&g))
    }

    /// The fault of a group that waits for lanes which cannot arrive.
    fn stuck(&self, g: &Group) -> Box<Trouble> {
        let missing = self.warp.live & !g.mask;
        let (kind, message) = if g.state == GroupState::Collective {
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

    /// Where a group must stop to let another run or join it.
    fn stop(&self, group: &Group, boosted: bool) -> u32 {
        if boosted {
            return u32::MAX;
        }
        self.warp
            .groups
            .iter()
            .filter(|g| g.state == GroupState::Ready)
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
                // Another group stands here or behind: they join, or the other one runs.
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
                        // `pick` chooses between both parts: the one behind runs.
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
                            AccessSpace::Const => self
                                .launch
                                .snapshot
                                .find(*address)
                                .is_some_and(|a| a.kind == crate::memory::AllocationKind::Const),
                            AccessSpace::Global => classify(*address) == AccessSpace::Global,
                            space => classify(*address) == *space,
                        };
                        bits |= u32::from(is) << lane;
                    }
                    self.warp.regs.put_pred(*d, bits, active);
                }
                Op::Load(l) => {
                    self.load(g, l, active)?;
                    if l.order.strong {
                        // Probably a loop that waits: other warps and groups run sooner.
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
                    // The stack shrinks only if all lanes restore it: the others still use what they took.
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

    /// Lanes exit. A group of the warp that waits for them at an instruction which they went past is a fault.
    fn exit(&mut self, g: &Group, lanes: u32) -> Result<()> {
        for waiting in &self.warp.groups {
            let named = match waiting.state {
                GroupState::Collective => self.member_mask(waiting),
                GroupState::Aligned => u32::MAX,
                _ => continue,
            };
            let Some(last) = g.last else { continue };
            if named & lanes == 0 || waiting.function != g.function {
                continue;
            }
            let f = &self.launch.functions[g.function as usize];
            if layout::reaches(f, waiting.pc, last) {
                let kind = if waiting.state == GroupState::Collective {
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
        // The lanes' asynchronous copies complete now at the latest.
        if !self.warp.copies.is_empty() {
            self.complete_copies(g, lanes)?;
        }
        self.warp.live &= !lanes;
        // Where lanes reach a barrier one by one, the exit of the lanes that don't may complete it for the warp.
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
}
