//! What the tests of the driver's calls share: a context, memory, streams, and macros for the answers.

use std::ffi::c_void;
use std::ptr::null_mut;

use cudarc::driver::sys;

/// Fails unless the call succeeds.
macro_rules! ok {
    ($call:expr) => {
        assert_eq!(
            unsafe { $call },
            cudarc::driver::sys::CUresult::CUDA_SUCCESS,
            "{}",
            stringify!($call)
        )
    };
}

/// Fails unless the call answers this error.
macro_rules! refused {
    ($error:ident, $call:expr) => {
        assert_eq!(
            unsafe { $call },
            cudarc::driver::sys::CUresult::$error,
            "{}",
            stringify!($call)
        )
    };
}

/// A context of its own for one test; destroyed in the end.
pub struct Context {
    pub ctx: sys::CUcontext,
    _guard: std::sync::MutexGuard<'static, ()>,
}

impl Context {
    pub fn new() -> Context {
        let guard = super::emulator();
        let mut ctx = null_mut();
        ok!(sys::cuInit(0));
        ok!(sys::cuCtxCreate_v2(&mut ctx, 0, 0));
        Context { ctx, _guard: guard }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        unsafe { sys::cuCtxDestroy_v2(self.ctx) };
    }
}

/// Device memory.
pub fn alloc(bytes: usize) -> u64 {
    let mut address = 0;
    ok!(sys::cuMemAlloc_v2(&mut address, bytes));
    address
}

/// A copy of `values` in device memory.
pub fn upload<T: Copy>(values: &[T]) -> u64 {
    let address = alloc(size_of_val(values));
    ok!(sys::cuMemcpyHtoD_v2(
        address,
        values.as_ptr().cast(),
        size_of_val(values)
    ));
    address
}

/// Words of device memory.
pub fn download(address: u64, count: usize) -> Vec<u32> {
    let mut values = vec![0u32; count];
    ok!(sys::cuMemcpyDtoH_v2(
        values.as_mut_ptr().cast(),
        address,
        4 * count
    ));
    values
}

/// A copy of `values` in pinned memory.
pub fn pinned(values: &[u32]) -> *mut u32 {
    let mut memory: *mut c_void = null_mut();
    ok!(sys::cuMemHostAlloc(&mut memory, size_of_val(values), 0));
    let memory = memory.cast::<u32>();
    unsafe { memory.copy_from(values.as_ptr(), values.len()) };
    memory
}

/// A stream.
pub fn stream(flags: u32) -> sys::CUstream {
    let mut stream = null_mut();
    ok!(sys::cuStreamCreate(&mut stream, flags));
    stream
}

/// An event.
pub fn event() -> sys::CUevent {
    let mut event = null_mut();
    ok!(sys::cuEventCreate(&mut event, 0));
    event
}

/// Begins a capture in the global mode.
pub fn begin(stream: sys::CUstream) {
    ok!(sys::cuStreamBeginCapture_v2(
        stream,
        sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL
    ));
}

/// A handle that nobody gave out.
pub fn forged<T>(number: usize) -> *mut T {
    number as *mut T
}
