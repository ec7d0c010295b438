//! Graphs: building them by hand or by stream capture, instantiating, updating and launching them.

use std::collections::{HashMap, HashSet};
use std::ffi::c_char;
use std::sync::{Arc, OnceLock};
use std::thread::{self, ThreadId};

use super::abi::{
    DevicePtr, GraphExecUpdateResultInfo, GraphInstantiateParams, Handle, HostNodeParams, In,
    KernelNodeParams, KernelNodeParamsV2, Memcpy3d, MemsetNodeParams, Out,
};
use super::api;
use super::error::{CudaError, Result};
use super::launch;
use super::memory;
use super::state::{Driver, Kind, State, capture_mode, exchange_capture_mode, in_context};
use super::stream::{Mark, Recording, StreamCapture, start_worker};
use super::transfer;
use super::work::{HostCall, Work};

/// `CUstreamCaptureMode`.
mod mode {
    pub const GLOBAL: u32 = 0;
    pub const THREAD_LOCAL: u32 = 1;
    pub const RELAXED: u32 = 2;
}

/// `CUgraphExecUpdateResult`.
mod update {
    pub const SUCCESS: u32 = 0;
    pub const TOPOLOGY_CHANGED: u32 = 2;
    pub const NODE_TYPE_CHANGED: u32 = 3;
}

/// A graph: nodes in the order of their creation.
#[derive(Clone, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    /// Owned by the child node that it was cloned into: not to be destroyed on its own.
    is_child: bool,
}

#[derive(Clone)]
struct Node {
    handle: Handle,
    after: Vec<Handle>,
    work: Work,
    /// The graph handle behind a child node.
    child: Handle,
}

/// A graph made ready to launch.
pub struct GraphExec {
    nodes: Arc<Vec<ExecNode>>,
    flags: u64,
    launches: u64,
}

/// A node of an instantiated graph.
#[derive(Clone)]
pub struct ExecNode {
    /// The node of the graph that it was made from.
    pub source: Handle,
    /// Indices of the nodes that must be done before.
    pub after: Vec<usize>,
    /// What it does.
    pub work: Work,
    /// `cuGraphNodeSetEnabled`: a disabled node only orders others.
    pub enabled: bool,
}

/// A capture in progress.
pub struct Capture {
    graph: Handle,
    origin: Handle,
    mode: u32,
    thread: ThreadId,
    active: bool,
}

impl Graph {
    fn position(&self, node: Handle) -> Option<usize> {
        self.nodes.iter().position(|n| n.handle == node)
    }

    /// The nodes with indices for edges, if the edges make no cycle.
    fn flatten(&self) -> Option<Vec<ExecNode>> {
        let index: HashMap<Handle, usize> = self
            .nodes
            .iter()
            .enumerate()
            .map(|(i, node)| (node.handle, i))
            .collect();
        let nodes: Vec<ExecNode> = self
            .nodes
            .iter()
            .map(|node| ExecNode {
                source: node.handle,
                after: node
                    .after
                    .iter()
                    .filter_map(|h| index.get(h).copied())
                    .collect(),
                work: node.work.clone(),
                enabled: true,
            })
            .collect();
        let mut done = vec![false; nodes.len()];
        let mut left = nodes.len();
        while left > 0 {
            let before = left;
            for i in 0..nodes.len() {
                if !done[i] && nodes[i].after.iter().all(|&a| done[a]) {
                    done[i] = true;
                    left -= 1;
                }
            }
            if left == before {
                return None;
            }
        }
        Some(nodes)
    }
}

impl State {
    fn graph(&mut self, graph: Handle) -> Result<&mut Graph> {
        self.graphs.get_mut(&graph).ok_or(CudaError::INVALID_VALUE)
    }

    fn node(&mut self, node: Handle) -> Result<&mut Node> {
        let graph = *self.node_owner.get(&node).ok_or(CudaError::INVALID_VALUE)?;
        self.graph(graph)?
            .nodes
            .iter_mut()
            .find(|n| n.handle == node)
            .ok_or(CudaError::INVALID_VALUE)
    }

