//! Work sharing over rayon without allocation.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads that share the work: those of the current rayon pool.
pub fn width() -> usize {
    rayon::current_num_threads()
}

/// Work that is not worth sharing, in multiply-adds: 14 µs of one thread, where waking another takes 5 to 10.
const SERIAL_WORK: usize = 1 << 20;

/// Runs `task(0) … task(count - 1)`, each once, on the threads of the current rayon pool, or on this one alone if the
/// `work` of all tasks, in multiply-adds, is little. Tasks are handed out in order as threads become free, so no
/// result may depend on which thread runs which task.
pub fn parallel(work: usize, count: usize, task: impl Fn(usize) + Sync) {
    parallel_slots(work, width(), count, |_, index| task(index));
}

/// [`parallel`] on at most `slots` threads, each of which passes its own slot number in `0..slots` to its tasks: the
/// number of a piece of scratch memory, say.
pub fn parallel_slots(work: usize, slots: usize, count: usize, task: impl Fn(usize, usize) + Sync) {
    assert!(
        slots > 0 || count == 0,
        "{count} tasks and no slot to run them in"
    );
    let next = AtomicUsize::new(0);
    let most = if work < SERIAL_WORK { 1 } else { width() };
    let workers = most.min(slots).min(count);
    fork(0, workers, &|slot| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return;
            }
            task(slot, index);
        }
    });
}

/// Runs `worker(first) … worker(first + count - 1)`, in parallel where threads are free.
fn fork(first: usize, count: usize, worker: &(impl Fn(usize) + Sync)) {
    match count {
        0 => {}
        1 => worker(first),
        n => {
            rayon::join(
                || fork(first, n / 2, worker),
                || fork(first + n / 2, n - n / 2, worker),
            );
        }
    }
}

/// `len` f32s that threads share. What is written through it is divided over them by whoever hands it out, as with
/// [`parallel`]; operands that a result may lie in the place of are read through it too.
#[derive(Clone, Copy)]
pub struct Shared {
    start: *mut f32,
    /// Number of f32s.
    pub len: usize,
}

// SAFETY: a `Shared` only hands out its pointer; its unsafe methods make the caller vouch for disjointness.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Wraps `slice`, which stays borrowed by the caller for as long as the parts are used.
    pub fn new(slice: &mut [f32]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
        }
    }

    /// `len` f32s at `start`.
    pub fn at(start: *mut f32, len: usize) -> Self {
        Self { start, len }
    }

    /// The first element. Writing through it follows the rules of [`Shared::slice_mut`].
    pub fn as_ptr(self) -> *mut f32 {
        self.start
    }

    /// Elements `range` for reading.
    ///
    /// # Safety
    /// The elements are there and initialised, and nothing writes them while the slice lives.
    pub unsafe fn slice<'a>(self, range: Range<usize>) -> &'a [f32] {
        self.check(&range);
        // SAFETY: in bounds; the rest is the caller's promise.
        unsafe { std::slice::from_raw_parts(self.start.add(range.start), range.len()) }
    }

    /// Elements `range` for writing.
    ///
    /// # Safety
    /// The elements are there, and nothing else reads or writes them while the slice lives.
    pub unsafe fn slice_mut<'a>(self, range: Range<usize>) -> &'a mut [f32] {
        self.check(&range);
        // SAFETY: in bounds; the rest is the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    fn check(self, range: &Range<usize>) {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "elements {range:?} of {}",
            self.len
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_in_a_slot_of_its_own() {
        for (slots, count) in [(1, 5), (3, 100), (8, 3), (2, 0)] {
            let runs: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            let busy: Vec<AtomicUsize> = (0..slots).map(|_| AtomicUsize::new(0)).collect();
            parallel_slots(usize::MAX, slots, count, |slot, index| {
                assert_eq!(
                    busy[slot].fetch_add(1, Ordering::SeqCst),
                    0,
                    "slot {slot} is used twice at once"
                );
                runs[index].fetch_add(1, Ordering::SeqCst);
                std::thread::yield_now();
                busy[slot].fetch_sub(1, Ordering::SeqCst);
            });
            assert!(runs.iter().all(|runs| runs.load(Ordering::SeqCst) == 1));
        }
    }

    #[test]
    #[should_panic(expected = "elements 3..5 of 4")]
    fn parts_stay_inside() {
        let mut memory = [0.0; 4];
        // SAFETY: the only part.
        unsafe { Shared::new(&mut memory).slice_mut(3..5) };
    }
}
