//! Stream capture: recording work as the nodes of a graph, and what a capture forbids meanwhile.

use std::collections::HashSet;
use std::thread;

use super::abi::{Handle, Out};
use super::entry::api;
use super::error::{CudaError, Result};
use super::objects::{Capture, Graph, StreamCapture, Work};
use super::process::in_context;
use super::state::{DriverState, HandleKind};
use super::thread::{capture_mode, exchange_capture_mode};

/// `CUstreamCaptureMode`.
mod mode {
    pub const GLOBAL: u32 = 0;
    pub const THREAD_LOCAL: u32 = 1;
    pub const RELAXED: u32 = 2;
}

/// Records a piece of work that a capturing stream was given.
///
/// # Errors
/// `STREAM_CAPTURE_INVALIDATED` after an earlier error.
pub fn record(state: &mut DriverState, stream: Handle, work: Work) -> Result<()> {
    let capture = state
        .stream(stream)?
        .capture
        .as_ref()
        .ok_or(CudaError::ILLEGAL_STATE)?;
    let (id, after) = (capture.id, capture.after.clone());
    check_active(state, id)?;
    let graph = state.captures.get(&id).map_or(0, |c| c.graph);
    let node = state.add_node(graph, after, work)?;
    if let Some(capture) = &mut state.stream(stream)?.capture {
        capture.after = vec![node];
    }
    Ok(())
}

/// `STREAM_CAPTURE_INVALIDATED` unless the capture is in order.
pub fn check_active(state: &DriverState, id: u64) -> Result<()> {
    match state.captures.get(&id) {
        Some(capture) if capture.active => Ok(()),
        _ => Err(CudaError::STREAM_CAPTURE_INVALIDATED),
    }
}

/// Invalidates the capture that a stream takes part in.
pub fn invalidate_stream(state: &mut DriverState, stream: Handle) {
    let id = state
        .streams
        .get(&stream)
        .and_then(|s| s.capture.as_ref())
        .map(|c| c.id);
    if let Some(capture) = id.and_then(|id| state.captures.get_mut(&id)) {
        capture.active = false;
    }
}

/// Refuses work on the default stream while a stream that orders itself with it is capturing.
///
/// # Errors
/// `STREAM_CAPTURE_IMPLICIT`; the capture is invalidated.
pub fn check_implicit(state: &mut DriverState, stream: Handle) -> Result<()> {
    let target = state.stream(stream)?;
    if !target.is_legacy {
        return Ok(());
    }
    let ctx = target.ctx;
    let capturing: Vec<Handle> = state
        .streams
        .iter()
        .filter(|(_, s)| s.ctx == ctx && s.is_blocking() && s.capture.is_some())
        .map(|(handle, _)| *handle)
        .collect();
    if capturing.is_empty() {
        return Ok(());
    }
    for stream in capturing {
        invalidate_stream(state, stream);
    }
    Err(CudaError::STREAM_CAPTURE_IMPLICIT)
}

/// Refuses calls that wait or allocate at once while a capture forbids them.
///
/// # Errors
/// `STREAM_CAPTURE_UNSUPPORTED`; the capture is invalidated.
pub fn check_synchronous(state: &mut DriverState, stream: Option<Handle>) -> Result<()> {
    if let Some(stream) = stream
        && state.stream(stream)?.capture.is_some()
    {
        invalidate_stream(state, stream);
        return Err(CudaError::STREAM_CAPTURE_UNSUPPORTED);
    }
    let own_mode = capture_mode();
    if own_mode == mode::RELAXED {
        return Ok(());
    }
    let me = thread::current().id();
    let mut refused = false;
    for capture in state.captures.values_mut() {
        let forbids = match capture.mode {
            mode::GLOBAL => own_mode == mode::GLOBAL || capture.thread == me,
            mode::THREAD_LOCAL => capture.thread == me,
            _ => false,
        };
        if forbids && capture.active {
            capture.active = false;
            refused = true;
        }
    }
    if refused {
        Err(CudaError::STREAM_CAPTURE_UNSUPPORTED)
    } else {
        Ok(())
    }
}

/// Drops the captures whose stream is gone.
pub fn forget_captures(state: &mut DriverState) {
    let DriverState {
        captures, streams, ..
    } = state;
    captures.retain(|_, capture| streams.contains_key(&capture.origin));
}

/// Makes a stream wait for an event that was recorded in a capture: it joins the capture.
///
/// # Errors
/// The capture errors.
pub fn join(state: &mut DriverState, stream: Handle, id: u64, nodes: &[Handle]) -> Result<()> {
    if !state.captures.contains_key(&id) {
        return Err(CudaError::CAPTURED_EVENT);
    }
    check_active(state, id)?;
    let target = state.stream(stream)?;
    if target.is_legacy {
        if let Some(capture) = state.captures.get_mut(&id) {
            capture.active = false;
        }
        return Err(CudaError::STREAM_CAPTURE_IMPLICIT);
    }
    match &mut target.capture {
        None => {
            target.capture = Some(StreamCapture {
                id,
                after: nodes.to_vec(),
            });
            Ok(())
        }
        Some(capture) if capture.id == id => {
            for node in nodes {
                if !capture.after.contains(node) {
                    capture.after.push(*node);
                }
            }
            Ok(())
        }
        Some(_) => {
            invalidate_stream(state, stream);
            if let Some(capture) = state.captures.get_mut(&id) {
                capture.active = false;
            }
            Err(CudaError::STREAM_CAPTURE_MERGE)
        }
    }
}

