//! The streams' queues: submitting work, and running it late.
//!
//! Nothing runs when it is submitted. Work runs when a host call waits for it (and then only what that call has to
//! wait for), or after a pause in the driver calls, when a background worker catches up. So a missing synchronisation
//! shows: a host read sees old data, and a stream that should have waited for another runs before it.

use std::sync::{Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::abi::Handle;
use super::capture;
use super::error::Result;
use super::objects::{Mark, Queued, Work};
use super::process::Driver;
use super::state::DriverState;
use super::work;

/// A stream's queue: further submissions wait, as on the real device.
const QUEUE_LIMIT: usize = 1024;

impl DriverState {
    /// Submits work to a stream, or records it if the stream is capturing.
    ///
    /// Returns the mark that the stream reaches once the work is done; a recorded piece has none.
    ///
    /// # Errors
    /// The capture errors, and those of a bad handle.
    pub fn submit(
        &mut self,
        driver: &'static Driver,
        stream: Handle,
        work: Work,
    ) -> Result<Option<Mark>> {
        if self.stream(stream)?.capture.is_some() {
            capture::record(self, stream, work)?;
            return Ok(None);
        }
        capture::check_implicit(self, stream)?;
        self.submit_after(driver, stream, Vec::new(), work)
            .map(Some)
    }

    /// Submits work that also waits for marks in other streams.
    ///
    /// # Errors
    /// `INVALID_HANDLE` for a stream that is gone.
    pub fn submit_after(
        &mut self,
        driver: &'static Driver,
        stream: Handle,
        mut after: Vec<Mark>,
        work: Work,
    ) -> Result<Mark> {
        let target = self.stream(stream)?;
        let (ctx, is_legacy, is_blocking) = (target.ctx, target.is_legacy, target.is_blocking());
        // The default stream waits for all blocking streams of its context, and they for it.
        if is_legacy || is_blocking {
            after.extend(
                self.streams
                    .iter()
                    .filter(|(handle, other)| {
                        **handle != stream
                            && other.ctx == ctx
                            && !other.is_idle()
                            && (if is_legacy {
                                other.is_blocking()
                            } else {
                                other.is_legacy
                            })
                    })
                    .map(|(handle, other)| Mark {
                        stream: *handle,
                        number: other.submitted,
                    }),
            );
        }
        self.last_activity = Instant::now();
        let target = self.stream(stream)?;
        target.submitted += 1;
        let number = target.submitted;
        target.queue.push_back(Queued {
            number,
            after,
            work,
        });
        driver.submitted.notify_one();
        Ok(Mark { stream, number })
    }

    /// Takes the next piece of work on the way to `mark`: the head of its stream, or of a stream that the head waits for.
    fn take_toward(&mut self, mark: Mark) -> Option<(Handle, Queued)> {
        let mut stream = mark.stream;
        loop {
            let head = self.streams.get(&stream)?.queue.front()?;
            match head.after.iter().find(|mark| !self.reached(**mark)) {
                // Work waits only for what was submitted before it, so this ends.
                Some(mark) => stream = mark.stream,
                None => {
                    let head = self.streams.get_mut(&stream)?.queue.pop_front()?;
                    return Some((stream, head));
                }
            }
        }
    }

    fn complete(&mut self, stream: Handle, number: u64) {
        self.last_activity = Instant::now();
        if let Some(state) = self.streams.get_mut(&stream) {
            state.completed = number;
            if state.destroyed && state.is_idle() {
                self.streams.remove(&stream);
            }
        }
    }
}

impl Driver {
    /// Runs, on this thread, all work that a mark needs.
    pub fn run_until(&'static self, mark: Mark) {
        while !self.lock().reached(mark) && self.run_one(mark) {}
    }

    /// Runs one piece of work toward a mark; false if there is none left.
    pub fn run_one(&'static self, mark: Mark) -> bool {
        let _one_at_a_time = self.exec.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.lock();
        if state.reached(mark) {
            return false;
        }
        let Some((stream, queued)) = state.take_toward(mark) else {
            return false;
        };
        let ctx = state.streams.get(&stream).map_or(0, |s| s.ctx);
        // After a fault the rest of the context's work is dropped.
        let healthy = state.contexts.get(&ctx).is_some_and(|c| c.error.is_none());
        drop(state);
        let outcome = if healthy {
            work::run(self, &queued.work)
        } else {
            Ok(())
        };
        let mut state = self.lock();
        if let Err(error) = outcome
            && let Some(ctx) = state.contexts.get_mut(&ctx)
        {
            ctx.error.get_or_insert(error);
        }
        state.complete(stream, queued.number);
        true
    }

    /// Runs whatever is pending anywhere.
    fn catch_up(&'static self) {
        loop {
            let pending = self.lock().any_pending();
            let Some(mark) = pending else { return };
            self.run_one(mark);
        }
    }

    /// Runs everything that a context has to do.
    pub fn drain(&'static self, ctx: Handle) {
        let pending = self.lock().pending_of(ctx);
        for mark in pending {
            self.run_until(mark);
        }
    }

    /// Runs a piece of work on a stream and waits for it, as a synchronous call does.
    ///
    /// # Errors
    /// Capture errors, and the sticky error if the work, or what it had to wait for, faulted.
    pub fn run_now(&'static self, stream: Handle, work: Work) -> Result<()> {
        let mut state = self.lock();
        let ctx = state.current()?;
        let stream = state.stream_of(ctx, stream)?;
        capture::check_synchronous(&mut state, Some(stream))?;
        let mark = state.submit(self, stream, work)?;
        drop(state);
        start_worker(self);
        if let Some(mark) = mark {
            self.run_until(mark);
        }
        self.lock().current().map(|_| ())
    }

    /// Submits a piece of work to the stream that `handle` means; waits only if the stream's queue is full.
    ///
    /// # Errors
    /// Those of a bad handle, the capture errors and the sticky error.
    pub fn enqueue(&'static self, handle: Handle, work: Work) -> Result<()> {
        let mut state = self.lock();
        let ctx = state.current()?;
        let stream = state.stream_of(ctx, handle)?;
        let mark = state.submit(self, stream, work)?;
        drop(state);
        start_worker(self);
        match mark {
            Some(mark) if mark.number > QUEUE_LIMIT as u64 => {
                self.run_until(Mark {
                    number: mark.number - QUEUE_LIMIT as u64,
                    ..mark
                });
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Starts the thread that runs pending work after a pause in the calls, for programs that wait for their own host
/// functions or poll pinned memory instead of calling the driver.
pub fn start_worker(driver: &'static Driver) {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let Some(pause) = driver.lock().settings.idle else {
            return;
        };
        // Without the thread the program still runs: work then waits for a call that synchronises.
        let _ = thread::Builder::new()
            .name("cuda-emulator".into())
            .spawn(move || catch_up(driver, pause));
    });
}

fn catch_up(driver: &'static Driver, pause: Duration) {
    loop {
        let mut state = driver.lock();
        if state.any_pending().is_none() {
            state = driver.wait_for_work(state);
            drop(state);
            continue;
        }
        let quiet = state.last_activity.elapsed();
        drop(state);
        if quiet < pause {
            thread::sleep(pause - quiet);
        } else {
            driver.catch_up();
        }
    }
}

/// Destroys all streams of a context at once, with what is left in their queues.
pub fn forget_streams(state: &mut DriverState, ctx: Handle) {
    state.streams.retain(|_, stream| stream.ctx != ctx);
    state.events.retain(|_, event| event.ctx != ctx);
    capture::forget_captures(state);
}
