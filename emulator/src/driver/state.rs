//! Everything that the driver knows: one table per kind of handle, and the lookups in them.
//!
//! A handle is a number that is never given twice, so a forged or stale one is found out by looking it up.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::thread::{self, ThreadId};
use std::time::Instant;

use super::abi::{DevicePtr, Handle};
use super::error::{CudaError, Result};
use super::objects::{
    Capture, DeviceAllocation, Event, Graph, GraphExec, GraphMemory, HostRange, LoadedFunction,
    LoadedModule, Mark, Node, Pool, Stream, Work,
};
use super::settings::Settings;
use super::thread::ContextStack;

/// `CU_STREAM_LEGACY` and null mean the context's default stream.
const LEGACY: Handle = 1;
/// `CU_STREAM_PER_THREAD` means the calling thread's own default stream.
const PER_THREAD: Handle = 2;

/// The kinds of handles; the number is part of the handle.
#[derive(Clone, Copy)]
pub enum HandleKind {
    Context = 1,
    Stream = 2,
    Event = 3,
    Module = 4,
    Function = 5,
    Graph = 6,
    GraphNode = 7,
    GraphExec = 8,
    Pool = 9,
}

/// A context: what the memory, streams and modules of a program belong to, and its first unrecoverable error.
pub struct Context {
    /// Flags of its creation (`CU_CTX_*`).
    pub flags: u32,
    /// The stream behind handles 0 and 1.
    pub legacy: Handle,
    /// The streams behind handle 2, one per thread that used it.
    pub per_thread: HashMap<ThreadId, Handle>,
    /// The first fault. It stays until the context is destroyed, as on the real device.
    pub error: Option<CudaError>,
    /// `CUfunc_cache` preference: accepted and reported back.
    pub cache_config: u32,
    /// `CUlimit` values that a program may set: stack, printf queue, heap, launch depth, launch count, L2 granularity.
    pub limits: [usize; 6],
}

/// Tables of everything that has a handle.
pub struct DriverState {
    next_serial: u64,
    pub contexts: HashMap<Handle, Context>,
    pub streams: HashMap<Handle, Stream>,
    pub events: HashMap<Handle, Event>,
    pub modules: HashMap<Handle, Arc<LoadedModule>>,
    pub functions: HashMap<Handle, Arc<LoadedFunction>>,
    pub graphs: HashMap<Handle, Graph>,
    /// Which graph a node belongs to.
    pub node_owner: HashMap<Handle, Handle>,
    pub execs: HashMap<Handle, GraphExec>,
    pub captures: HashMap<u64, Capture>,
    pub pools: HashMap<Handle, Pool>,
    /// The primary context while it is active, and how often it was retained.
    pub primary: Option<(Handle, u32)>,
    /// Flags for the next activation of the primary context.
    pub primary_flags: u32,
    /// The pool of `cuMemAllocAsync`, and the one that the device started with.
    pub current_pool: Handle,
    pub default_pool: Handle,
    /// Device allocations by address.
    pub allocations: BTreeMap<u64, DeviceAllocation>,
    /// Pinned and registered host memory by address.
    pub host_ranges: BTreeMap<usize, HostRange>,
    pub settings: Settings,
    /// Memory of graphs' allocation nodes, with its entry in `allocations`.
    pub graph_memory: Vec<(DevicePtr, Weak<GraphMemory>)>,
    /// When the driver last took or did work: the background worker waits for a pause.
    pub last_activity: Instant,
}

impl DriverState {
    /// Empty tables with the pool that the device starts with.
    pub fn new(settings: Settings) -> DriverState {
        let mut state = DriverState {
            next_serial: 0,
            contexts: HashMap::new(),
            streams: HashMap::new(),
            events: HashMap::new(),
            modules: HashMap::new(),
            functions: HashMap::new(),
            graphs: HashMap::new(),
            node_owner: HashMap::new(),
            execs: HashMap::new(),
            captures: HashMap::new(),
            pools: HashMap::new(),
            primary: None,
            primary_flags: 0,
            current_pool: 0,
            default_pool: 0,
            allocations: BTreeMap::new(),
            host_ranges: BTreeMap::new(),
            settings,
            graph_memory: Vec::new(),
            last_activity: Instant::now(),
        };
        let pool = state.new_handle(HandleKind::Pool);
        state.pools.insert(pool, Pool::default());
        state.default_pool = pool;
        state.current_pool = pool;
        state
    }

    /// A handle that was never given before.
    pub fn new_handle(&mut self, kind: HandleKind) -> Handle {
        self.next_serial += 1;
        (kind as u64) << 44 | self.next_serial << 4
    }

    /// The context `handle`, if it lives.
    pub fn context(&mut self, handle: Handle) -> Result<&mut Context> {
        self.contexts
            .get_mut(&handle)
            .ok_or(CudaError::INVALID_CONTEXT)
    }