    fn add_node(&mut self, graph: Handle, after: Vec<Handle>, work: Work) -> Result<Handle> {
        let target = self.graph(graph)?;
        if after.iter().any(|node| target.position(*node).is_none()) {
            return Err(CudaError::INVALID_VALUE);
        }
        let unique: HashSet<&Handle> = after.iter().collect();
        if unique.len() != after.len() {
            return Err(CudaError::INVALID_VALUE);
        }
        let handle = self.new_handle(Kind::GraphNode);
        self.node_owner.insert(handle, graph);
        self.graph(graph)?.nodes.push(Node {
            handle,
            after,
            work,
            child: 0,
        });
        Ok(handle)
    }

    fn drop_graph(&mut self, graph: Handle) {
        if let Some(graph) = self.graphs.remove(&graph) {
            for node in &graph.nodes {
                self.node_owner.remove(&node.handle);
                if node.child != 0 {
                    self.drop_graph(node.child);
                }
            }
        }
        self.sweep_graph_memory();
    }

    /// A copy of a graph with its own nodes; also tells which old node became which.
    fn clone_graph(&mut self, graph: Handle) -> Result<(Handle, HashMap<Handle, Handle>)> {
        let mut copy = self.graph(graph)?.clone();
        copy.is_child = false;
        let handle = self.new_handle(Kind::Graph);
        let mut renamed = HashMap::new();
        for node in &mut copy.nodes {
            let old = node.handle;
            node.handle = self.new_handle(Kind::GraphNode);
            self.node_owner.insert(node.handle, handle);
            renamed.insert(old, node.handle);
        }
        for node in &mut copy.nodes {
            for after in &mut node.after {
                *after = renamed.get(after).copied().unwrap_or(*after);
            }
            if node.child != 0 {
                node.child = self.clone_graph(node.child)?.0;
            }
        }
        self.graphs.insert(handle, copy);
        Ok((handle, renamed))
    }
}

