//! Counting while a block runs: one set of counts per instruction, and the cache model.

use std::sync::Mutex;

use super::Counts;
use crate::ir::code::Function;

/// Counts per instruction, per function.
pub(crate) struct Tally {
    /// By function, then by site.
    pub sites: Vec<Vec<Counts>>,
}

impl Tally {
    pub fn new(functions: &[Function]) -> Tally {
        Tally {
            sites: functions
                .iter()
                .map(|f| vec![Counts::default(); f.sites.len()])
                .collect(),
        }
    }

    pub fn add(&mut self, other: &Tally) {
        for (mine, theirs) in self.sites.iter_mut().zip(&other.sites) {
            for (m, t) in mine.iter_mut().zip(theirs) {
                m.add(t);
            }
        }
    }
}

const LINE_BYTES: u64 = 128;
const WAYS: usize = 16;
const SETS: usize = (6 << 20) / (LINE_BYTES as usize * WAYS);
const SHARDS: usize = 64;

#[derive(Clone, Copy, Default)]
struct Line {
    tag: u64,
    /// Four sectors each.
    valid: u8,
    dirty: u8,
    used: u64,
}

struct Shard {
    sets: Vec<[Line; WAYS]>,
    time: u64,
}

/// A 6 MB cache of 128-byte lines in 32-byte sectors, 16 ways, least recently used. A launch starts
/// with it empty and its dirty sectors are written back at the end.
pub(crate) struct Cache {
    shards: Vec<Mutex<Shard>>,
}

impl Default for Cache {
    fn default() -> Self {
        let per_shard = SETS.div_ceil(SHARDS);
        Cache {
            shards: (0..SHARDS)
                .map(|_| {
                    Mutex::new(Shard {
                        sets: vec![[Line::default(); WAYS]; per_shard],
                        time: 0,
                    })
                })
                .collect(),
        }
    }
}

impl Cache {
    fn place(line: u64) -> (usize, usize) {
        // Sets are hashed, as a power-of-two stride would otherwise use few of them.
        let hashed = (line.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) as usize % SETS;
        (hashed % SHARDS, hashed / SHARDS)
    }

    fn shard(&self, index: usize) -> std::sync::MutexGuard<'_, Shard> {
        self.shards[index]
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Drops the line at `address` without writing it back.
    pub fn discard(&self, address: u64) {
        let line = address / LINE_BYTES;
        let (shard, set) = Self::place(line);
        let mut shard = self.shard(shard);
        for l in &mut shard.sets[set] {
            if l.used != 0 && l.tag == line {
                *l = Line::default();
            }
        }
    }

    /// Touches the sector at `address`; returns the bytes read from and written to DRAM for it.
    pub fn touch(&self, address: u64, write: bool) -> (u64, u64) {
        let line = address / LINE_BYTES;
        let (shard, set) = Self::place(line);
        let sector = 1u8 << (address % LINE_BYTES / 32);
        let mut shard = self.shard(shard);
        shard.time += 1;
        let time = shard.time;
        let set = &mut shard.sets[set];
        let (mut read, mut written) = (0, 0);
        let way = match set.iter().position(|l| l.used != 0 && l.tag == line) {
            Some(way) => way,
            None => {
                let way = (0..WAYS).min_by_key(|w| set[*w].used).unwrap_or(0);
                written += 32 * u64::from(set[way].dirty.count_ones());
                set[way] = Line {
                    tag: line,
                    valid: 0,
                    dirty: 0,
                    used: time,
                };
                way
            }
        };
        let l = &mut set[way];
        l.used = time;
        if write {
            l.dirty |= sector;
        } else if l.valid & sector == 0 {
            read += 32;
        }
        l.valid |= sector;
        (read, written)
    }

    /// Bytes that the end of the launch still writes back.
    pub fn flush(&self) -> u64 {
        let mut bytes = 0;
        for shard in 0..SHARDS {
            let shard = self.shard(shard);
            for line in shard.sets.iter().flatten() {
                bytes += 32 * u64::from(line.dirty.count_ones());
            }
        }
        bytes
    }
}

/// Passes of the 32 banks that an access takes, and that it would take without conflicts: lanes go
/// together 32 at a time (up to four bytes each), 16 at a time (eight bytes) or 8 at a time.
pub(crate) fn wavefronts(offsets: &[u32; 32], mask: u32, bytes: u32) -> (u64, u64) {
    let lanes = match bytes {
        0..=4 => 32,
        5..=8 => 16,
        _ => 8,
    };
    let (mut real, mut ideal) = (0, 0);
    for phase in 0..32 / lanes {
        let mut words = [0u32; 128];
        let mut count = 0;
        for (lane, offset) in offsets.iter().enumerate().skip(phase * lanes).take(lanes) {
            if mask >> lane & 1 != 0 {
                for w in offset / 4..=(offset + bytes.max(1) - 1) / 4 {
                    words[count] = w;
                    count += 1;
                }
            }
        }
        if count == 0 {
            continue;
        }
        let words = &mut words[..count];
        words.sort_unstable();
        let mut per_bank = [0u64; 32];
        let mut before = None;
        for w in words.iter() {
            if before != Some(*w) {
                per_bank[(*w % 32) as usize] += 1;
            }
            before = Some(*w);
        }
        real += per_bank.iter().copied().max().unwrap_or(0);
        ideal += 1;
    }
    (real, ideal)
}

/// The distinct 32-byte sectors of an access, and how many the same bytes would need if they were
/// contiguous.
pub(crate) fn sectors(addresses: &[u64; 32], mask: u32, bytes: u32, out: &mut Vec<u64>) -> u64 {
    out.clear();
    let mut starts = [0u64; 32];
    let mut count = 0;
    for (lane, address) in addresses.iter().enumerate() {
        if mask >> lane & 1 != 0 {
            starts[count] = *address;
            count += 1;
            let mut s = address / 32;
            while s <= (address + u64::from(bytes.max(1)) - 1) / 32 {
                if out.last() != Some(&s) {
                    out.push(s);
                }
                s += 1;
            }
        }
    }
    out.sort_unstable();
    out.dedup();
    let starts = &mut starts[..count];
    starts.sort_unstable();
    let mut distinct = 0;
    let mut before = None;
    for s in starts.iter() {
        if before != Some(*s) {
            distinct += 1;
        }
        before = Some(*s);
    }
    (distinct * u64::from(bytes)).div_ceil(32)
}