fn begin_capture(stream: Handle, mode: u32) -> Result<()> {
    let (_, mut state, ctx) = in_context()?;
    if mode > mode::RELAXED {
        return Err(CudaError::INVALID_VALUE);
    }
    let stream = state.stream_of(ctx, stream)?;
    let target = state.stream(stream)?;
    if target.is_legacy {
        return Err(CudaError::STREAM_CAPTURE_UNSUPPORTED);
    }
    if target.capture.is_some() {
        return Err(CudaError::ILLEGAL_STATE);
    }
    let graph = state.new_handle(HandleKind::Graph);
    state.graphs.insert(graph, Graph::default());
    // A capture's number is its graph's handle: unique, and not reused.
    state.captures.insert(
        graph,
        Capture {
            graph,
            origin: stream,
            mode,
            thread: thread::current().id(),
            active: true,
        },
    );
    state.stream(stream)?.capture = Some(StreamCapture {
        id: graph,
        after: Vec::new(),
    });
    Ok(())
}

fn end_capture(stream: Handle, out: Out<Handle>) -> Result<()> {
    let (_, mut state, ctx) = in_context()?;
    if out.is_null() {
        return Err(CudaError::INVALID_VALUE);
    }
    let stream = state.stream_of(ctx, stream)?;
    let Some(joined) = &state.stream(stream)?.capture else {
        return Err(CudaError::ILLEGAL_STATE);
    };
    let (id, last) = (joined.id, joined.after.clone());
    let capture = state.captures.get(&id).ok_or(CudaError::ILLEGAL_STATE)?;
    if capture.mode != mode::RELAXED && capture.thread != thread::current().id() {
        return Err(CudaError::STREAM_CAPTURE_WRONG_THREAD);
    }
    if capture.origin != stream {
        invalidate_stream(&mut state, stream);
        return Err(CudaError::STREAM_CAPTURE_UNMATCHED);
    }
    let (graph, active) = (capture.graph, capture.active);
    // All work of the graph has to be joined into the origin stream.
    let mut reached: HashSet<Handle> = HashSet::new();
    let mut open = last;
    while let Some(node) = open.pop() {
        if reached.insert(node)
            && let Ok(node) = state.node(node)
        {
            open.extend(node.after.iter().copied());
        }
    }
    let mut joined_all = state
        .graph(graph)?
        .nodes
        .iter()
        .all(|n| reached.contains(&n.handle));
    for other in state.streams.values_mut() {
        if let Some(capture) = &other.capture
            && capture.id == id
        {
            joined_all &= capture.after.iter().all(|node| reached.contains(node));
            other.capture = None;
        }
    }
    state.captures.remove(&id);
    let failure = match (active, joined_all) {
        (false, _) => Some(CudaError::STREAM_CAPTURE_INVALIDATED),
        (true, false) => Some(CudaError::STREAM_CAPTURE_UNJOINED),
        (true, true) => None,
    };
    if let Some(error) = failure {
        state.drop_graph(graph);
        out.set(0)?;
        return Err(error);
    }
    out.set(graph)
}

fn capture_info(
    stream: Handle,
    status: Out<u32>,
    id: Out<u64>,
    graph: Out<Handle>,
    dependencies: Out<*const Handle>,
    count: Out<usize>,
) -> Result<()> {
    let (_, mut state, ctx) = in_context()?;
    let stream = state.stream_of(ctx, stream)?;
    let Some(capture) = &state.stream(stream)?.capture else {
        return status.set(0);
    };
    let (number, after) = (capture.id, (capture.after.as_ptr(), capture.after.len()));
    let Some(capture) = state.captures.get(&number) else {
        return status.set(2);
    };
    status.set(if capture.active { 1 } else { 2 })?;
    id.set_if_wanted(number);
    graph.set_if_wanted(capture.graph);
    // Valid until the next call on the stream, as documented.
    dependencies.set_if_wanted(after.0);
    count.set_if_wanted(after.1);
    Ok(())
}

api! {
    fn cuStreamBeginCapture_v2(stream: Handle, mode: u32) {
        begin_capture(stream, mode)
    }

    fn cuStreamEndCapture(stream: Handle, graph: Out<Handle>) {
        end_capture(stream, graph)
    }

    fn cuStreamIsCapturing(stream: Handle, status: Out<u32>) {
        capture_info(stream, status, Out::null(), Out::null(), Out::null(), Out::null())
    }

    fn cuStreamGetCaptureInfo(stream: Handle, status: Out<u32>, id: Out<u64>) {
        capture_info(stream, status, id, Out::null(), Out::null(), Out::null())
    }

    fn cuStreamGetCaptureInfo_v2(
        stream: Handle,
        status: Out<u32>,
        id: Out<u64>,
        graph: Out<Handle>,
        dependencies: Out<*const Handle>,
        count: Out<usize>,
    ) {
        capture_info(stream, status, id, graph, dependencies, count)
    }

    fn cuStreamGetCaptureInfo_v3(
        stream: Handle,
        status: Out<u32>,
        id: Out<u64>,
        graph: Out<Handle>,
        dependencies: Out<*const Handle>,
        edge_data: Out<u64>,
        count: Out<usize>,
    ) {
        // All edges are plain, so there is no edge data.
        edge_data.set_if_wanted(0);
        capture_info(stream, status, id, graph, dependencies, count)
    }

    fn cuThreadExchangeStreamCaptureMode(mode: Out<u32>) {
        let new = mode.get()?;
        if new > mode::RELAXED {
            return Err(CudaError::INVALID_VALUE);
        }
        mode.set(exchange_capture_mode(new))
    }
}
