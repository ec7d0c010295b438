//! The calls about streams and events.

use std::ffi::c_void;
use std::sync::{Arc, OnceLock};

use super::abi::{Handle, HostFn, Out, StreamCallback};
use super::capture;
use super::entry::api;
use super::error::{CudaError, Result};
use super::objects::{Event, HostCall, Mark, NON_BLOCKING, Recording, Stream, Work};
use super::process::{Driver, check_context, in_context};
use super::queue::start_worker;
use super::state::{DriverState, HandleKind};

/// Priorities of an RTX 3090: greatest first.
const PRIORITIES: std::ops::RangeInclusive<i32> = -5..=0;
const EVENT_DISABLE_TIMING: u32 = 2;

fn create_stream(out: Out<Handle>, flags: u32, priority: i32) -> Result<()> {
    let (_, mut state, ctx) = in_context()?;
    if flags & !NON_BLOCKING != 0 || out.is_null() {
        return Err(CudaError::INVALID_VALUE);
    }
    let priority = priority.clamp(*PRIORITIES.start(), *PRIORITIES.end());
    let handle = state.new_handle(HandleKind::Stream);
    state
        .streams
        .insert(handle, Stream::new(ctx, flags, priority, false));
    out.set(handle)
}

fn with_stream<T>(
    handle: Handle,
    read: impl FnOnce(&mut DriverState, Handle) -> Result<T>,
) -> Result<T> {
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
        capture::check_active(&state, capture_id(&state, stream)?)?;
        if let Some(event) = state.events.get_mut(&event) {
            event.captured = Some(mark);
        }
        return Ok(());
    }
    capture::check_implicit(&mut state, stream)?;
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

fn capture_id(state: &DriverState, stream: Handle) -> Result<u64> {
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
        return capture::join(&mut state, stream, id, &nodes);
    }
    let mark = event.last.as_ref().map(|recording| recording.mark);
    if state.stream(stream)?.capture.is_some() {
        // A wait for uncaptured work cannot become part of a graph.
        capture::invalidate_stream(&mut state, stream);
        return Err(CudaError::STREAM_CAPTURE_ISOLATION);
    }
    // An event that was never recorded is complete.
    if let Some(mark) = mark {
        state.submit_after(driver, stream, vec![mark], Work::Empty)?;
    }
    Ok(())
}

/// The last recording of an event, for the calls that look at its completion.
fn recording_of(state: &mut DriverState, event: Handle) -> Result<Option<Arc<Recording>>> {
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
fn host_function(stream: Handle, call: HostCall) -> Result<()> {
    Driver::get()?.enqueue(stream, Work::Host(call))
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
            capture::invalidate_stream(&mut state, stream);
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
        capture::check_synchronous(&mut state, Some(stream))?;
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
        capture::check_synchronous(&mut state, Some(stream))?;
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
        host_function(stream, HostCall::Plain { function, data: user_data as usize })
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
        host_function(stream, HostCall::WithStatus { callback, stream, data: user_data as usize })
    }

    fn cuCtxGetStreamPriorityRange(least: Out<i32>, greatest: Out<i32>) {
        check_context()?;
        least.set_if_wanted(*PRIORITIES.end());
        greatest.set_if_wanted(*PRIORITIES.start());
        Ok(())
    }

    fn cuCtxSynchronize() {
        let (driver, mut state, ctx) = in_context()?;
        capture::check_synchronous(&mut state, None)?;
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
        let handle = state.new_handle(HandleKind::Event);
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