/// Records a piece of work that a capturing stream was given.
///
/// # Errors
/// `STREAM_CAPTURE_INVALIDATED` after an earlier error.
pub fn record(state: &mut State, stream: Handle, work: Work) -> Result<()> {
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
pub fn check_active(state: &State, id: u64) -> Result<()> {
    match state.captures.get(&id) {
        Some(capture) if capture.active => Ok(()),
        _ => Err(CudaError::STREAM_CAPTURE_INVALIDATED),
    }
}

/// Makes the capture that a stream takes part in unusable.
pub fn invalidate_stream(state: &mut State, stream: Handle) {
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
pub fn check_implicit(state: &mut State, stream: Handle) -> Result<()> {
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
pub fn check_synchronous(state: &mut State, stream: Option<Handle>) -> Result<()> {
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
pub fn forget_captures(state: &mut State) {
    let State {
        captures, streams, ..
    } = state;
    captures.retain(|_, capture| streams.contains_key(&capture.origin));
}

/// Makes a stream wait for an event that was recorded in a capture: it joins the capture.
///
/// # Errors
/// The capture errors.
pub fn join(state: &mut State, stream: Handle, id: u64, nodes: &[Handle]) -> Result<()> {
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
    let graph = state.new_handle(Kind::Graph);
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
    // The graph may end only in what the origin stream waited for.
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

fn instantiate(out: Out<Handle>, graph: Handle, flags: u64) -> Result<()> {
    let (_, mut state, _) = in_context()?;
    // AUTO_FREE_ON_LAUNCH, UPLOAD, USE_NODE_PRIORITY; a launch from the device is not emulated.
    if out.is_null() || flags & !0xf != 0 {
        return Err(CudaError::INVALID_VALUE);
    }
    if flags & 4 != 0 {
        return Err(CudaError::NOT_SUPPORTED);
    }
    let nodes = state
        .graph(graph)?
        .flatten()
        .ok_or(CudaError::INVALID_VALUE)?;
    let handle = state.new_handle(Kind::GraphExec);
    state.execs.insert(
        handle,
        GraphExec {
            nodes: Arc::new(nodes),
            flags,
            launches: 0,
        },
    );
    out.set(handle)
}

/// Event nodes of a graph, with those of the graphs inside it.
fn event_nodes(nodes: &[ExecNode], visit: &mut impl FnMut(&ExecNode)) {
    for node in nodes {
        match &node.work {
            Work::RecordNode(_) | Work::WaitNode(_) => visit(node),
            Work::Child(inner) => event_nodes(inner, visit),
            _ => {}
        }
    }
}

fn launch_graph(exec: Handle, stream: Handle) -> Result<()> {
    let (driver, mut state, ctx) = in_context()?;
    let stream = state.stream_of(ctx, stream)?;
    let seed = state.settings.seed();
    let found = state.execs.get_mut(&exec).ok_or(CudaError::INVALID_VALUE)?;
    found.launches += 1;
    let seed = seed ^ found.launches.rotate_left(32);
    let nodes = found.nodes.clone();
    if state.stream(stream)?.capture.is_some() {
        return record(&mut state, stream, Work::Child(nodes));
    }
    check_implicit(&mut state, stream)?;
    let mark = Mark {
        stream,
        number: state.tail(stream).number + 1,
    };
    let mut recordings = HashMap::new();
    let mut after = Vec::new();
    event_nodes(&nodes, &mut |node| match &node.work {
        Work::RecordNode(event) => {
            let recording = Arc::new(Recording {
                mark,
                time: OnceLock::new(),
            });
            recordings.insert(node.source, (*event, recording));
        }
        Work::WaitNode(event) => {
            let last = state.events.get(event).and_then(|e| e.last.as_ref());
            after.extend(last.map(|recording| recording.mark));
        }
        _ => {}
    });
    let mut by_node = HashMap::new();
    for (node, (event, recording)) in recordings {
        if let Some(event) = state.events.get_mut(&event) {
            event.last = Some(recording.clone());
            event.captured = None;
        }
        by_node.insert(node, recording);
    }
    state.submit_after(
        driver,
        stream,
        after,
        Work::Graph(nodes, Arc::new(by_node), seed),
    )?;
    drop(state);
    start_worker(driver);
    Ok(())
}

/// `CUgraphNodeType` of a node.
fn node_type(work: &Work) -> u32 {
    match work {
        Work::Kernel(_) => 0,
        Work::Copy(_) => 1,
        Work::Fill(_) => 2,
        Work::Host(_) => 3,
        Work::Child(_) | Work::Graph(..) => 4,
        Work::Empty | Work::Free(_) => 5,
        Work::WaitNode(_) => 6,
        Work::RecordNode(_) | Work::Record(_) => 7,
        Work::GraphAlloc(_) => 10,
        Work::GraphFree(_) => 11,
        Work::WriteValue(..) => 12,
    }
}

fn exec_update(exec: Handle, graph: Handle) -> Result<u32> {
    let (_, mut state, _) = in_context()?;
    let new = state
        .graph(graph)?
        .flatten()
        .ok_or(CudaError::INVALID_VALUE)?;
    let exec = state.execs.get_mut(&exec).ok_or(CudaError::INVALID_VALUE)?;
    let old = &exec.nodes;
    let same_shape =
        old.len() == new.len() && old.iter().zip(&new).all(|(o, n)| o.after == n.after);
    if !same_shape {
        return Ok(update::TOPOLOGY_CHANGED);
    }
    if old
        .iter()
        .zip(&new)
        .any(|(o, n)| node_type(&o.work) != node_type(&n.work))
    {
        return Ok(update::NODE_TYPE_CHANGED);
    }
    exec.nodes = Arc::new(new);
    Ok(update::SUCCESS)
}

fn update_outcome(result: u32) -> Result<()> {
    if result == update::SUCCESS {
        Ok(())
    } else {
        Err(CudaError::GRAPH_EXEC_UPDATE_FAILURE)
    }
}

/// Changes what a node of an instance does; launches that are already in a stream keep the old work.
fn exec_set(exec: Handle, node: Handle, work: Work) -> Result<()> {
    let (_, mut state, _) = in_context()?;
    let exec = state.execs.get_mut(&exec).ok_or(CudaError::INVALID_VALUE)?;
    let at = exec
        .nodes
        .iter()
        .position(|n| n.source == node)
        .ok_or(CudaError::INVALID_VALUE)?;
    if node_type(&exec.nodes[at].work) != node_type(&work) {
        return Err(CudaError::INVALID_VALUE);
    }
    Arc::make_mut(&mut exec.nodes)[at].work = work;
    Ok(())
}

fn node_set(node: Handle, work: Work) -> Result<()> {
    let (_, mut state, _) = in_context()?;
    let node = state.node(node)?;
    if node_type(&node.work) != node_type(&work) {
        return Err(CudaError::INVALID_VALUE);
    }
    node.work = work;
    Ok(())
}

fn add(out: Out<Handle>, graph: Handle, after: In<Handle>, count: usize, work: Work) -> Result<()> {
    let after = after.list(count)?;
    let (_, mut state, _) = in_context()?;
    if out.is_null() {
        return Err(CudaError::INVALID_VALUE);
    }
    out.set(state.add_node(graph, after, work)?)
}

/// Copies a list of handles to the caller: only its length if there is no array, and zeros beyond its end.
fn give_list(list: &[Handle], array: Out<Handle>, count: Out<usize>) -> Result<()> {
    if array.is_null() {
        return count.set(list.len());
    }
    let room = count.get()?;
    for i in 0..room {
        array.set_at(i, list.get(i).copied().unwrap_or(0))?;
    }
    count.set(room.min(list.len()))
}

fn kernel_work(params: KernelNodeParams, kernel: Handle) -> Result<Work> {
    let function = if params.func != 0 {
        params.func
    } else {
        kernel
    };
    launch::kernel_work(
        function,
        params.grid,
        params.block,
        params.shared_bytes,
        params.kernel_params,
        params.extra,
        false,
    )
}

fn kernel_params(node: Handle) -> Result<KernelNodeParams> {
    let (_, mut state, _) = in_context()?;
    match &state.node(node)?.work {
        Work::Kernel(kernel) => Ok(kernel.node_params()),
        _ => Err(CudaError::INVALID_VALUE),
    }
}

fn host_work(params: In<HostNodeParams>) -> Result<Work> {
    let params = params.get()?;
    Ok(Work::Host(HostCall::Plain {
        function: params.function.ok_or(CudaError::INVALID_VALUE)?,
        data: params.user_data as usize,
    }))
}

/// `CUgraphEdgeData`: the ports and the kind of an edge. There are only plain ones here, all zeros.
type EdgeData = u64;

/// Whether a program asks for nothing but plain edges.
fn plain_edges(data: In<EdgeData>, count: usize) -> Result<()> {
    match data.is_null() || data.list(count)?.iter().all(|&data| data == 0) {
        true => Ok(()),
        false => Err(CudaError::NOT_SUPPORTED),
    }
}

/// Writes the data of as many edges as a query gave: none if it only asked for their number.
fn give_plain(data: Out<EdgeData>, asked: bool, count: Out<usize>) -> Result<()> {
    if !asked && !data.is_null() {
        for index in 0..count.get()? {
            data.set_at(index, 0)?;
        }
    }
    Ok(())
}

fn edges(graph: Handle, from: Out<Handle>, to: Out<Handle>, count: Out<usize>) -> Result<()> {
    let mut state = Driver::get()?.lock();
    let graph = state.graph(graph)?;
    let edges: Vec<(Handle, Handle)> = graph
        .nodes
        .iter()
        .flat_map(|n| n.after.iter().map(|after| (*after, n.handle)))
        .collect();
    if from.is_null() != to.is_null() {
        return Err(CudaError::INVALID_VALUE);
    }
    let room = if from.is_null() { 0 } else { count.get()? };
    let ends: Vec<Handle> = edges.iter().map(|e| e.1).collect();
    let starts: Vec<Handle> = edges.iter().map(|e| e.0).collect();
    give_list(&starts, from, count)?;
    if !to.is_null() {
        count.set(room)?;
        give_list(&ends, to, count)?;
    }
    Ok(())
}

fn dependencies(node: Handle, nodes: Out<Handle>, count: Out<usize>) -> Result<()> {
    let mut state = Driver::get()?.lock();
    let list = state.node(node)?.after.clone();
    give_list(&list, nodes, count)
}

fn dependents(node: Handle, nodes: Out<Handle>, count: Out<usize>) -> Result<()> {
    let mut state = Driver::get()?.lock();
    let graph = *state
        .node_owner
        .get(&node)
        .ok_or(CudaError::INVALID_VALUE)?;
    let followers = state
        .graph(graph)?
        .nodes
        .iter()
        .filter(|n| n.after.contains(&node));
    let list: Vec<Handle> = followers.map(|n| n.handle).collect();
    give_list(&list, nodes, count)
}

fn edit_edges(
    graph: Handle,
    from: In<Handle>,
    to: In<Handle>,
    count: usize,
    add: bool,
) -> Result<()> {
    let pairs: Vec<(Handle, Handle)> = from.list(count)?.into_iter().zip(to.list(count)?).collect();
    let (_, mut state, _) = in_context()?;
    let graph = state.graph(graph)?;
    for &(from, to) in &pairs {
        let has = graph.position(from).is_some();
        let at = graph.position(to).ok_or(CudaError::INVALID_VALUE)?;
        let exists = graph.nodes[at].after.contains(&from);
        if !has || from == to || exists == add {
            return Err(CudaError::INVALID_VALUE);
        }
        if add {
            graph.nodes[at].after.push(from);
        } else {
            graph.nodes[at].after.retain(|node| *node != from);
        }
    }
    Ok(())
}

fn dot(graph: &Graph) -> String {
    let mut text = String::from("digraph cuda_graph {\n");
    for node in &graph.nodes {
        let label = match &node.work {
            Work::Kernel(kernel) => kernel.name().to_string(),
            work => format!("type {}", node_type(work)),
        };
        text += &format!("  n{:x} [label=\"{label}\"];\n", node.handle);
        for after in &node.after {
            text += &format!("  n{after:x} -> n{:x};\n", node.handle);
        }
    }
    text + "}\n"
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

    fn cuGraphCreate(graph: Out<Handle>, flags: u32) {
        let driver = Driver::get()?;
        if flags != 0 || graph.is_null() {
            return Err(CudaError::INVALID_VALUE);
        }
        let mut state = driver.lock();
        let handle = state.new_handle(Kind::Graph);
        state.graphs.insert(handle, Graph::default());
        graph.set(handle)
    }

    fn cuGraphDestroy(graph: Handle) {
        let mut state = Driver::get()?.lock();
        if state.graph(graph)?.is_child {
            return Err(CudaError::INVALID_VALUE);
        }
        state.drop_graph(graph);
        Ok(())
    }

    fn cuGraphClone(copy: Out<Handle>, original: Handle) {
        let mut state = Driver::get()?.lock();
        if copy.is_null() {
            return Err(CudaError::INVALID_VALUE);
        }
        copy.set(state.clone_graph(original)?.0)
    }

    fn cuGraphInstantiateWithFlags(exec: Out<Handle>, graph: Handle, flags: u64) {
        instantiate(exec, graph, flags)
    }

    fn cuGraphInstantiate_v2(
        exec: Out<Handle>,
        graph: Handle,
        error_node: Out<Handle>,
        log: Out<c_char>,
        log_bytes: usize,
    ) {
        error_node.set_if_wanted(0);
        if !log.is_null() && log_bytes > 0 {
            log.set_text("", log_bytes)?;
        }
        instantiate(exec, graph, 0)
    }

    fn cuGraphInstantiateWithParams(exec: Out<Handle>, graph: Handle, params: Out<GraphInstantiateParams>) {
        let mut asked = params.get()?;
        let outcome = instantiate(exec, graph, asked.flags);
        asked.error_node = 0;
        asked.result = u32::from(outcome.is_err());
        params.set(asked)?;
        outcome
    }

    fn cuGraphExecDestroy(exec: Handle) {
        let mut state = Driver::get()?.lock();
        let found = state.execs.remove(&exec);
        state.sweep_graph_memory();
        found.map(|_| ()).ok_or(CudaError::INVALID_VALUE)
    }

    fn cuGraphExecGetFlags(exec: Handle, flags: Out<u64>) {
        let state = Driver::get()?.lock();
        flags.set(state.execs.get(&exec).ok_or(CudaError::INVALID_VALUE)?.flags)
    }

    fn cuGraphUpload(exec: Handle, stream: Handle) {
        let (driver, state, _) = in_context()?;
        if !state.execs.contains_key(&exec) {
            return Err(CudaError::INVALID_VALUE);
        }
        drop(state);
        driver.enqueue(stream, Work::Empty)
    }

    fn cuGraphLaunch(exec: Handle, stream: Handle) {
        launch_graph(exec, stream)
    }

    fn cuGraphExecUpdate_v2(exec: Handle, graph: Handle, info: Out<GraphExecUpdateResultInfo>) {
        let result = exec_update(exec, graph)?;
        info.set_if_wanted(GraphExecUpdateResultInfo { result, error_node: 0, error_from_node: 0 });
        update_outcome(result)
    }

    fn cuGraphExecUpdate(exec: Handle, graph: Handle, error_node: Out<Handle>, result: Out<u32>) {
        let found = exec_update(exec, graph)?;
        error_node.set_if_wanted(0);
        result.set_if_wanted(found);
        update_outcome(found)
    }

    fn cuGraphGetNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) {
        let mut state = Driver::get()?.lock();
        let list: Vec<Handle> = state.graph(graph)?.nodes.iter().map(|n| n.handle).collect();
        give_list(&list, nodes, count)
    }

    fn cuGraphGetRootNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) {
        let mut state = Driver::get()?.lock();
        let roots = state.graph(graph)?.nodes.iter().filter(|n| n.after.is_empty());
        let list: Vec<Handle> = roots.map(|n| n.handle).collect();
        give_list(&list, nodes, count)
    }

    fn cuGraphGetEdges(graph: Handle, from: Out<Handle>, to: Out<Handle>, count: Out<usize>) {
        edges(graph, from, to, count)
    }

    fn cuGraphGetEdges_v2(
        graph: Handle,
        from: Out<Handle>,
        to: Out<Handle>,
        data: Out<EdgeData>,
        count: Out<usize>,
    ) {
        edges(graph, from, to, count)?;
        give_plain(data, from.is_null(), count)
    }

    fn cuGraphNodeGetType(node: Handle, kind: Out<u32>) {
        let mut state = Driver::get()?.lock();
        kind.set(node_type(&state.node(node)?.work))
    }

    fn cuGraphNodeGetDependencies(node: Handle, nodes: Out<Handle>, count: Out<usize>) {
        dependencies(node, nodes, count)
    }

    fn cuGraphNodeGetDependentNodes(node: Handle, nodes: Out<Handle>, count: Out<usize>) {
        dependents(node, nodes, count)
    }

    fn cuGraphNodeGetDependencies_v2(
        node: Handle,
        nodes: Out<Handle>,
        data: Out<EdgeData>,
        count: Out<usize>,
    ) {
        dependencies(node, nodes, count)?;
        give_plain(data, nodes.is_null(), count)
    }

    fn cuGraphNodeGetDependentNodes_v2(
        node: Handle,
        nodes: Out<Handle>,
        data: Out<EdgeData>,
        count: Out<usize>,
    ) {
        dependents(node, nodes, count)?;
        give_plain(data, nodes.is_null(), count)
    }

    fn cuGraphDestroyNode(node: Handle) {
        let mut state = Driver::get()?.lock();
        let graph = state.node_owner.remove(&node).ok_or(CudaError::INVALID_VALUE)?;
        let graph = state.graph(graph)?;
        let child = graph.position(node).map_or(0, |at| graph.nodes[at].child);
        graph.nodes.retain(|n| n.handle != node);
        for other in &mut graph.nodes {
            other.after.retain(|after| *after != node);
        }
        if child != 0 {
            state.drop_graph(child);
        }
        state.sweep_graph_memory();
        Ok(())
    }

    fn cuGraphAddDependencies(graph: Handle, from: In<Handle>, to: In<Handle>, count: usize) {
        edit_edges(graph, from, to, count, true)
    }

    fn cuGraphRemoveDependencies(graph: Handle, from: In<Handle>, to: In<Handle>, count: usize) {
        edit_edges(graph, from, to, count, false)
    }

    fn cuGraphAddDependencies_v2(
        graph: Handle,
        from: In<Handle>,
        to: In<Handle>,
        data: In<EdgeData>,
        count: usize,
    ) {
        plain_edges(data, count)?;
        edit_edges(graph, from, to, count, true)
    }

    fn cuGraphRemoveDependencies_v2(
        graph: Handle,
        from: In<Handle>,
        to: In<Handle>,
        data: In<EdgeData>,
        count: usize,
    ) {
        plain_edges(data, count)?;
        edit_edges(graph, from, to, count, false)
    }

    fn cuGraphAddEmptyNode(node: Out<Handle>, graph: Handle, after: In<Handle>, count: usize) {
        add(node, graph, after, count, Work::Empty)
    }

    fn cuGraphAddKernelNode(
        node: Out<Handle>,
        graph: Handle,
        after: In<Handle>,
        count: usize,
        params: In<KernelNodeParams>,
    ) {
        add(node, graph, after, count, kernel_work(params.get()?, 0)?)
    }

    fn cuGraphAddKernelNode_v2(
        node: Out<Handle>,
        graph: Handle,
        after: In<Handle>,
        count: usize,
        params: In<KernelNodeParamsV2>,
    ) {
        let params = params.get()?;
        add(node, graph, after, count, kernel_work(params.base, params.kernel)?)
    }

    fn cuGraphAddMemcpyNode(
        node: Out<Handle>,
        graph: Handle,
        after: In<Handle>,
        count: usize,
        params: In<Memcpy3d>,
        _ctx: Handle,
    ) {
        add(node, graph, after, count, Work::Copy(transfer::copy_3d(params.get()?)?))
    }

    fn cuGraphAddMemsetNode(
        node: Out<Handle>,
        graph: Handle,
        after: In<Handle>,
        count: usize,
        params: In<MemsetNodeParams>,
        _ctx: Handle,
    ) {
        add(node, graph, after, count, transfer::fill_node(params.get()?)?)
    }

    fn cuGraphAddHostNode(
        node: Out<Handle>,
        graph: Handle,
        after: In<Handle>,
        count: usize,
        params: In<HostNodeParams>,
    ) {
        add(node, graph, after, count, host_work(params)?)
    }

    fn cuGraphAddChildGraphNode(
        node: Out<Handle>,
        graph: Handle,
        after: In<Handle>,
        count: usize,
        child: Handle,
    ) {
        let after = after.list(count)?;
        let (_, mut state, _) = in_context()?;
        if node.is_null() || child == graph {
            return Err(CudaError::INVALID_VALUE);
        }
        let inner = state.graph(child)?.flatten().ok_or(CudaError::INVALID_VALUE)?;
        let handle = state.add_node(graph, after, Work::Child(Arc::new(inner)))?;
        let (copy, _) = state.clone_graph(child)?;
        state.graph(copy)?.is_child = true;
        state.node(handle)?.child = copy;
        node.set(handle)
    }

    fn cuGraphChildGraphNodeGetGraph(node: Handle, graph: Out<Handle>) {
        let mut state = Driver::get()?.lock();
        match state.node(node)?.child {
            0 => Err(CudaError::INVALID_VALUE),
            child => graph.set(child),
        }
    }

    fn cuGraphAddEventRecordNode(
        node: Out<Handle>,
        graph: Handle,
        after: In<Handle>,
        count: usize,
        event: Handle,
    ) {
        if !Driver::get()?.lock().events.contains_key(&event) {
            return Err(CudaError::INVALID_HANDLE);
        }
        add(node, graph, after, count, Work::RecordNode(event))
    }

    fn cuGraphAddEventWaitNode(
        node: Out<Handle>,
        graph: Handle,
        after: In<Handle>,
        count: usize,
        event: Handle,
    ) {
        if !Driver::get()?.lock().events.contains_key(&event) {
            return Err(CudaError::INVALID_HANDLE);
        }
        add(node, graph, after, count, Work::WaitNode(event))
    }

    fn cuGraphAddMemFreeNode(
        node: Out<Handle>,
        graph: Handle,
        after: In<Handle>,
        count: usize,
        address: DevicePtr,
    ) {
        let owned = {
            let (_, state, _) = in_context()?;
            matches!(
                state.allocations.get(&address),
                Some(a) if a.purpose == memory::Purpose::Graph
            )
        };
        if !owned {
            return Err(CudaError::INVALID_VALUE);
        }
        add(node, graph, after, count, Work::GraphFree(address))
    }

    fn cuGraphMemFreeNodeGetParams(node: Handle, address: Out<DevicePtr>) {
        match Driver::get()?.lock().node(node)?.work {
            Work::GraphFree(freed) => address.set(freed),
            _ => Err(CudaError::INVALID_VALUE),
        }
    }

    fn cuGraphKernelNodeGetParams(node: Handle, params: Out<KernelNodeParams>) {
        params.set(kernel_params(node)?)
    }

    fn cuGraphKernelNodeGetParams_v2(node: Handle, params: Out<KernelNodeParamsV2>) {
        params.set(KernelNodeParamsV2 { base: kernel_params(node)?, kernel: 0, ctx: 0 })
    }

    fn cuGraphKernelNodeSetParams(node: Handle, params: In<KernelNodeParams>) {
        node_set(node, kernel_work(params.get()?, 0)?)
    }

    fn cuGraphKernelNodeSetParams_v2(node: Handle, params: In<KernelNodeParamsV2>) {
        let params = params.get()?;
        node_set(node, kernel_work(params.base, params.kernel)?)
    }

    fn cuGraphMemsetNodeSetParams(node: Handle, params: In<MemsetNodeParams>) {
        node_set(node, transfer::fill_node(params.get()?)?)
    }

    fn cuGraphMemcpyNodeSetParams(node: Handle, params: In<Memcpy3d>) {
        node_set(node, Work::Copy(transfer::copy_3d(params.get()?)?))
    }

    fn cuGraphHostNodeSetParams(node: Handle, params: In<HostNodeParams>) {
        node_set(node, host_work(params)?)
    }

    fn cuGraphExecKernelNodeSetParams(exec: Handle, node: Handle, params: In<KernelNodeParams>) {
        exec_set(exec, node, kernel_work(params.get()?, 0)?)
    }

    fn cuGraphExecKernelNodeSetParams_v2(exec: Handle, node: Handle, params: In<KernelNodeParamsV2>) {
        let params = params.get()?;
        exec_set(exec, node, kernel_work(params.base, params.kernel)?)
    }

    fn cuGraphExecMemcpyNodeSetParams(exec: Handle, node: Handle, params: In<Memcpy3d>, _ctx: Handle) {
        exec_set(exec, node, Work::Copy(transfer::copy_3d(params.get()?)?))
    }

    fn cuGraphExecMemsetNodeSetParams(
        exec: Handle,
        node: Handle,
        params: In<MemsetNodeParams>,
        _ctx: Handle,
    ) {
        exec_set(exec, node, transfer::fill_node(params.get()?)?)
    }

    fn cuGraphExecHostNodeSetParams(exec: Handle, node: Handle, params: In<HostNodeParams>) {
        exec_set(exec, node, host_work(params)?)
    }

    fn cuGraphNodeSetEnabled(exec: Handle, node: Handle, enabled: u32) {
        let (_, mut state, _) = in_context()?;
        let exec = state.execs.get_mut(&exec).ok_or(CudaError::INVALID_VALUE)?;
        let at = exec.nodes.iter().position(|n| n.source == node).ok_or(CudaError::INVALID_VALUE)?;
        if !matches!(exec.nodes[at].work, Work::Kernel(_) | Work::Copy(_) | Work::Fill(_)) {
            return Err(CudaError::INVALID_VALUE);
        }
        Arc::make_mut(&mut exec.nodes)[at].enabled = enabled != 0;
        Ok(())
    }

    fn cuGraphNodeGetEnabled(exec: Handle, node: Handle, enabled: Out<u32>) {
        let (_, state, _) = in_context()?;
        let exec = state.execs.get(&exec).ok_or(CudaError::INVALID_VALUE)?;
        let found = exec.nodes.iter().find(|n| n.source == node).ok_or(CudaError::INVALID_VALUE)?;
        enabled.set(u32::from(found.enabled))
    }

    fn cuGraphDebugDotPrint(graph: Handle, path: super::abi::Text, _flags: u32) {
        let text = dot(Driver::get()?.lock().graph(graph)?);
        std::fs::write(path.str()?, text).map_err(|_| CudaError::OPERATING_SYSTEM)
    }
}
