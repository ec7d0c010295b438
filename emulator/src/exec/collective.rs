//! Warp collectives: who has arrived, and what they compute.

use super::access::lanes;
use super::running::{Result, Run};
use super::warp::{Group, GroupState};
use crate::check::FaultKind;
use crate::ir::code::{AtomicOp, Collective, Op, ShuffleMode, VoteMode};
use crate::ir::regs::{Base, S32};

/// The lanes of one group that take part in a collective, and their instruction.
struct Part<'p> {
    base: Base,
    mask: u32,
    op: &'p Collective,
}

impl Run<'_, '_> {
    /// The member mask that a waiting group names.
    pub fn member_mask(&self, g: &Group) -> u32 {
        let inst = &self.launch.functions[g.function as usize].insts[g.pc as usize];
        match &inst.op {
            Op::Collective(s, _) => {
                let at = (g.base.r32 + s.0) as usize;
                self.warp.regs.r32[at].0[g.mask.trailing_zeros() as usize % 32]
            }
            _ => u32::MAX,
        }
    }

    /// Executes a collective if all lanes of its mask are in this group, and returns true. If not, the group is left
    /// waiting.
    pub fn collective(
        &mut self,
        g: &mut Group,
        mask: S32,
        op: &Collective,
        active: u32,
    ) -> Result<bool> {
        let masks = *self.warp.regs.get32(mask);
        for lane in lanes(active) {
            if masks[lane] >> lane & 1 == 0 {
                let message = format!(
                    "lane {lane} is not in its member mask {:#010x}",
                    masks[lane]
                );
                return Err(self.trouble(g, FaultKind::BadMask, lane as u32, message));
            }
        }
        let beyond =
            lanes(active).find(|l| masks[*l] & !self.warp.initial != 0 && masks[*l] != u32::MAX);
        if let Some(lane) = beyond {
            let message = format!(
                "the member mask {:#010x} names lanes that don't exist",
                masks[lane]
            );
            return Err(self.trouble(g, FaultKind::BadMask, lane as u32, message));
        }
        let mut waiting = 0u32;
        let mut left = active;
        while left != 0 {
            let named = masks[left.trailing_zeros() as usize];
            let same = lanes(left)
                .filter(|l| masks[*l] == named)
                .fold(0, |m, l| m | 1 << l);
            left &= !same;
            if same == named & self.warp.live {
                let base = g.base;
                self.together(
                    &[Part {
                        base,
                        mask: same,
                        op,
                    }],
                    named,
                );
            } else {
                waiting |= same;
            }
        }
        if waiting == 0 {
            return Ok(true);
        }
        if waiting != g.mask {
            let rest = g.split(g.mask & !waiting, g.pc + 1);
            self.warp.groups.push(rest);
            let last = g.last;
            *g = g.split(waiting, g.pc);
            g.last = last;
        }
        // One group per mask, so that each waits for its own.
        let named = masks[waiting.trailing_zeros() as usize];
        let same = lanes(waiting)
            .filter(|l| masks[*l] == named)
            .fold(0, |m, l| m | 1 << l);
        if same != waiting {
            let mut other = g.split(waiting & !same, g.pc);
            other.state = GroupState::Ready;
            self.warp.groups.push(other);
            g.mask = same;
        }
        g.state = GroupState::Collective;
        Ok(false)
    }

    /// Executes the collectives whose masks are complete now. Lanes may have arrived at one instruction, or at several with
    /// the same operation.
    pub fn resolve_collectives(&mut self) -> Result<()> {
        let functions = self.launch.functions;
        let mut at = 0;
        while at < self.warp.groups.len() {
            let g = &self.warp.groups[at];
            if g.state != GroupState::Collective {
                at += 1;
                continue;
            }
            let named = self.member_mask(g);
            let text = |g: &Group| {
                let f = &functions[g.function as usize];
                f.sites[f.insts[g.pc as usize].site as usize].text.as_str()
            };
            let members: Vec<usize> = (0..self.warp.groups.len())
                .filter(|i| {
                    let o = &self.warp.groups[*i];
                    o.state == GroupState::Collective
                        && self.member_mask(o) == named
                        && text(o) == text(g)
                })
                .collect();
            let union = members.iter().fold(0, |m, i| m | self.warp.groups[*i].mask);
            if union != named & self.warp.live {
                at += 1;
                continue;
            }
            let mut parts = Vec::new();
            for i in &members {
                let o = &self.warp.groups[*i];
                if let Op::Collective(_, op) =
                    &functions[o.function as usize].insts[o.pc as usize].op
                {
                    parts.push(Part {
                        base: o.base,
                        mask: o.mask,
                        op,
                    });
                }
            }
            self.together(&parts, named);
            for i in &members {
                let o = &mut self.warp.groups[*i];
                o.state = GroupState::Ready;
                o.last = Some(o.pc);
                o.pc += 1;
            }
            at += 1;
        }
        Ok(())
    }

