//! Barriers of a block: `bar` and `barrier`.

use super::running::{End, Result, Run};
use super::warp::{Group, GroupState};
use crate::check::FaultKind;
use crate::ir::code::{Barrier, BarrierKind};

impl Run<'_, '_> {
    /// All of the warp's lanes have arrived at a block barrier.
    pub fn arrive_at(&mut self, id: usize) {
        let w = self.warp.index as usize;
        let state = &mut self.block.barriers[id];
        state.arrived |= 1 << w;
        state.lanes[w] = 0;
        let mut gathered = std::mem::take(&mut state.gathered);
        self.block.clocks.arrive(w, &mut gathered);
        self.block.barriers[id].gathered = gathered;
    }

    /// Arrives at a barrier, and waits there if the instruction says so; `None` if the group goes on.
    pub fn barrier(&mut self, g: &mut Group, b: &Barrier, active: u32) -> Result<Option<End>> {
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
        g.state = GroupState::Barrier(id);
        if warp_arrived {
            self.block.try_complete(id);
        }
        Ok(Some(End::Stays))
    }
}
