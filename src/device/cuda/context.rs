//! A GPU in use: its context, its stream, its memory and the modules loaded on it.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::mem::size_of_val;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::{result, sys};
use rayon::prelude::*;

use super::code::{self, Code, Compiler};
use super::driver::{Driver, check};
use super::error::CudaError;
use super::{cache, nvrtc};
use crate::device::progress::{Observer, Progress, Stage};
use crate::kernel::cuda::launch::{DevicePtr, Kernel, Launch, Program};
use crate::kernel::cuda::target::Target;

/// A GPU with a stream of this process.
pub(super) struct Context {
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    copy_stream: sys::CUstream,
    name: String,
    target: Target,
    emulated: bool,
    modules: Mutex<Modules>,
}

/// Programs that are on the GPU.
#[derive(Default)]
struct Modules {
    loaded: HashMap<Program, sys::CUmodule>,
    /// How many forms of code the driver has refused; those are not tried again.
    refused: usize,
}

// SAFETY: the driver's handles may be used from any thread that makes the context current, which every method does.
unsafe impl Send for Context {}
// SAFETY: as above; the driver locks inside.
unsafe impl Sync for Context {}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// Compiles `programs`, in parallel; tells `observer` how far it is.
fn compile_all(
    programs: &[&Program],
    code: Code,
    observer: Option<&Observer>,
) -> Result<Vec<Vec<u8>>, CudaError> {
    let total = programs.len() as u64;
    let done = AtomicU64::new(0);
    let tell = |done| {
        if let Some(observer) = observer {
            observer.tell(Progress {
                what: Stage::Kernels,
                done,
                total,
            });
        }
    };
    tell(0);
    programs
        .par_iter()
        .map(|program| {
            let compiled = cache::compiled(program, code);
            tell(done.fetch_add(1, Ordering::Relaxed) + 1);
            compiled
        })
        .collect()
}

/// Loads programs into the current context; the driver's answer where it does not take this form of code.
fn load_all(
    programs: &[&Program],
    compiled: Vec<Vec<u8>>,
    loaded: &mut HashMap<Program, sys::CUmodule>,
) -> Result<Option<sys::CUresult>, CudaError> {
    for (&program, mut image) in programs.iter().zip(compiled) {
        // PTX ends with a NUL for the driver; machine code tells its own length.
        image.push(0);
        // SAFETY: a NUL-terminated PTX text, or machine code as NVRTC gave it; unloaded with the context.
        match unsafe { result::module::load_data(image.as_ptr().cast::<c_void>()) } {
            Ok(module) => {
                loaded.insert(program.clone(), module);
            }
            Err(error) if of_another_release(error.0) => return Ok(Some(error.0)),
            Err(error) => return check(&format!("loading {program}"), Err(error)),
        }
    }
    Ok(None)
}

/// Whether the driver says that it does not know this form of code, rather than that the program is wrong.
fn of_another_release(answer: sys::CUresult) -> bool {
    use sys::CUresult as R;
    matches!(
        answer,
        R::CUDA_ERROR_INVALID_IMAGE
            | R::CUDA_ERROR_NO_BINARY_FOR_GPU
            | R::CUDA_ERROR_JIT_COMPILER_NOT_FOUND
            | R::CUDA_ERROR_UNSUPPORTED_PTX_VERSION
            | R::CUDA_ERROR_JIT_COMPILATION_DISABLED
    )
}

/// Compute capability below which the kernels' instructions (`cp.async`, bf16 `mma`) do not exist.
const LEAST_CAPABILITY: (u32, u32) = (8, 0);

