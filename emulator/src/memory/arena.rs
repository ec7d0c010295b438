//! The reserved mapping behind [`DeviceMemory`]: allocation, host-side access, initialisation bits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use super::heap::Heap;
use super::mapping::Mapping;

/// Address space kept per device: freed ranges are quarantined, so it is larger than the capacity.
const RESERVED_BYTES: u64 = 192 << 30;
/// Alignment of every allocation, as `cuMemAlloc` guarantees it.
const ALIGNMENT: u64 = 512;
/// At least this much unmapped space lies between two allocations.
const GUARD_BYTES: u64 = 4096;
/// Bytes of race shadow per byte of memory: two 64-bit cells per four-byte granule, at the
/// narrowest one byte.
const RACE_SHADOW_SCALE: u64 = 16;
/// With more bytes than this allocated, race cells are not kept from one launch to the next.
const MUCH_MEMORY: u64 = 1 << 30;
/// The default of `CU_LIMIT_MALLOC_HEAP_SIZE`.
const HEAP_BYTES: u64 = 8 << 20;
/// Freed allocations that are remembered by name.
const MAX_REMEMBERED_FREES: usize = 1 << 16;

/// There is no room for an allocation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "out of device memory: {requested} bytes asked for, {free} of {capacity} bytes are free; free something or ask for less"
)]
pub struct OutOfMemory {
    /// Bytes asked for.
    pub requested: u64,
    /// Bytes not allocated.
    pub free: u64,
    /// The device's size.
    pub capacity: u64,
}

/// A host-side access that isn't inside one live allocation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{length} bytes at {address:#x} are not inside one live allocation{hint}")]
pub struct AccessError {
    /// First byte asked for.
    pub address: u64,
    /// Bytes asked for.
    pub length: u64,
    /// What is known about the address: the nearest allocation, or that it was freed.
    pub hint: String,
}

/// What an allocation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocationKind {
    /// `cuMemAlloc` and its kin: readable and writable by kernels; counts towards the capacity.
    Device,
    /// Pinned host memory or managed memory. The host may write it without a call, so it always counts as initialised.
    Host,
    /// A module's `.global` variable.
    Global,
    /// A module's `.const` variable: kernels can't write it.
    Const,
}

/// One live or freed range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Counts up from 1 in the order of allocation.
    pub id: u64,
    /// First address.
    pub base: u64,
    /// Bytes.
    pub size: u64,
    /// The name given by whoever allocated it.
    pub label: String,
    /// What it is for.
    pub kind: AllocationKind,
}

impl Allocation {
    /// First address after the range.
    pub fn end(&self) -> u64 {
        self.base + self.size
    }

    /// "`label` (#id, N bytes at 0x…) +offset".
    pub fn describe(&self, address: u64) -> String {
        let name = if self.label.is_empty() {
            String::from("allocation")
        } else {
            format!("`{}`", self.label)
        };
        let place = if address >= self.base {
            format!("offset {}", address - self.base)
        } else {
            format!("{} bytes before", self.base - address)
        };
        format!(
            "{name} #{} of {} bytes at {:#x}, {place}",
            self.id, self.size, self.base
        )
    }
}

/// A frozen list of what is allocated, in the order of addresses: what one launch may touch.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    live: Vec<Arc<Allocation>>,
}

impl Snapshot {
    /// The live allocation that holds `address`.
    pub fn find(&self, address: u64) -> Option<&Arc<Allocation>> {
        let after = self.live.partition_point(|a| a.base <= address);
        self.live[..after].last().filter(|a| address < a.end())
    }

    /// The live allocation whose edge is nearest to `address`.
    pub fn nearest(&self, address: u64) -> Option<&Arc<Allocation>> {
        let after = self.live.partition_point(|a| a.base <= address);
        let below = after.checked_sub(1).and_then(|i| self.live.get(i));
        let above = self.live.get(after);
        match (below, above) {
            (Some(b), Some(a)) if a.base - address < address.saturating_sub(b.end()) => Some(a),
            (Some(b), _) => Some(b),
            (None, a) => a,
        }
    }
}

struct ArenaState {
    live: BTreeMap<u64, Arc<Allocation>>,
    freed: BTreeMap<u64, Arc<Allocation>>,
    /// Freed ranges in the order they may be reused: (base, reserved bytes).
    quarantine: std::collections::VecDeque<(u64, u64)>,
    next_base: u64,
    next_id: u64,
    used: u64,
    snapshot: Option<Arc<Snapshot>>,
}

