//! A block: its warps, shared memory, barriers, and the adversarial order in which its warps run.

use super::block_state::{BlockState, Released};
use super::interpreter::WarpOutcome;
use super::launch_state::Launch;
use super::local::Local;
use super::running::Run;
use super::trouble::Trouble;
use super::warp::{Group, GroupState, Warp};
use crate::check::race::{Clocks, SharedShadow};
use crate::check::{Fault, FaultKind};
use crate::ir::code::{BarrierKind, Op};
use crate::ir::regs::{Base, Regs};

/// A small generator (splitmix64): the schedule depends on the seed and the block only.
#[derive(Clone, Copy)]
pub(super) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Warp instructions that a block runs, after a read of unwritten memory, before the read is reported as `uninit`.
const LOOK_FOR_WRITER: u64 = 1 << 18;

/// A block in flight.
pub(super) struct Block {
    pub state: BlockState,
    pub warps: Vec<Warp>,
    random: Random,
    /// Warps stopped at a read of unwritten memory: the warp, its fault, and the block's instruction count at that time.
    parked: Vec<(usize, Box<Trouble>, u64)>,
    /// How often it yielded to other blocks since anything changed.
    pub yields: u64,
    /// The generation of changes that `yields` belongs to.
    pub generation: u64,
}

/// How far a block got.
pub(super) enum BlockOutcome {
    Done,
    /// It stands at a read of unwritten memory, and only a write of another block can make that a race.
    Parked,
    /// It may be waiting for other blocks.
    Yield,
}

impl Block {
    pub fn new(launch: &Launch<'_>, linear: u64, reuse: Option<Block>) -> Block {
        let (gx, gy) = (
            u64::from(launch.config.grid[0]),
            u64::from(launch.config.grid[1]),
        );
        let coordinates = [
            (linear % gx) as u32,
            (linear / gx % gy) as u32,
            (linear / gx / gy) as u32,
        ];
        let threads = launch.block_threads;
        let count = threads.div_ceil(32);
        let (mut shared, mut shadow, mut old_warps, tally) = match reuse {
            Some(b) => (b.state.shared, b.state.shadow, b.warps, b.state.tally),
            None => (
                Vec::new(),
                SharedShadow::default(),
                Vec::new(),
                launch.new_tally(),
            ),
        };
        // Shared memory starts as garbage, the same in every run.
        shared.clear();
        shared.resize(
            (launch.shared_bytes as usize).div_ceil(8) + 1,
            0xcdcd_cdcd_cdcd_cdcd,
        );
        if launch.shadow_shared {
            shadow.reset(
                launch.shared_bytes,
                launch.kernel.narrowest_shared,
                launch.kernel.general_sync,
            );
        }
        let f = &launch.functions[launch.kernel.function as usize];
        let mut warps = Vec::with_capacity(count as usize);
        for index in 0..count {
            let lanes = (threads - index * 32).min(32);
            let initial = if lanes == 32 {
                u32::MAX
            } else {
                (1 << lanes) - 1
            };
            let (mut regs, mut local) = match old_warps.pop() {
                Some(w) => (w.regs, w.local),
                None => (Regs::default(), Local::default()),
            };
            regs.base = Base::default();
            regs.reserve(Base::default(), f.n32, f.n64, f.npred);
            local.reserve(f.frame_bytes);
            local.forget(u32::MAX, 0, local.stride());
            launch.fill_constants(&mut regs, launch.kernel.function, 0, u32::MAX);
            warps.push(Warp {
                index,
                initial,
                live: initial,
                regs,
                groups: vec![Group {
                    mask: initial,
                    function: launch.kernel.function,
                    pc: 0,
                    base: Base::default(),
                    frame: 0,
                    dynamic: 0,
                    callers: Vec::new(),
                    state: GroupState::Ready,
                    spins: 0,
                    last: None,
                    stamp: 0,
                }],
                local,
                copies: Vec::new(),
                committed: [0; 32],
                instructions: 0,
                rotate: false,
                stamp: 0,
                last_effect: None,
            });
        }
        let live_warps = if count == 32 {
            u32::MAX
        } else {
            (1 << count) - 1
        };
        let mut random = Random(launch.options.seed ^ linear.wrapping_mul(0xd134_2543_de82_ef95));
        random.next();
        Block {
            state: BlockState {
                linear,
                coordinates,
                shared,
                shared_bytes: launch.shared_bytes,
                shadow,
                clocks: Clocks::new(linear as u32, count as usize, launch.kernel.general_sync),
                barriers: Default::default(),
                released: Vec::new(),
                mbarriers: std::collections::HashMap::new(),
                tally,
                polls: 0,
                changes: 0,
                live_warps,
                gone: [None; 32],
                instructions: 0,
            },
            warps,
            random,
            parked: Vec::new(),
            yields: 0,
            generation: 0,
        }
    }