impl Context {
    pub fn open(driver: Driver, ordinal: usize) -> Result<Self, CudaError> {
        driver.load()?;
        let count = check("counting GPUs", result::device::get_count())? as usize;
        if count == 0 {
            return Err(CudaError::NoDevice);
        }
        if ordinal >= count {
            return Err(CudaError::NoSuchDevice { ordinal, count });
        }
        let device = check("opening the GPU", result::device::get(ordinal as i32))?;
        let attribute = |which| {
            // SAFETY: a device that the driver named.
            check("asking the GPU", unsafe {
                result::device::get_attribute(device, which)
            })
            .map(|v| v as u32)
        };
        use sys::CUdevice_attribute_enum as A;
        let target = Target {
            multiprocessors: attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            capability: (
                attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            ),
            shared_bytes_per_block: attribute(
                A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
            )?,
            fast_accumulate: false,
            deterministic: false,
        };
        let name = check("asking the GPU's name", result::device::get_name(device))?;
        if target.capability < LEAST_CAPABILITY {
            return Err(CudaError::OldDevice {
                name,
                capability: format!("{}.{}", target.capability.0, target.capability.1),
            });
        }
        // SAFETY: a device that the driver named; released when this is dropped.
        let context = check("making a context", unsafe {
            result::primary_ctx::retain(device)
        })?;
        // SAFETY: the context was just retained.
        check("making a context", unsafe {
            result::ctx::set_current(context)
        })?;
        let stream = check(
            "making a stream",
            result::stream::create(result::stream::StreamKind::NonBlocking),
        )?;
        let copy_stream = check(
            "making a stream",
            result::stream::create(result::stream::StreamKind::NonBlocking),
        )?;
        Ok(Self {
            device,
            context,
            stream,
            copy_stream,
            name,
            target,
            emulated: driver == Driver::Emulated,
            modules: Mutex::default(),
        })
    }

    /// The driver's CUDA release, such as (12, 9).
    pub fn driver_version(&self) -> Result<(i32, i32), CudaError> {
        let mut version = 0;
        // SAFETY: a place for an integer.
        let answer = unsafe { sys::cuDriverGetVersion(&mut version) };
        check("asking the driver's version", answer.result())?;
        Ok((version / 1000, version % 1000 / 10))
    }

    /// What programs are compiled to here, in the order to be tried; at least one form.
    ///
    /// # Errors
    /// If NVRTC is missing or compiles nothing that this GPU runs.
    pub fn attempts(&self) -> Result<Vec<Code>, CudaError> {
        let nvrtc = nvrtc::nvrtc()?;
        let capability = self.target.capability;
        let compiler = Compiler::of(nvrtc);
        let attempts = code::attempts(&compiler, capability, LEAST_CAPABILITY, self.emulated);
        match attempts.is_empty() {
            true => Err(CudaError::UnknownDevice {
                nvrtc: nvrtc.version(),
                path: nvrtc.path().to_owned(),
                capability: format!("{}.{}", capability.0, capability.1),
            }),
            false => Ok(attempts),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Makes the context current for this thread.
    fn bind(&self) -> Result<(), CudaError> {
        // SAFETY: the context lives as long as `self`.
        check("entering the context", unsafe {
            result::ctx::set_current(self.context)
        })
    }

    /// Bytes that can still be allocated, and bytes in all.
    pub fn memory_info(&self) -> Result<(usize, usize), CudaError> {
        self.bind()?;
        check("asking for free memory", result::mem_get_info())
    }

    /// `bytes` of device memory with undefined contents.
    pub fn allocate(self: &Arc<Self>, what: &str, bytes: usize) -> Result<Memory, CudaError> {
        self.bind()?;
        if bytes == 0 {
            return Ok(Memory {
                at: DevicePtr::NULL,
                bytes,
                context: self.clone(),
            });
        }
        // SAFETY: freed when the memory is dropped.
        match unsafe { result::malloc_sync(bytes) } {
            Ok(at) => Ok(Memory {
                at: DevicePtr(at),
                bytes,
                context: self.clone(),
            }),
            Err(error) if error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                Err(CudaError::NoRoom {
                    what: what.to_owned(),
                    bytes,
                })
            }
            Err(error) => check(what, Err(error)),
        }
    }

    /// Waits for everything on the stream.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.bind()?;
        // SAFETY: the stream lives as long as `self`.
        check("running the plan", unsafe {
            result::stream::synchronize(self.stream)
        })
    }

