//! Streams and events: queues whose work runs late, and the marks in them.
//!
//! Nothing runs when it is submitted. Work runs when a host call waits for it (and then only what that call has to
//! wait for), or after a pause in the driver calls, when a background worker catches up. So a missing synchronisation
//! shows: a host read sees old data, and a stream that should have waited for another runs before it.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::sync::{Arc, Once, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::abi::{Handle, HostFn, Out, StreamCallback};
use super::api;
use super::error::{CudaError, Result};
use super::graph;
use super::state::{Driver, Kind, State, check_context, in_context};
use super::work::{self, Work};

/// `CU_STREAM_LEGACY` and null mean the context's default stream.
const LEGACY: Handle = 1;
/// `CU_STREAM_PER_THREAD` means the calling thread's own default stream.
const PER_THREAD: Handle = 2;
/// `CU_STREAM_NON_BLOCKING`: no implicit order with the default stream.
const NON_BLOCKING: u32 = 1;
/// Priorities of an RTX 3090: greatest first.
const PRIORITIES: std::ops::RangeInclusive<i32> = -5..=0;
/// A stream's queue: further submissions wait, as on the real device.
const QUEUE_LIMIT: usize = 1024;

const EVENT_DISABLE_TIMING: u32 = 2;

/// A stream.
pub struct Stream {
    pub ctx: Handle,
    pub flags: u32,
    pub priority: i32,
    /// Whether this is its context's default stream, which others order themselves with.
    pub is_legacy: bool,
    /// The handle is gone, work is left.
    pub destroyed: bool,
    queue: VecDeque<Queued>,
    submitted: u64,
    completed: u64,
    /// Set while calls on the stream are recorded instead of run.
    pub capture: Option<StreamCapture>,
}

/// A stream's part in a capture.
pub struct StreamCapture {
    /// Which capture.
    pub id: u64,
    /// Nodes that the next recorded work depends on.
    pub after: Vec<Handle>,
}

struct Queued {
    number: u64,
    after: Vec<Mark>,
    work: Work,
}

/// A place in a stream: reached once the stream completed `number` pieces of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub stream: Handle,
    pub number: u64,
}

/// One recording of an event.
pub struct Recording {
    /// The record's place in its stream.
    pub mark: Mark,
    /// When the stream came there.
    pub time: OnceLock<Instant>,
}

/// An event.
pub struct Event {
    pub ctx: Handle,
    flags: u32,
    /// The last recording outside a capture.
    pub last: Option<Arc<Recording>>,
    /// Recorded in a capture: which one, and the nodes that it stands for.
    pub captured: Option<(u64, Vec<Handle>)>,
}

impl Stream {
    /// A stream with no work.
    pub fn new(ctx: Handle, flags: u32, priority: i32, is_legacy: bool) -> Stream {
        Stream {
            ctx,
            flags,
            priority,
            is_legacy,
            destroyed: false,
            queue: VecDeque::new(),
            submitted: 0,
            completed: 0,
            capture: None,
        }
    }

    /// Whether the default stream orders itself with this one.
    pub fn is_blocking(&self) -> bool {
        self.flags & NON_BLOCKING == 0
    }

    fn is_idle(&self) -> bool {
        self.completed == self.submitted
    }
}

impl State {
    /// The stream that an API handle means for this thread in `ctx`.
    ///
    /// # Errors
    /// `INVALID_HANDLE` for a handle that is no living stream.
    pub fn stream_of(&mut self, ctx: Handle, handle: Handle) -> Result<Handle> {
        match handle {
            0 | LEGACY => Ok(self.context(ctx)?.legacy),
            PER_THREAD => {
                let thread = thread::current().id();
                if let Some(&stream) = self.context(ctx)?.per_thread.get(&thread) {
                    return Ok(stream);
                }
                let stream = self.new_handle(Kind::Stream);
                self.streams.insert(stream, Stream::new(ctx, 0, 0, false));
                self.context(ctx)?.per_thread.insert(thread, stream);
                Ok(stream)
            }
            _ => {
                let stream = self
                    .streams
                    .get(&handle)
                    .filter(|stream| !stream.destroyed)
                    .ok_or(CudaError::INVALID_HANDLE)?;
                match self.contexts.get(&stream.ctx).and_then(|ctx| ctx.error) {
                    Some(error) => Err(error),
                    None => Ok(handle),
                }
            }
        }
    }