    /// Computes a collective whose lanes have all arrived.
    fn together(&mut self, parts: &[Part<'_>], named: u32) {
        let w = self.warp.index as usize;
        let live = self.warp.live;
        self.block.clocks.warp_sync(w, named & live, live);
        let here = parts.iter().fold(0, |m, p| m | p.mask);
        let Some(first) = parts.first() else { return };
        let before = self.warp.regs.base;
        // Every lane's value, from the registers of its own instruction.
        let mut a = [0u64; 32];
        let (mut b, mut c) = ([0u32; 32], [0u32; 32]);
        let mut bits = 0u32;
        for p in parts {
            self.warp.regs.base = p.base;
            let regs = &self.warp.regs;
            match p.op {
                Collective::Shuffle {
                    a: sa,
                    b: sb,
                    c: sc,
                    ..
                } => {
                    let (va, vb, vc) = (regs.get32(*sa), regs.get32(*sb), regs.get32(*sc));
                    for l in lanes(p.mask) {
                        (a[l], b[l], c[l]) = (u64::from(va[l]), vb[l], vc[l]);
                    }
                }
                Collective::Vote {
                    source, negated, ..
                } => {
                    let v = regs.get_pred(*source);
                    bits |= (if *negated { !v } else { v }) & p.mask;
                }
                Collective::Match { a: sa, .. } => {
                    let v = sa.fetch_wide(regs);
                    lanes(p.mask).for_each(|l| a[l] = v[l]);
                }
                Collective::Reduce { a: sa, .. } => {
                    let v = regs.get32(*sa);
                    lanes(p.mask).for_each(|l| a[l] = u64::from(v[l]));
                }
                Collective::Sync | Collective::Elect { .. } => {}
            }
        }
        let mut out = [0u32; 32];
        let mut flags = 0u32;
        match first.op {
            Collective::Sync => {}
            Collective::Shuffle { mode, .. } => {
                for l in lanes(here) {
                    let lane = l as u32;
                    let (value, clamp, segment) = (b[l] & 31, c[l] & 31, c[l] >> 8 & 31);
                    let highest = (lane & segment) | (clamp & !segment);
                    let lowest = lane & segment;
                    let (from, inside) = match mode {
                        ShuffleMode::Up => (
                            lane.wrapping_sub(value),
                            lane as i32 - value as i32 >= highest as i32,
                        ),
                        ShuffleMode::Down => (lane + value, lane + value <= highest),
                        ShuffleMode::Bfly => (lane ^ value, lane ^ value <= highest),
                        ShuffleMode::Idx => {
                            let from = lowest | (value & !segment);
                            (from, from <= highest)
                        }
                    };
                    let from = if inside { from & 31 } else { lane };
                    flags |= u32::from(inside) << l;
                    // The value of a lane that doesn't take part is undefined; garbage makes that visible.
                    out[l] = if here >> from & 1 != 0 {
                        a[from as usize] as u32
                    } else {
                        0xdead_beef
                    };
                }
            }
            Collective::Vote { mode, .. } => {
                let all = bits & here == here;
                let any = bits & here != 0;
                let verdict = match mode {
                    VoteMode::All => all,
                    VoteMode::Any => any,
                    VoteMode::Uni => all || !any,
                    VoteMode::Ballot => false,
                };
                flags = if verdict { u32::MAX } else { 0 };
                out = [bits & here; 32];
            }
            Collective::Match { all, .. } => {
                let lead = a[here.trailing_zeros() as usize % 32];
                let equal = lanes(here).all(|l| a[l] == lead);
                for l in lanes(here) {
                    out[l] = if *all {
                        if equal { here } else { 0 }
                    } else {
                        lanes(here)
                            .filter(|o| a[*o] == a[l])
                            .fold(0, |m, o| m | 1 << o)
                    };
                }
                flags = if equal { u32::MAX } else { 0 };
            }
            Collective::Reduce { op, signed, .. } => {
                let values = lanes(here).map(|l| a[l] as u32);
                let result = values.reduce(|x, y| match op {
                    AtomicOp::Add => x.wrapping_add(y),
                    AtomicOp::And => x & y,
                    AtomicOp::Or => x | y,
                    AtomicOp::Xor => x ^ y,
                    AtomicOp::Min if *signed => (x as i32).min(y as i32) as u32,
                    AtomicOp::Max if *signed => (x as i32).max(y as i32) as u32,
                    AtomicOp::Min => x.min(y),
                    _ => x.max(y),
                });
                out = [result.unwrap_or(0); 32];
            }
            Collective::Elect { .. } => {
                let leader = here.trailing_zeros() % 32;
                out = [leader; 32];
                flags = 1 << leader;
            }
        }
        for p in parts {
            self.warp.regs.base = p.base;
            let regs = &mut self.warp.regs;
            match p.op {
                Collective::Sync => {}
                Collective::Shuffle { d, p: pred, .. } => {
                    regs.put32(*d, &out, p.mask);
                    if let Some(s) = pred {
                        regs.put_pred(*s, flags, p.mask);
                    }
                }
                Collective::Match { d, p: pred, .. } => {
                    regs.put32(*d, &out, p.mask);
                    if let Some(s) = pred {
                        regs.put_pred(*s, flags, p.mask);
                    }
                }
                Collective::Vote { pred, ballot, .. } => {
                    if let Some(s) = pred {
                        regs.put_pred(*s, flags, p.mask);
                    }
                    if let Some(d) = ballot {
                        regs.put32(*d, &out, p.mask);
                    }
                }
                Collective::Reduce { d, .. } => regs.put32(*d, &out, p.mask),
                Collective::Elect { d, p: pred } => {
                    if let Some(d) = d {
                        regs.put32(*d, &out, p.mask);
                    }
                    regs.put_pred(*pred, flags, p.mask);
                }
            }
        }
        self.warp.regs.base = before;
    }
}