    /// Copies `values` to `to` behind what the stream does now; `values` may change after the call.
    pub fn upload<T: bytemuck::NoUninit>(
        &self,
        to: DevicePtr,
        values: &[T],
    ) -> Result<(), CudaError> {
        if size_of_val(values) == 0 {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: pageable memory is read before the call returns; callers give memory of at least this size.
        check("copying to the GPU", unsafe {
            result::memcpy_htod_async(to.0, values, self.stream)
        })
    }

    /// Copies from `from` once everything on the stream is done.
    pub fn download<T: bytemuck::Pod>(
        &self,
        from: DevicePtr,
        len: usize,
    ) -> Result<Vec<T>, CudaError> {
        let mut values = vec![T::zeroed(); len];
        self.synchronize()?;
        if len > 0 {
            // SAFETY: the slice has the size that is copied; callers give memory of at least this size.
            check("copying from the GPU", unsafe {
                result::memcpy_dtoh_sync(&mut values, from.0)
            })?;
        }
        Ok(values)
    }

    /// Sets `bytes` bytes at `to` to `value`, behind what the stream does now.
    pub fn fill(&self, to: DevicePtr, value: u8, bytes: usize) -> Result<(), CudaError> {
        if bytes == 0 {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: callers give memory of at least this size.
        check("clearing memory", unsafe {
            result::memset_d8_async(to.0, value, bytes, self.stream)
        })
    }

    /// Compiles and loads all programs of `launches` that are not loaded yet, in parallel; tells `observer` how far it is.
    pub fn prepare(
        &self,
        launches: &[Launch],
        observer: Option<&Observer>,
    ) -> Result<(), CudaError> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wanted: Vec<&Program> = launches.iter().map(|l| &l.kernel.program).collect();
        wanted.sort();
        wanted.dedup();
        wanted.retain(|program| !modules.loaded.contains_key(program));
        if wanted.is_empty() {
            return Ok(());
        }
        let attempts = self.attempts()?;
        let mut refusals = Vec::new();
        for code in &attempts[modules.refused..] {
            let compiled = compile_all(&wanted, *code, observer)?;
            self.bind()?;
            match load_all(&wanted, compiled, &mut modules.loaded)? {
                None => return Ok(()),
                Some(answer) => {
                    tracing::debug!("the driver answers {answer:?} to {code}");
                    refusals.push(format!("{code} ({answer:?})"));
                    // Of several forms the last one remains, so that the next plan hears of it too.
                    modules.refused = (modules.refused + 1).min(attempts.len() - 1);
                    wanted.retain(|program| !modules.loaded.contains_key(program));
                }
            }
        }
        Err(CudaError::CodeRefused {
            driver: self.driver_version()?,
            nvrtc: nvrtc::nvrtc()?.version(),
            refusals: refusals.join(", "),
        })
    }

    /// The entry point of a kernel whose program is loaded, allowed to take `shared_bytes` of dynamic shared memory.
    pub fn function(
        &self,
        kernel: &Kernel,
        shared_bytes: u32,
    ) -> Result<sys::CUfunction, CudaError> {
        /// What a block may take without asking.
        const SHARED_WITHOUT_OPT_IN: u32 = 48 << 10;
        self.bind()?;
        let modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let module = modules.loaded[&kernel.program];
        let what = || format!("finding {} in {}", kernel.entry, kernel.program);
        let name = CString::new(kernel.entry).expect("entries are identifiers");
        // SAFETY: a loaded module.
        let function = check(&what(), unsafe {
            result::module::get_function(module, name)
        })?;
        if shared_bytes > SHARED_WITHOUT_OPT_IN {
            use sys::CUfunction_attribute_enum as A;
            let attribute = A::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: a function of a loaded module.
            check(&what(), unsafe {
                result::function::set_function_attribute(function, attribute, shared_bytes as i32)
            })?;
        }
        Ok(function)
    }

    /// The stream that plans run on.
    pub fn stream(&self) -> sys::CUstream {
        self.stream
    }

    /// The stream that inputs travel on.
    pub fn copy_stream(&self) -> sys::CUstream {
        self.copy_stream
    }

    /// Makes `stream` wait for `event`, if it was ever recorded.
    pub fn wait(&self, stream: sys::CUstream, event: &GpuEvent) -> Result<(), CudaError> {
        self.bind()?;
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: a stream and an event of this context.
        check("ordering streams", unsafe {
            result::stream::wait_event(stream, event.event, flags)
        })
    }

    /// Copies `bytes` bytes on the plan's stream.
    pub fn copy(&self, to: DevicePtr, from: DevicePtr, bytes: usize) -> Result<(), CudaError> {
        if bytes == 0 {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: callers give memory of at least this size.
        check("moving an input", unsafe {
            result::memcpy_dtod_async(to.0, from.0, bytes, self.stream)
        })
    }

    /// Copies all of `from` on the copy stream.
    ///
    /// # Safety
    /// `from` is neither written nor freed before the copy is done, and `to` has its size.
    pub unsafe fn upload_pinned(&self, to: DevicePtr, from: &Pinned) -> Result<(), CudaError> {
        if from.bytes == 0 {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: `from` has this many bytes; the rest is the caller's promise.
        check("sending an input", unsafe {
            let bytes = std::slice::from_raw_parts(from.start, from.bytes);
            result::memcpy_htod_async(to.0, bytes, self.copy_stream)
        })
    }

    /// `bytes` bytes of host memory that the GPU copies from by itself.
    pub fn pinned(self: &Arc<Self>, bytes: usize) -> Result<Pinned, CudaError> {
        self.bind()?;
        let start = match bytes {
            0 => std::ptr::NonNull::dangling().as_ptr(),
            // SAFETY: freed when the memory is dropped.
            _ => check("pinning memory", unsafe { result::malloc_host(bytes, 0) })?.cast(),
        };
        Ok(Pinned {
            start,
            bytes,
            context: self.clone(),
        })
    }

    /// An event that was not recorded yet, without timing.
    pub fn event(self: &Arc<Self>) -> Result<GpuEvent, CudaError> {
        self.event_with(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)
    }

    /// An event for [`GpuEvent::seconds_until`].
    pub fn timing_event(self: &Arc<Self>) -> Result<GpuEvent, CudaError> {
        self.event_with(sys::CUevent_flags::CU_EVENT_DEFAULT)
    }

    fn event_with(self: &Arc<Self>, flags: sys::CUevent_flags) -> Result<GpuEvent, CudaError> {
        self.bind()?;
        Ok(GpuEvent {
            event: check("making an event", result::event::create(flags))?,
            context: self.clone(),
        })
    }

    /// Adds a launch to a stream of this context.
    ///
    /// # Safety
    /// The launch's addresses lead into memory that lives until the stream has done it.
    pub unsafe fn launch(
        &self,
        stream: sys::CUstream,
        function: sys::CUfunction,
        launch: &Launch,
    ) -> Result<(), CudaError> {
        let triple = |[x, y, z]: [u32; 3]| (x, y, z);
        let mut params = [launch.params.as_ptr().cast_mut().cast::<c_void>()];
        // SAFETY: one parameter, a struct of the size that the kernel declares (asserted when it was compiled).
        check(launch.kernel.entry, unsafe {
            result::launch_kernel(
                function,
                triple(launch.grid),
                triple(launch.block),
                launch.shared_bytes,
                stream,
                &mut params,
            )
        })
    }

    /// Records what `enqueue` adds to the stream that it is given, without running it. The stream is one of its own, so
    /// that nothing which another thread runs meanwhile is recorded too.
    pub fn capture(
        self: &Arc<Self>,
        enqueue: impl FnOnce(sys::CUstream) -> Result<(), CudaError>,
    ) -> Result<CapturedGraph, CudaError> {
        self.bind()?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        let stream = check(
            "making a stream",
            result::stream::create(result::stream::StreamKind::NonBlocking),
        )?;
        // SAFETY: a stream that only this call knows; its capture is ended, and it destroyed, whatever happens.
        let graph = unsafe {
            let begun = check(
                "beginning a capture",
                result::stream::begin_capture(stream, mode),
            );
            let enqueued = begun.and_then(|()| enqueue(stream));
            let graph = check("ending a capture", result::stream::end_capture(stream));
            let _ = result::stream::destroy(stream);
            match (enqueued, graph) {
                (Ok(()), graph) => graph?,
                (Err(error), graph) => {
                    if let Ok(graph) = graph {
                        let _ = result::graph::destroy(graph);
                    }
                    return Err(error);
                }
            }
        };
        let mut instance = std::ptr::null_mut();
        // SAFETY: a captured graph and a place for its instance; the graph is not needed once it is instantiated.
        let made = unsafe {
            let made = sys::cuGraphInstantiateWithFlags(&mut instance, graph, 0).result();
            let _ = result::graph::destroy(graph);
            made
        };
        check("instantiating the plan's graph", made)?;
        Ok(CapturedGraph {
            instance,
            context: self.clone(),
        })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if self.bind().is_err() {
            return;
        }
        // SAFETY: nothing that holds the context is alive, so the stream and modules are unused.
        unsafe {
            let _ = result::stream::synchronize(self.stream);
            for (_, module) in self
                .modules
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .loaded
                .drain()
            {
                let _ = result::module::unload(module);
            }
            let _ = result::stream::destroy(self.stream);
            let _ = result::stream::destroy(self.copy_stream);
            let _ = result::primary_ctx::release(self.device);
        }
    }
}

/// A block of device memory.
pub(super) struct Memory {
    pub at: DevicePtr,
    pub bytes: usize,
    context: Arc<Context>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.bytes > 0 && self.context.synchronize().is_ok() {
            // SAFETY: allocated by `allocate`, and the stream is done with it.
            let _ = unsafe { result::free_sync(self.at.0) };
        }
    }
}

/// Host memory that the GPU copies from by itself.
pub(super) struct Pinned {
    start: *mut u8,
    bytes: usize,
    context: Arc<Context>,
}

// SAFETY: plain memory, owned.
unsafe impl Send for Pinned {}

impl Pinned {
    /// Overwrites all of it.
    ///
    /// # Panics
    /// If `bytes` has another length.
    pub fn fill(&mut self, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.bytes);
        // SAFETY: owned memory of this length.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start, bytes.len()) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.bytes > 0 && self.context.bind().is_ok() {
            // SAFETY: both streams are done with it, and it was allocated by `pinned`.
            unsafe {
                let _ = result::stream::synchronize(self.context.copy_stream);
                let _ = result::free_host(self.start.cast());
            }
        }
    }
}