    /// Runs until the block is done or seems to wait for others.
    pub fn run(&mut self, launch: &Launch<'_>) -> Result<BlockOutcome, Box<Fault>> {
        self.state.polls = 0;
        let mut blocked = 0u32;
        loop {
            if self.state.live_warps == 0 {
                return Ok(BlockOutcome::Done);
            }
            let mut runnable = self.state.live_warps & !blocked;
            if let Some((first, trouble, since)) = self.parked.first() {
                for (at, ..) in &self.parked {
                    runnable &= !(1 << at);
                }
                if self.state.instructions - since > LOOK_FOR_WRITER {
                    return Err(self.fault(launch, *first, trouble));
                }
                // No warp of the block is left that could be the writer: only another block can.
                if runnable == 0 {
                    return if trouble.elsewhere {
                        Ok(BlockOutcome::Parked)
                    } else {
                        Err(self.fault(launch, *first, trouble))
                    };
                }
            }
            if runnable == 0 {
                return Err(self.deadlock(launch));
            }
            let mut skip = self.random.next() % u64::from(runnable.count_ones());
            let mut left = runnable;
            while skip > 0 {
                left &= left - 1;
                skip -= 1;
            }
            let at = left.trailing_zeros() as usize;
            // Long and short bursts: one warp far ahead of the others, or finely interleaved.
            let budget = match self.random.next() % 8 {
                0 => 1 + self.random.next() % 16,
                1 => 16 + self.random.next() % 256,
                _ => 16384,
            };
            let (polls, ran) = (self.state.polls, self.state.instructions);
            let warp = &mut self.warps[at];
            let mut run = Run {
                launch,
                block: &mut self.state,
                warp,
            };
            let outcome = match run.run(budget as i64) {
                Ok(outcome) => outcome,
                // If there is a writer, the fault is the missing order: the other warps run on until one writes there.
                Err(trouble) if trouble.early => {
                    let now = self.state.instructions;
                    self.parked.push((at, trouble, now));
                    continue;
                }
                Err(trouble) => {
                    return Err(match self.parked.first() {
                        Some((first, early, _)) if trouble.kind != FaultKind::Race => {
                            self.fault(launch, *first, early)
                        }
                        _ => self.fault(launch, at, &trouble),
                    });
                }
            };
            // Many instructions with few reads of what others write count as progress.
            let ran = self.state.instructions - ran;
            if ran >= 1024 && u64::from(self.state.polls - polls) < ran / 64 {
                self.state.changes += 1;
            }
            match outcome {
                WarpOutcome::Budget => {}
                WarpOutcome::Blocked => blocked |= 1 << at,
                WarpOutcome::Done => {
                    self.state.live_warps &= !(1 << at);
                    self.state.clocks.exit(at);
                    if let Err(trouble) = self.left(launch, at) {
                        return Err(self.fault(launch, at, &trouble));
                    }
                    for id in 0..16 {
                        self.state.try_complete(id);
                    }
                }
            }
            for r in std::mem::take(&mut self.state.released) {
                blocked &= !r.warps;
                self.resume(launch, &r);
            }
            if self.state.polls > 2048 {
                return Ok(BlockOutcome::Yield);
            }
            let limit = launch.options.max_warp_instructions_per_block;
            if limit != 0 && self.state.instructions > limit {
                let message = format!(
                    "the block ran {} warp instructions, the watchdog's limit is {limit}",
                    self.state.instructions
                );
                let trouble = Trouble::at_warp(&self.warps[at], FaultKind::Deadlock, message);
                return Err(self.fault(launch, at, &trouble));
            }
        }
    }

