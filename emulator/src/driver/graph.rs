//! Graphs: building them by hand, instantiating, updating and launching them.

use std::collections::HashMap;
use std::ffi::c_char;
use std::sync::{Arc, OnceLock};

use super::abi::{
    DevicePtr, GraphExecUpdateResultInfo, GraphInstantiateParams, Handle, HostNodeParams, In,
    KernelNodeParams, KernelNodeParamsV2, Memcpy3d, MemsetNodeParams, Out, Text,
};
use super::capture::{check_implicit, record};
use super::entry::api;
use super::error::{CudaError, Result};
use super::launch;
use super::objects::{ExecNode, Graph, GraphExec, HostCall, Mark, Purpose, Recording, Work};
use super::process::{Driver, in_context};
use super::queue::start_worker;
use super::state::HandleKind;
use super::transfer;

/// `CUgraphExecUpdateResult`.
mod update {
    pub const SUCCESS: u32 = 0;
    pub const TOPOLOGY_CHANGED: u32 = 2;
    pub const NODE_TYPE_CHANGED: u32 = 3;
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
    let handle = state.new_handle(HandleKind::GraphExec);
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
    fn cuGraphCreate(graph: Out<Handle>, flags: u32) {
        let driver = Driver::get()?;
        if flags != 0 || graph.is_null() {
            return Err(CudaError::INVALID_VALUE);
        }
        let mut state = driver.lock();
        let handle = state.new_handle(HandleKind::Graph);
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
                Some(a) if a.purpose == Purpose::Graph
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

    fn cuGraphDebugDotPrint(graph: Handle, path: Text, _flags: u32) {
        let text = dot(Driver::get()?.lock().graph(graph)?);
        std::fs::write(path.str()?, text).map_err(|_| CudaError::OPERATING_SYSTEM)
    }
}
