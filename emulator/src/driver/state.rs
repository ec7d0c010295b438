//! Everything that the driver knows: one table per kind of handle behind one lock, and the device's memory beside it.
//!
//! A handle is a number that is never given twice, so a forged or stale one is found out by looking it up.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::ThreadId;
use std::time::Instant;

use super::abi::{DevicePtr, Handle};
use super::control::Settings;
use super::device::{DRIVER_RESERVE, TOTAL_MEMORY};
use super::error::{CudaError, Result};
use super::graph::{Capture, Graph, GraphExec};
use super::memory::{Allocation, GraphMemory, HostRange, Pool};
use super::module::{Function, LoadedModule};
use super::stream::{Event, Stream};
use crate::memory::DeviceMemory;

/// The kinds of handles; the number is part of the handle.
#[derive(Clone, Copy)]
pub enum Kind {
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
pub struct State {
    next_serial: u64,
    pub contexts: HashMap<Handle, Context>,
    pub streams: HashMap<Handle, Stream>,
    pub events: HashMap<Handle, Event>,
    pub modules: HashMap<Handle, Arc<LoadedModule>>,
    pub functions: HashMap<Handle, Arc<Function>>,
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
    pub allocations: BTreeMap<u64, Allocation>,
    /// Pinned and registered host memory by address.
    pub host_ranges: BTreeMap<usize, HostRange>,
    pub settings: Settings,
    /// Memory of graphs' allocation nodes, with its entry in `allocations`.
    pub graph_memory: Vec<(DevicePtr, Weak<GraphMemory>)>,
    /// When the driver last took or did work: the background worker waits for a pause.
    pub last_activity: Instant,
}

impl State {
    /// A handle that was never given before.
    pub fn new_handle(&mut self, kind: Kind) -> Handle {
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
}

/// The driver of this process.
pub struct Driver {
    state: Mutex<State>,
    /// Held while work runs, so that one thread at a time advances the streams.
    pub exec: Mutex<()>,
    /// Woken when work is submitted.
    pub submitted: Condvar,
    /// The device's memory.
    pub memory: DeviceMemory,
}

static DRIVER: OnceLock<Option<Driver>> = OnceLock::new();

impl Driver {
    /// Starts the driver; later calls find it running.
    ///
    /// # Errors
    /// `OPERATING_SYSTEM` if the device's address space cannot be reserved.
    pub fn init() -> Result<()> {
        let started = DRIVER.get_or_init(|| {
            let memory = DeviceMemory::new((TOTAL_MEMORY - DRIVER_RESERVE) as u64)
                .inspect_err(|e| {
                    eprintln!("cuda-emulator: could not reserve the device's address space: {e}")
                })
                .ok()?;
            let mut state = State {
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
                settings: Settings::from_environment(),
                graph_memory: Vec::new(),
                last_activity: Instant::now(),
            };
            let pool = state.new_handle(Kind::Pool);
            state.pools.insert(pool, Pool::default());
            state.default_pool = pool;
            state.current_pool = pool;
            Some(Driver {
                state: Mutex::new(state),
                exec: Mutex::new(()),
                submitted: Condvar::new(),
                memory,
            })
        });
        started
            .as_ref()
            .map(|_| ())
            .ok_or(CudaError::OPERATING_SYSTEM)
    }

    /// The driver.
    ///
    /// # Errors
    /// `NOT_INITIALIZED` before `cuInit`.
    pub fn get() -> Result<&'static Driver> {
        DRIVER
            .get()
            .and_then(Option::as_ref)
            .ok_or(CudaError::NOT_INITIALIZED)
    }

    /// The tables. A panic elsewhere does not take them away: every change is made whole under the lock.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until work is submitted.
    pub fn wait_for_work<'a>(&'a self, guard: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.submitted
            .wait(guard)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tables and the current context of this thread, which every call that needs a healthy context starts with.
///
/// # Errors
/// `NOT_INITIALIZED` and those of [`State::current`].
pub fn in_context() -> Result<(&'static Driver, MutexGuard<'static, State>, Handle)> {
    let driver = Driver::get()?;
    let mut state = driver.lock();
    let ctx = state.current()?;
    Ok((driver, state, ctx))
}

/// The check alone.
///
/// # Errors
/// Those of [`in_context`].
pub fn check_context() -> Result<()> {
    in_context().map(|_| ())
}

thread_local! {
    static STACK: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
    static CAPTURE_MODE: Cell<u32> = const { Cell::new(0) };
}

/// The contexts that are current on the calling thread.
pub struct ContextStack;

impl ContextStack {
    /// The current context.
    pub fn top() -> Option<Handle> {
        STACK.with_borrow(|stack| stack.last().copied())
    }

    /// Makes `ctx` current above the present one.
    pub fn push(ctx: Handle) {
        STACK.with_borrow_mut(|stack| stack.push(ctx));
    }

    /// Takes the current context away.
    pub fn pop() -> Option<Handle> {
        STACK.with_borrow_mut(Vec::pop)
    }

    /// Replaces the current context; `None` takes it away.
    pub fn replace(ctx: Option<Handle>) {
        STACK.with_borrow_mut(|stack| {
            stack.pop();
            stack.extend(ctx);
        });
    }
}

/// Runs a host function of the program. Driver calls that it makes on this thread answer `NOT_PERMITTED`.
pub fn in_callback(run: impl FnOnce()) {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            IN_CALLBACK.set(false);
        }
    }
    IN_CALLBACK.set(true);
    let _leave = Leave;
    run();
}

/// Whether this thread is inside a host function of a stream.
pub fn is_in_callback() -> bool {
    IN_CALLBACK.get()
}

/// The thread's `CUstreamCaptureMode` for calls that would disturb a capture.
pub fn capture_mode() -> u32 {
    CAPTURE_MODE.get()
}

/// Sets what [`capture_mode`] returns and gives the old mode back.
pub fn exchange_capture_mode(mode: u32) -> u32 {
    CAPTURE_MODE.replace(mode)
}