    /// Makes the warps that a completed barrier releases ready to run.
    fn resume(&mut self, launch: &Launch<'_>, r: &Released) {
        for warp in self
            .warps
            .iter_mut()
            .filter(|w| r.warps >> w.index & 1 != 0)
        {
            for group in warp
                .groups
                .iter_mut()
                .filter(|g| g.state == GroupState::Barrier(r.id))
            {
                let inst = &launch.functions[group.function as usize].insts[group.pc as usize];
                warp.regs.base = group.base;
                if let Op::Barrier(b) = &inst.op {
                    match b.kind {
                        BarrierKind::Popc(d) => warp.regs.put32(d, &[r.holds; 32], group.mask),
                        BarrierKind::And(d) => {
                            let all = if r.holds == r.total { u32::MAX } else { 0 };
                            warp.regs.put_pred(d, all, group.mask);
                        }
                        BarrierKind::Or(d) => {
                            let any = if r.holds > 0 { u32::MAX } else { 0 };
                            warp.regs.put_pred(d, any, group.mask);
                        }
                        BarrierKind::Sync | BarrierKind::Arrive => {}
                    }
                }
                group.state = GroupState::Ready;
                group.pc += 1;
                group.last = None;
            }
        }
    }

    /// The fault of warp `at`, which exited, if it executed something behind a barrier that others wait at.
    fn left(&mut self, launch: &Launch<'_>, at: usize) -> Result<(), Box<Trouble>> {
        self.state.gone[at] = self.warps[at].last_effect;
        for id in 0..16 {
            let b = &self.state.barriers[id];
            if b.waiting != 0 && b.count.is_none() {
                self.state.went_past(launch, id, at)?;
            }
        }
        Ok(())
    }

    /// The fault when no warp can run.
    fn deadlock(&self, launch: &Launch<'_>) -> Box<Fault> {
        let waited_for = self.state.barriers.iter().enumerate();
        if let Some((id, b)) = waited_for.into_iter().find(|(_, b)| b.waiting != 0) {
            let at = b.waiting.trailing_zeros() as usize;
            let missing = self.state.live_warps & !b.arrived;
            let elsewhere = if missing == 0 {
                format!("{} threads take part", b.count.unwrap_or(0))
            } else {
                format!("warp {} waits elsewhere", missing.trailing_zeros())
            };
            let message = format!(
                "barrier {id}: {} warps wait, {elsewhere}",
                b.waiting.count_ones()
            );
            let kind = if b.count.is_none() {
                FaultKind::DivergentBarrier
            } else {
                FaultKind::Deadlock
            };
            return self.fault(
                launch,
                at,
                &Trouble::at_warp(&self.warps[at], kind, message),
            );
        }
        let at = self.state.live_warps.trailing_zeros() as usize % self.warps.len();
        let message = String::from("no warp of the block can go on");
        self.fault(
            launch,
            at,
            &Trouble::at_warp(&self.warps[at], FaultKind::Deadlock, message),
        )
    }

    /// The fault of the first read of unwritten memory, if a warp is stopped at one.
    pub fn early_fault(&self, launch: &Launch<'_>) -> Option<Box<Fault>> {
        let (at, trouble, _) = self.parked.first()?;
        Some(self.fault(launch, *at, trouble))
    }

    pub fn fault(&self, launch: &Launch<'_>, warp: usize, trouble: &Trouble) -> Box<Fault> {
        let f = &launch.functions[trouble.function as usize];
        let site = f
            .insts
            .get(trouble.pc as usize)
            .and_then(|i| f.sites.get(i.site as usize));
        let linear = warp as u32 * 32 + trouble.lane;
        let [bx, by, _] = launch.config.block;
        let thread = [linear % bx, linear / bx % by, linear / bx / by];
        Box::new(Fault {
            kind: trouble.kind,
            kernel: launch.kernel.name.clone(),
            ptx_line: site.map_or(0, |s| s.line),
            instruction: site.map_or_else(String::new, |s| s.text.clone()),
            source: launch.module.source(site.and_then(|s| s.location)),
            block: self.state.coordinates,
            thread,
            address: trouble.address,
            allocation: trouble.allocation.clone(),
            message: trouble.message.clone(),
            seed: launch.options.seed,
        })
    }
}