    /// A living stream by its internal handle.
    pub fn stream(&mut self, handle: Handle) -> Result<&mut Stream> {
        self.streams
            .get_mut(&handle)
            .ok_or(CudaError::INVALID_HANDLE)
    }

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
            graph::record(self, stream, work)?;
            return Ok(None);
        }
        graph::check_implicit(self, stream)?;
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

    /// The end of what is submitted to a stream now.
    pub fn tail(&self, stream: Handle) -> Mark {
        Mark {
            stream,
            number: self.streams.get(&stream).map_or(0, |s| s.submitted),
        }
    }

    /// Whether a stream came to a mark. One that is gone did all its work.
    pub fn reached(&self, mark: Mark) -> bool {
        self.streams
            .get(&mark.stream)
            .is_none_or(|stream| stream.completed >= mark.number)
    }

    /// The marks that a context has to reach to be idle.
    pub fn pending_of(&self, ctx: Handle) -> Vec<Mark> {
        self.streams
            .iter()
            .filter(|(_, stream)| stream.ctx == ctx && !stream.is_idle())
            .map(|(handle, stream)| Mark {
                stream: *handle,
                number: stream.submitted,
            })
            .collect()
    }

    fn any_pending(&self) -> Option<Mark> {
        self.streams
            .iter()
            .filter(|(_, stream)| !stream.is_idle())
            .map(|(handle, stream)| Mark {
                stream: *handle,
                number: stream.completed + 1,
            })
            .min_by_key(|mark| mark.stream)
    }

    /// Takes the next piece of work that brings `mark` nearer: the head of its stream, or of one that it waits for.
    fn take_toward(&mut self, mark: Mark) -> Option<(Handle, Queued)> {
        let mut stream = mark.stream;
        loop {
            let head = self.streams.get(&stream)?.queue.front()?;
            match head.after.iter().find(|mark| !self.reached(**mark)) {
                // Marks always lie in the past of the work that waits for them, so this walk ends.
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
    /// Runs what a mark needs, on this thread.
    pub fn run_until(&'static self, mark: Mark) {
        while !self.lock().reached(mark) && self.run_one(mark) {}
    }

    /// Runs one piece of work toward a mark; false if there is none left.
    fn run_one(&'static self, mark: Mark) -> bool {
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

    /// Runs a piece of work on a stream and waits for it; what a synchronous call does.
    ///
    /// # Errors
    /// Capture errors, and the sticky error if the work, or what it had to wait for, faulted.
    pub fn run_now(&'static self, stream: Handle, work: Work) -> Result<()> {
        let mut state = self.lock();
        let ctx = state.current()?;
        let stream = state.stream_of(ctx, stream)?;
        graph::check_synchronous(&mut state, Some(stream))?;
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

fn create_stream(out: Out<Handle>, flags: u32, priority: i32) -> Result<()> {
    let (_, mut state, ctx) = in_context()?;
    if flags & !NON_BLOCKING != 0 || out.is_null() {
        return Err(CudaError::INVALID_VALUE);
    }
    let priority = priority.clamp(*PRIORITIES.start(), *PRIORITIES.end());
    let handle = state.new_handle(Kind::Stream);
    state
        .streams
        .insert(handle, Stream::new(ctx, flags, priority, false));
    out.set(handle)
}

fn with_stream<T>(handle: Handle, read: impl FnOnce(&mut State, Handle) -> Result<T>) -> Result<T> {
    let (_, mut state, ctx) = in_context()?;
    let stream = state.stream_of(ctx, handle)?;
    read(&mut state, stream)
}

fn record_event(event: Handle, stream: Handle) -> Result<()> {
    let (driver, mut state, ctx) = in_context()?;
    let stream = state.stream_of(ctx, stream)?;
    let owner = state
        .events
        .get(&event)
        .ok_or(CudaError::INVALID_HANDLE)?
        .ctx;
    if state.stream(stream)?.ctx != owner {
        return Err(CudaError::INVALID_HANDLE);
    }
    if let Some(capture) = &state.stream(stream)?.capture {
        let mark = (capture.id, capture.after.clone());
        graph::check_active(&state, capture_id(&state, stream)?)?;
        if let Some(event) = state.events.get_mut(&event) {
            event.captured = Some(mark);
        }
        return Ok(());
    }
    graph::check_implicit(&mut state, stream)?;
    let recording = Arc::new(Recording {
        mark: Mark {
            stream,
            number: state.tail(stream).number + 1,
        },
        time: OnceLock::new(),
    });
    state.submit_after(driver, stream, Vec::new(), Work::Record(recording.clone()))?;
    if let Some(event) = state.events.get_mut(&event) {
        event.last = Some(recording);
        event.captured = None;
    }
    drop(state);
    start_worker(driver);
    Ok(())
}

fn capture_id(state: &State, stream: Handle) -> Result<u64> {
    state
        .streams
        .get(&stream)
        .and_then(|stream| stream.capture.as_ref())
        .map(|capture| capture.id)
        .ok_or(CudaError::INVALID_HANDLE)
}

fn wait_event(stream: Handle, event: Handle, flags: u32) -> Result<()> {
    let (driver, mut state, ctx) = in_context()?;
    // CU_EVENT_WAIT_EXTERNAL is the only flag.
    if flags > 1 {
        return Err(CudaError::INVALID_VALUE);
    }
    let stream = state.stream_of(ctx, stream)?;
    let event = state.events.get(&event).ok_or(CudaError::INVALID_HANDLE)?;
    if let Some((id, nodes)) = event.captured.clone() {
        return graph::join(&mut state, stream, id, &nodes);
    }
    let mark = event.last.as_ref().map(|recording| recording.mark);
    if state.stream(stream)?.capture.is_some() {
        // A wait for uncaptured work cannot become part of a graph.
        graph::invalidate_stream(&mut state, stream);
        return Err(CudaError::STREAM_CAPTURE_ISOLATION);
    }
    // An event that was never recorded is complete.
    if let Some(mark) = mark {
        state.submit_after(driver, stream, vec![mark], Work::Empty)?;
    }
    Ok(())
}

/// The last recording of an event, for the calls that look at its completion.
fn recording_of(state: &mut State, event: Handle) -> Result<Option<Arc<Recording>>> {
    let event = state.events.get(&event).ok_or(CudaError::INVALID_HANDLE)?;
    if event.captured.is_some() {
        return Err(CudaError::CAPTURED_EVENT);
    }
    Ok(event.last.clone())
}

fn elapsed(out: Out<f32>, start: Handle, end: Handle) -> Result<()> {
    let (_, mut state, _) = in_context()?;
    let mut times = [None; 2];
    for (time, handle) in times.iter_mut().zip([start, end]) {
        let recording = recording_of(&mut state, handle)?.ok_or(CudaError::INVALID_HANDLE)?;
        let event = state.events.get(&handle).ok_or(CudaError::INVALID_HANDLE)?;
        if event.flags & EVENT_DISABLE_TIMING != 0 {
            return Err(CudaError::INVALID_HANDLE);
        }
        *time = Some(*recording.time.get().ok_or(CudaError::NOT_READY)?);
    }
    let [Some(start), Some(end)] = times else {
        return Err(CudaError::INVALID_HANDLE);
    };
    let milliseconds = if end >= start {
        (end - start).as_secs_f32() * 1e3
    } else {
        -((start - end).as_secs_f32() * 1e3)
    };
    out.set(milliseconds)
}

/// Adds a host function to the stream, which it runs in order.
fn host_function(stream: Handle, call: work::HostCall) -> Result<()> {
    Driver::get()?.enqueue(stream, Work::Host(call))
}

/// Destroys all streams of a context at once, with what is left in their queues.
pub fn forget_streams(state: &mut State, ctx: Handle) {
    state.streams.retain(|_, stream| stream.ctx != ctx);
    state.events.retain(|_, event| event.ctx != ctx);
    graph::forget_captures(state);
}

api! {
    fn cuStreamCreate(stream: Out<Handle>, flags: u32) {
        create_stream(stream, flags, 0)
    }

    fn cuStreamCreateWithPriority(stream: Out<Handle>, flags: u32, priority: i32) {
        create_stream(stream, flags, priority)
    }

    fn cuStreamDestroy_v2(stream: Handle) {
        let driver = Driver::get()?;
        let mut state = driver.lock();
        let found = state.streams.get_mut(&stream).filter(|stream| !stream.destroyed);
        let found = found.ok_or(CudaError::INVALID_HANDLE)?;
        if found.is_legacy {
            return Err(CudaError::INVALID_HANDLE);
        }
        if found.capture.is_some() {
            graph::invalidate_stream(&mut state, stream);
        }
        // Its work still runs; the stream goes when that is done.
        let found = state.stream(stream)?;
        found.destroyed = true;
        if found.is_idle() {
            state.streams.remove(&stream);
        }
        Ok(())
    }

    fn cuStreamSynchronize(stream: Handle) {
        let (driver, mut state, ctx) = in_context()?;
        let stream = state.stream_of(ctx, stream)?;
        graph::check_synchronous(&mut state, Some(stream))?;
        let mut marks = vec![state.tail(stream)];
        // The default stream is idle once the streams that it orders itself with are.
        if state.stream(stream)?.is_legacy {
            let pending = state.pending_of(ctx);
            marks.extend(pending.into_iter().filter(|mark| {
                state.streams.get(&mark.stream).is_some_and(Stream::is_blocking)
            }));
        }
        drop(state);
        for mark in marks {
            driver.run_until(mark);
        }
        driver.lock().current().map(|_| ())
    }

    fn cuStreamQuery(stream: Handle) {
        let (driver, mut state, ctx) = in_context()?;
        let stream = state.stream_of(ctx, stream)?;
        graph::check_synchronous(&mut state, Some(stream))?;
        let mark = state.tail(stream);
        if state.reached(mark) {
            return Ok(());
        }
        drop(state);
        // A program that polls makes the device advance.
        driver.run_one(mark);
        driver.lock().current()?;
        Err(CudaError::NOT_READY)
    }

    fn cuStreamWaitEvent(stream: Handle, event: Handle, flags: u32) {
        wait_event(stream, event, flags)
    }

    fn cuStreamGetFlags(stream: Handle, flags: Out<u32>) {
        with_stream(stream, |state, stream| flags.set(state.stream(stream)?.flags))
    }

    fn cuStreamGetPriority(stream: Handle, priority: Out<i32>) {
        with_stream(stream, |state, stream| priority.set(state.stream(stream)?.priority))
    }

    fn cuStreamGetId(stream: Handle, id: Out<u64>) {
        with_stream(stream, |_, stream| id.set(stream >> 4 & 0xff_ffff_ffff))
    }

    fn cuStreamGetCtx(stream: Handle, ctx: Out<Handle>) {
        with_stream(stream, |state, stream| ctx.set(state.stream(stream)?.ctx))
    }

    fn cuStreamGetDevice(stream: Handle, device: Out<i32>) {
        with_stream(stream, |_, _| device.set(0))
    }

    fn cuStreamCopyAttributes(to: Handle, from: Handle) {
        with_stream(from, |_, _| Ok(()))?;
        with_stream(to, |_, _| Ok(()))
    }

    fn cuStreamAttachMemAsync(stream: Handle, address: u64, _length: usize, _flags: u32) {
        with_stream(stream, |state, _| {
            if state.allocations.contains_key(&address) || state.host_ranges.contains_key(&(address as usize)) {
                Ok(())
            } else {
                Err(CudaError::INVALID_VALUE)
            }
        })
    }

    fn cuLaunchHostFunc(stream: Handle, function: Option<HostFn>, user_data: *mut c_void) {
        let function = function.ok_or(CudaError::INVALID_VALUE)?;
        host_function(stream, work::HostCall::Plain { function, data: user_data as usize })
    }

    fn cuStreamAddCallback(stream: Handle, callback: Option<StreamCallback>, user_data: *mut c_void, flags: u32) {
        let callback = callback.ok_or(CudaError::INVALID_VALUE)?;
        if flags != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        with_stream(stream, |state, stream| match state.stream(stream)?.capture {
            Some(_) => Err(CudaError::STREAM_CAPTURE_UNSUPPORTED),
            None => Ok(()),
        })?;
        host_function(stream, work::HostCall::WithStatus { callback, stream, data: user_data as usize })
    }

    fn cuCtxGetStreamPriorityRange(least: Out<i32>, greatest: Out<i32>) {
        check_context()?;
        least.set_if_wanted(*PRIORITIES.end());
        greatest.set_if_wanted(*PRIORITIES.start());
        Ok(())
    }

    fn cuCtxSynchronize() {
        let (driver, mut state, ctx) = in_context()?;
        graph::check_synchronous(&mut state, None)?;
        drop(state);
        driver.drain(ctx);
        driver.lock().current().map(|_| ())
    }

    fn cuEventCreate(event: Out<Handle>, flags: u32) {
        let (_, mut state, ctx) = in_context()?;
        // CU_EVENT_BLOCKING_SYNC, CU_EVENT_DISABLE_TIMING; interprocess events are not emulated.
        if flags & !3 != 0 || event.is_null() {
            return Err(CudaError::INVALID_VALUE);
        }
        let handle = state.new_handle(Kind::Event);
        state.events.insert(handle, Event { ctx, flags, last: None, captured: None });
        event.set(handle)
    }

    fn cuEventDestroy_v2(event: Handle) {
        let driver = Driver::get()?;
        match driver.lock().events.remove(&event) {
            Some(_) => Ok(()),
            None => Err(CudaError::INVALID_HANDLE),
        }
    }

    fn cuEventRecord(event: Handle, stream: Handle) {
        record_event(event, stream)
    }

    fn cuEventRecordWithFlags(event: Handle, stream: Handle, flags: u32) {
        if flags > 1 {
            return Err(CudaError::INVALID_VALUE);
        }
        record_event(event, stream)
    }

    fn cuEventQuery(event: Handle) {
        let (driver, mut state, _) = in_context()?;
        let Some(recording) = recording_of(&mut state, event)? else {
            return Ok(());
        };
        if state.reached(recording.mark) {
            return Ok(());
        }
        drop(state);
        driver.run_one(recording.mark);
        driver.lock().current()?;
        Err(CudaError::NOT_READY)
    }

    fn cuEventSynchronize(event: Handle) {
        let (driver, mut state, _) = in_context()?;
        let recording = recording_of(&mut state, event)?;
        drop(state);
        if let Some(recording) = recording {
            driver.run_until(recording.mark);
        }
        driver.lock().current().map(|_| ())
    }

    fn cuEventElapsedTime(milliseconds: Out<f32>, start: Handle, end: Handle) {
        elapsed(milliseconds, start, end)
    }

    fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: Handle, end: Handle) {
        elapsed(milliseconds, start, end)
    }
}