/// A point in a stream's work that others wait for.
pub(super) struct GpuEvent {
    event: sys::CUevent,
    context: Arc<Context>,
}

// SAFETY: a driver handle, used through its context alone.
unsafe impl Send for GpuEvent {}

impl GpuEvent {
    /// Marks what `stream` was given so far.
    pub fn record(&self, stream: sys::CUstream) -> Result<(), CudaError> {
        self.context.bind()?;
        // SAFETY: an event and a stream of this context.
        check("marking a stream", unsafe {
            result::event::record(self.event, stream)
        })
    }

    /// Waits until what was marked is done; returns at once if nothing was.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.context.bind()?;
        // SAFETY: an event of this context.
        check("waiting for a stream", unsafe {
            result::event::synchronize(self.event)
        })
    }

    /// Time on the device from this event to a `later` one; both were made for timing, recorded, and reached.
    pub fn seconds_until(&self, later: &Self) -> Result<f64, CudaError> {
        self.context.bind()?;
        // SAFETY: events of this context.
        let milliseconds = check("reading a time", unsafe {
            result::event::elapsed(self.event, later.event)
        })?;
        Ok(f64::from(milliseconds) / 1e3)
    }
}

impl Drop for GpuEvent {
    fn drop(&mut self) {
        if self.context.bind().is_ok() {
            // SAFETY: created by `event`; the driver keeps it until nothing waits for it.
            let _ = unsafe { result::event::destroy(self.event) };
        }
    }
}

/// A plan's launches as one object of the driver.
pub(super) struct CapturedGraph {
    instance: sys::CUgraphExec,
    context: Arc<Context>,
}

// SAFETY: a driver handle, used from one thread at a time through its owner.
unsafe impl Send for CapturedGraph {}

impl CapturedGraph {
    /// Adds all its launches to the stream.
    pub fn replay(&self) -> Result<(), CudaError> {
        self.context.bind()?;
        // SAFETY: the instance and the stream live as long as `self`.
        check("replaying the plan", unsafe {
            result::graph::launch(self.instance, self.context.stream)
        })
    }
}

impl Drop for CapturedGraph {
    fn drop(&mut self) {
        if self.context.synchronize().is_ok() {
            // SAFETY: instantiated by `capture`, and the stream is done with it.
            let _ = unsafe { result::graph::exec_destroy(self.instance) };
        }
    }
}