/// The race checker's cells for global memory: two words per granule, valid for one launch.
#[derive(Clone, Copy)]
pub(crate) struct GlobalShadow<'a> {
    base: u64,
    cells: &'a [AtomicU64],
}

impl<'a> GlobalShadow<'a> {
    /// The writer and reader cells of the granule of `1 << shift` bytes that holds `address`.
    #[inline(always)]
    pub fn cell(&self, address: u64, shift: u32) -> (&'a AtomicU64, &'a AtomicU64) {
        let index = ((address - self.base) >> shift) as usize * 2;
        (&self.cells[index], &self.cells[index + 1])
    }
}

/// The memory of one emulated device. Shared by reference between streams and workers; the bytes
/// may be accessed from many threads at once, as on a device.
pub struct DeviceMemory {
    data: Mapping,
    init: Mapping,
    race: Mapping,
    capacity: u64,
    state: Mutex<ArenaState>,
    launches: Mutex<Launches>,
    heap: OnceLock<Heap>,
}

// SAFETY: the mappings are plain bytes owned by this value; every access to them goes through
// atomics or through the caller's own raw pointers, and the bookkeeping is behind a mutex.
unsafe impl Send for DeviceMemory {}
// SAFETY: as above.
unsafe impl Sync for DeviceMemory {}