    /// The current context of this thread.
    ///
    /// # Errors
    /// `INVALID_CONTEXT` without one, `CONTEXT_IS_DESTROYED` if it is gone, the sticky error after a fault.
    pub fn current(&mut self) -> Result<Handle> {
        let handle = ContextStack::top().ok_or(CudaError::INVALID_CONTEXT)?;
        match self.contexts.get(&handle) {
            None => Err(CudaError::CONTEXT_IS_DESTROYED),
            Some(Context {
                error: Some(error), ..
            }) => Err(*error),
            Some(_) => Ok(handle),
        }
    }

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
                let stream = self.new_handle(HandleKind::Stream);
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

    /// The next mark of some stream that has work left.
    pub fn any_pending(&self) -> Option<Mark> {
        self.streams
            .iter()
            .filter(|(_, stream)| !stream.is_idle())
            .map(|(handle, stream)| Mark {
                stream: *handle,
                number: stream.completed + 1,
            })
            .min_by_key(|mark| mark.stream)
    }

    /// The allocation that holds all of `bytes` bytes at `address`.
    ///
    /// # Errors
    /// `INVALID_VALUE` if none does.
    pub fn device_range(
        &self,
        address: DevicePtr,
        bytes: usize,
    ) -> Result<(DevicePtr, DeviceAllocation)> {
        let (base, allocation) = self
            .allocations
            .range(..=address)
            .next_back()
            .ok_or(CudaError::INVALID_VALUE)?;
        let offset = (address - base) as usize;
        if offset > allocation.bytes || bytes > allocation.bytes - offset {
            return Err(CudaError::INVALID_VALUE);
        }
        Ok((*base, *allocation))
    }

    /// Checks that the device can reach all of `bytes` bytes at `address`: device memory, or pinned memory of its own.
    ///
    /// # Errors
    /// `INVALID_VALUE`.
    pub fn reachable(&self, address: DevicePtr, bytes: usize) -> Result<()> {
        match (
            self.device_range(address, bytes),
            self.host_range(address as usize, bytes),
        ) {
            (Ok(_), _) => Ok(()),
            (_, Some((_, range))) if range.allocated => Ok(()),
            _ => Err(CudaError::INVALID_VALUE),
        }
    }

    /// The pinned or registered range that holds all of `bytes` bytes at `address`.
    pub fn host_range(&self, address: usize, bytes: usize) -> Option<(usize, HostRange)> {
        let (base, range) = self.host_ranges.range(..=address).next_back()?;
        let offset = address - base;
        (offset <= range.bytes && bytes <= range.bytes - offset).then_some((*base, *range))
    }

    /// Drops the entries of graph memory that no graph holds any more.
    pub fn sweep_graph_memory(&mut self) {
        let allocations = &mut self.allocations;
        self.graph_memory.retain(|(address, memory)| {
            let held = memory.strong_count() > 0;
            if !held {
                allocations.remove(address);
            }
            held
        });
    }

    /// The function behind a handle.
    ///
    /// # Errors
    /// `INVALID_HANDLE`.
    pub fn function(&self, handle: Handle) -> Result<Arc<LoadedFunction>> {
        self.functions
            .get(&handle)
            .cloned()
            .ok_or(CudaError::INVALID_HANDLE)
    }

    /// A graph by its handle.
    ///
    /// # Errors
    /// `INVALID_VALUE`.
    pub fn graph(&mut self, graph: Handle) -> Result<&mut Graph> {
        self.graphs.get_mut(&graph).ok_or(CudaError::INVALID_VALUE)
    }

    /// A node by its handle, in whichever graph it is.
    ///
    /// # Errors
    /// `INVALID_VALUE`.
    pub fn node(&mut self, node: Handle) -> Result<&mut Node> {
        let graph = *self.node_owner.get(&node).ok_or(CudaError::INVALID_VALUE)?;
        self.graph(graph)?
            .nodes
            .iter_mut()
            .find(|n| n.handle == node)
            .ok_or(CudaError::INVALID_VALUE)
    }

    /// Adds a node that runs after others.
    ///
    /// # Errors
    /// `INVALID_VALUE` for a graph that is gone, and for nodes of other graphs or named twice.
    pub fn add_node(&mut self, graph: Handle, after: Vec<Handle>, work: Work) -> Result<Handle> {
        let target = self.graph(graph)?;
        if after.iter().any(|node| target.position(*node).is_none()) {
            return Err(CudaError::INVALID_VALUE);
        }
        let unique: HashSet<&Handle> = after.iter().collect();
        if unique.len() != after.len() {
            return Err(CudaError::INVALID_VALUE);
        }
        let handle = self.new_handle(HandleKind::GraphNode);
        self.node_owner.insert(handle, graph);
        self.graph(graph)?.nodes.push(Node {
            handle,
            after,
            work,
            child: 0,
        });
        Ok(handle)
    }

    /// Forgets a graph and those inside it.
    pub fn drop_graph(&mut self, graph: Handle) {
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
    ///
    /// # Errors
    /// `INVALID_VALUE` for a graph that is gone.
    pub fn clone_graph(&mut self, graph: Handle) -> Result<(Handle, HashMap<Handle, Handle>)> {
        let mut copy = self.graph(graph)?.clone();
        copy.is_child = false;
        let handle = self.new_handle(HandleKind::Graph);
        let mut renamed = HashMap::new();
        for node in &mut copy.nodes {
            let old = node.handle;
            node.handle = self.new_handle(HandleKind::GraphNode);
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
