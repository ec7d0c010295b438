//! Vector clocks per warp, and what fences, strong accesses and barriers make of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

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
    pub(super) fn covers(&self, block: u32, warp: usize, clock: u32) -> bool {
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
    pub(super) fn plain_below(&self, cell: u64) -> Option<u64> {
        if !self.any_plain.load(SeqCst) {
            return None;
        }
        self.plain().get(&cell).copied()
    }

    /// Sets the covered write of `cell` when a new write takes the cell over.
    pub(super) fn cover(&self, cell: u64, below: Option<u64>) {
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
    /// The block's linear index, cut to the bits that cells keep.
    pub(super) block: u32,
    /// By warp: the clock at which all its lanes were last ordered with each other.
    pub(super) full: Vec<u32>,
    /// By warp, where only a part of its lanes were ordered with each other: `[a][b]` is the clock up to which lane b's
    /// accesses are ordered before lane a.
    partial: Vec<Option<Box<[[u32; 32]; 32]>>>,
    /// By warp: the accesses of other blocks that are ordered before it.
    pub(super) known: Vec<Option<Arc<Known>>>,
    /// By warp: the launch's release count when it last acquired something.
    pub(super) acquired_at: Vec<u64>,
    /// By warp: what its next strong write releases.
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
    pub(super) fn lane_ordered(&self, warp: usize, from: u32, clock: u32, to: Option<u32>) -> bool {
        clock <= self.full[warp] || self.partial_ordered(warp, from, clock, to)
    }

    #[cold]
    pub(super) fn partial_ordered(
        &self,
        warp: usize,
        from: u32,
        clock: u32,
        to: Option<u32>,
    ) -> bool {
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