impl DeviceMemory {
    /// Reserves the address space of a device with `capacity` bytes. Nothing is committed.
    ///
    /// # Errors
    /// When the operating system refuses the reservation (a strict overcommit limit).
    pub fn new(capacity: u64) -> std::io::Result<DeviceMemory> {
        let reserved = RESERVED_BYTES.max(capacity.saturating_mul(2));
        let data = Mapping::reserve(reserved)?;
        let next_base = (data.base as u64 + (1 << 20)) & !(ALIGNMENT - 1);
        Ok(DeviceMemory {
            init: Mapping::reserve(reserved / 8)?,
            race: Mapping::reserve(reserved * RACE_SHADOW_SCALE)?,
            data,
            capacity,
            state: Mutex::new(ArenaState {
                live: BTreeMap::new(),
                freed: BTreeMap::new(),
                quarantine: std::collections::VecDeque::new(),
                next_base,
                next_id: 1,
                used: 0,
                snapshot: None,
            }),
            launches: Mutex::default(),
            heap: OnceLock::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, ArenaState> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The device's size in bytes.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Bytes in live device allocations.
    pub fn used(&self) -> u64 {
        self.state().used
    }

    /// Allocates device memory whose bytes count as never written. A size of 0 is one byte.
    ///
    /// # Errors
    /// [`OutOfMemory`] when the device's capacity would be exceeded.
    pub fn alloc(&self, size: u64, label: &str) -> Result<u64, OutOfMemory> {
        self.alloc_kind(size, label, AllocationKind::Device)
    }

    /// Allocates memory of any kind; see [`AllocationKind`].
    ///
    /// # Errors
    /// [`OutOfMemory`] when the device's capacity or the reserved address space is exhausted.
    pub fn alloc_kind(
        &self,
        size: u64,
        label: &str,
        kind: AllocationKind,
    ) -> Result<u64, OutOfMemory> {
        let size = size.max(1);
        let mut state = self.state();
        let refused = OutOfMemory {
            requested: size,
            free: self.capacity.saturating_sub(state.used),
            capacity: self.capacity,
        };
        let counted = kind != AllocationKind::Host;
        if size > self.capacity || (counted && state.used + size > self.capacity) {
            return Err(refused);
        }
        let reserve = (size + GUARD_BYTES + ALIGNMENT - 1) & !(ALIGNMENT - 1);
        let end = self.data.base as u64 + self.data.length as u64;
        let base = if state.next_base + reserve <= end {
            let base = state.next_base;
            state.next_base += reserve;
            base
        } else {
            // The fresh address space is used up: take the oldest freed range that is large enough.
            let Some(at) = state
                .quarantine
                .iter()
                .position(|&(_, room)| room >= reserve)
            else {
                return Err(refused);
            };
            let Some((base, room)) = state.quarantine.remove(at) else {
                return Err(refused);
            };
            if room - reserve >= ALIGNMENT {
                state
                    .quarantine
                    .push_front((base + reserve, room - reserve));
            }
            state
                .freed
                .retain(|_, a| a.end() <= base || a.base >= base + reserve);
            base
        };
        let id = state.next_id;
        state.next_id += 1;
        if counted {
            state.used += size;
        }
        let allocation = Arc::new(Allocation {
            id,
            base,
            size,
            label: label.to_owned(),
            kind,
        });
        state.live.insert(base, allocation);
        state.snapshot = None;
        drop(state);
        self.set_init(base, size, kind == AllocationKind::Host);
        Ok(base)
    }

    /// Frees an allocation by its first address; its bytes are gone.
    ///
    /// # Errors
    /// When no live allocation starts there (a double free or a wild pointer).
    pub fn free(&self, address: u64) -> Result<(), AccessError> {
        let mut state = self.state();
        let Some(allocation) = state.live.remove(&address) else {
            drop(state);
            return Err(self.access_error(address, 0));
        };
        if allocation.kind != AllocationKind::Host {
            state.used -= allocation.size;
        }
        let reserve = (allocation.size + GUARD_BYTES + ALIGNMENT - 1) & !(ALIGNMENT - 1);
        state.quarantine.push_back((address, reserve));
        if state.freed.len() >= MAX_REMEMBERED_FREES {
            state.freed.pop_first();
        }
        let (base, size) = (allocation.base, allocation.size);
        state.freed.insert(base, allocation);
        state.snapshot = None;
        drop(state);
        self.data.discard(self.offset(base), size);
        self.set_init(base, size, false);
        Ok(())
    }

    /// The kernels' heap, which the first module that calls `malloc` brings with it.
    ///
    /// # Errors
    /// [`OutOfMemory`] when there is no room for it.
    pub(crate) fn make_heap(&self) -> Result<(), OutOfMemory> {
        if self.heap.get().is_none() {
            let base = self.alloc(HEAP_BYTES, "heap of the kernels' malloc")?;
            if self.heap.set(Heap::new(base, HEAP_BYTES)).is_err() {
                // Another thread made it meanwhile.
                let _ = self.free(base);
            }
        }
        Ok(())
    }

    /// The kernels' heap, if there is one.
    pub(crate) fn heap(&self) -> Option<&Heap> {
        self.heap.get()
    }

    /// The live allocation that holds `address`.
    pub fn find(&self, address: u64) -> Option<Arc<Allocation>> {
        let state = self.state();
        let (_, allocation) = state.live.range(..=address).next_back()?;
        (address < allocation.end()).then(|| allocation.clone())
    }

    /// The freed allocation that held `address`, while it is remembered.
    pub fn find_freed(&self, address: u64) -> Option<Arc<Allocation>> {
        let state = self.state();
        let (_, allocation) = state.freed.range(..=address).next_back()?;
        (address < allocation.end()).then(|| allocation.clone())
    }

    /// Every live allocation in the order of addresses: what leaks when the context ends now.
    pub fn allocations(&self) -> Vec<Arc<Allocation>> {
        self.state().live.values().cloned().collect()
    }

    /// What a launch that starts now may touch.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        let mut state = self.state();
        if let Some(snapshot) = &state.snapshot {
            return snapshot.clone();
        }
        let snapshot = Arc::new(Snapshot {
            live: state.live.values().cloned().collect(),
        });
        state.snapshot = Some(snapshot.clone());
        snapshot
    }

    fn access_error(&self, address: u64, length: u64) -> AccessError {
        let hint = if let Some(freed) = self.find_freed(address) {
            format!("; it was freed: {}", freed.describe(address))
        } else if let Some(near) = self.snapshot().nearest(address) {
            format!("; the nearest is {}", near.describe(address))
        } else {
            String::from("; nothing is allocated")
        };
        AccessError {
            address,
            length,
            hint,
        }
    }

    /// Checks that `length` bytes at `address` lie inside one live allocation.
    ///
    /// # Errors
    /// When they don't.
    pub fn check(&self, address: u64, length: u64) -> Result<Arc<Allocation>, AccessError> {
        match self.find(address) {
            Some(a) if length <= a.end() - address => Ok(a),
            _ => Err(self.access_error(address, length)),
        }
    }

    fn offset(&self, address: u64) -> u64 {
        address - self.data.base as u64
    }

    /// Copies bytes from the host; they count as initialised.
    ///
    /// # Errors
    /// When the range isn't inside one live allocation.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), AccessError> {
        self.check(address, bytes.len() as u64)?;
        // SAFETY: the range is inside a live allocation of the mapping; `bytes` is the host's.
        unsafe { std::ptr::copy(bytes.as_ptr(), address as *mut u8, bytes.len()) };
        self.set_init(address, bytes.len() as u64, true);
        Ok(())
    }

    /// Copies bytes to the host, initialised or not.
    ///
    /// # Errors
    /// When the range isn't inside one live allocation.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        self.check(address, bytes.len() as u64)?;
        // SAFETY: as in `write`.
        unsafe { std::ptr::copy(address as *const u8, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    /// Repeats `pattern` (1, 2, 4 bytes or more) over `count` elements.
    ///
    /// # Errors
    /// When the range isn't inside one live allocation.
    pub fn fill(&self, address: u64, pattern: &[u8], count: u64) -> Result<(), AccessError> {
        let length = (pattern.len() as u64).saturating_mul(count);
        self.check(address, length)?;
        if pattern.is_empty() || count == 0 {
            return Ok(());
        }
        // SAFETY: the range is inside a live allocation of the mapping; kernels that touch it at
        // the same time are a race of the emulated program.
        let bytes = unsafe { std::slice::from_raw_parts_mut(address as *mut u8, length as usize) };
        if pattern.iter().all(|b| *b == pattern[0]) {
            bytes.fill(pattern[0]);
        } else {
            bytes
                .chunks_exact_mut(pattern.len())
                .for_each(|c| c.copy_from_slice(pattern));
        }
        self.set_init(address, length, true);
        Ok(())
    }

    /// Copies within the device (ranges may overlap); what was never written stays so.
    ///
    /// # Errors
    /// When a range isn't inside one live allocation.
    pub fn copy(&self, to: u64, from: u64, length: u64) -> Result<(), AccessError> {
        let target = self.check(to, length)?;
        self.check(from, length)?;
        // SAFETY: both ranges are inside live allocations of the mapping.
        unsafe { std::ptr::copy(from as *const u8, to as *mut u8, length as usize) };
        if target.kind == AllocationKind::Host {
            return Ok(());
        }
        if self.first_uninit(from, length).is_none() {
            self.set_init(to, length, true);
        } else {
            let bits: Vec<bool> = (0..length).map(|i| self.is_init(from + i, 1)).collect();
            for (i, bit) in bits.into_iter().enumerate() {
                self.set_init(to + i as u64, 1, bit);
            }
        }
        Ok(())
    }

    /// Forgets that a range was ever written (a host-side poison).
    ///
    /// # Errors
    /// When the range isn't inside one live allocation.
    pub fn mark_uninit(&self, address: u64, length: u64) -> Result<(), AccessError> {
        self.check(address, length)?;
        self.set_init(address, length, false);
        Ok(())
    }

    /// Marks a range as written, for writes that the emulator doesn't see.
    ///
    /// # Errors
    /// When the range isn't inside one live allocation.
    pub fn mark_init(&self, address: u64, length: u64) -> Result<(), AccessError> {
        self.check(address, length)?;
        self.set_init(address, length, true);
        Ok(())
    }

    /// The first byte of a range inside the device's mapping that was never written.
    pub fn first_uninit(&self, address: u64, length: u64) -> Option<u64> {
        let mut at = address;
        let end = address + length;
        while at < end {
            if at.is_multiple_of(8) && end - at >= 8 && self.init_byte(at) == 0xff {
                at += 8;
                continue;
            }
            if !self.is_init(at, 1) {
                return Some(at);
            }
            at += 1;
        }
        None
    }

    /// The host address of a device address: the same number, if it is allocated.
    pub fn host_ptr(&self, address: u64, length: u64) -> Option<*mut u8> {
        self.check(address, length).ok().map(|_| address as *mut u8)
    }

    #[inline(always)]
    fn init_cells(&self) -> &[AtomicU8] {
        // SAFETY: the mapping is owned, readable, writable and zero-filled; atomics may alias.
        unsafe { std::slice::from_raw_parts(self.init.base as *const AtomicU8, self.init.length) }
    }

    #[inline(always)]
    fn init_byte(&self, address: u64) -> u8 {
        self.init_cells()[(self.offset(address) >> 3) as usize].load(Relaxed)
    }

    /// Whether `width` bytes at `address` were written: a naturally aligned power of two up to 8.
    #[inline(always)]
    pub(crate) fn is_init(&self, address: u64, width: u32) -> bool {
        let bits = (((1u32 << width) - 1) << (self.offset(address) & 7)) as u8;
        self.init_byte(address) & bits == bits
    }

    /// Marks `width` bytes at `address` as written: a naturally aligned power of two up to 8.
    #[inline(always)]
    pub(crate) fn note_init(&self, address: u64, width: u32) {
        let bits = (((1u32 << width) - 1) << (self.offset(address) & 7)) as u8;
        let cell = &self.init_cells()[(self.offset(address) >> 3) as usize];
        if width == 8 {
            cell.store(0xff, Relaxed);
        } else if cell.load(Relaxed) & bits != bits {
            cell.fetch_or(bits, Relaxed);
        }
    }

    /// Whether every byte of a short range was written, tested eight bytes at a time. The answer may be a wrong no if the
    /// eight bytes at an end of the range also hold unwritten ones.
    #[inline(always)]
    pub(crate) fn all_init(&self, address: u64, length: u64) -> bool {
        let first = (self.offset(address) >> 3) as usize;
        let last = ((self.offset(address) + length - 1) >> 3) as usize;
        self.init_cells()[first..=last]
            .iter()
            .all(|c| c.load(Relaxed) == 0xff)
    }

    fn set_init(&self, address: u64, length: u64, value: bool) {
        let cells = self.init_cells();
        let start = self.offset(address);
        let end = start + length;
        let mut at = start;
        // The bits of large ranges are given back to the system page by page: a 16 GB allocation has 2 GB of them.
        let page_bits = 8 * 4096;
        if !value && length >= 2 * page_bits {
            let (first, last) = (
                start.next_multiple_of(page_bits),
                end / page_bits * page_bits,
            );
            self.init.discard(first / 8, (last - first) / 8);
            self.set_init(address, first - start, false);
            self.set_init(address + (last - start), end - last, false);
            return;
        }
        while at < end {
            let cell = &cells[(at >> 3) as usize];
            let upto = ((at | 7) + 1).min(end);
            let bits = (((1u32 << (upto - at)) - 1) << (at & 7)) as u8;
            if bits == 0xff {
                // Whole pages that are already zero stay untouched.
                let want = if value { 0xff } else { 0 };
                if cell.load(Relaxed) != want {
                    cell.store(want, Relaxed);
                }
            } else if value {
                cell.fetch_or(bits, Relaxed);
            } else {
                cell.fetch_and(!bits, Relaxed);
            }
            at = upto;
        }
    }

    /// The race checker's cells.
    pub(crate) fn race_shadow(&self) -> GlobalShadow<'_> {
        // SAFETY: as in `init_cells`.
        let cells = unsafe {
            std::slice::from_raw_parts(self.race.base as *const AtomicU64, self.race.length / 8)
        };
        GlobalShadow {
            base: self.data.base as u64,
            cells,
        }
    }

    /// Begins a launch with a number from 1 to `limit`, which marks its race cells. When the numbers are used up, all cells
    /// are cleared, so that an old launch is never taken for the present one. If much memory is in use, they are also
    /// cleared before each launch that runs alone: four bytes of cells for each byte ever touched would not fit the host.
    pub(crate) fn begin_launch(&self, limit: u64) -> RunningLaunch<'_> {
        let mut launches = self.launches();
        let spent = launches.last >= limit;
        if spent || (launches.running == 0 && self.used() > MUCH_MEMORY) {
            self.race.discard(0, self.race.length as u64);
        }
        launches.last = if spent { 1 } else { launches.last + 1 };
        launches.running += 1;
        RunningLaunch {
            number: launches.last,
            memory: self,
        }
    }

    fn launches(&self) -> MutexGuard<'_, Launches> {
        self.launches
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The numbers given to launches.
#[derive(Default)]
struct Launches {
    last: u64,
    running: usize,
}

/// A launch until it is dropped.
pub(crate) struct RunningLaunch<'a> {
    /// The number that marks its race cells.
    pub number: u64,
    memory: &'a DeviceMemory,
}

impl Drop for RunningLaunch<'_> {
    fn drop(&mut self) {
        self.memory.launches().running -= 1;
    }
}
