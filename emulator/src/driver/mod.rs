//! The CUDA driver API's C symbols on the emulated device.
//!
//! | module | what |
//! |---|---|
//! | `abi`, `error` | argument types, structures, result codes |
//! | `state` | tables of everything that has a handle; current contexts |
//! | `device`, `context` | the device's attributes; primary and other contexts |
//! | `memory`, `transfer` | allocations and pools; copies and fills |
//! | `module`, `launch` | PTX, functions, variables; launches and occupancy |
//! | `stream`, `work`, `graph` | queues that run late, events; what they run; capture and graphs |
//! | `control` | settings, fault texts, counters (`cuEmu…`) |
//! | `procaddr`, `not_supported` | lookup by name; calls that are refused |
//!
//! No call dereferences a handle, and none lets a panic out: it becomes `CUDA_ERROR_UNKNOWN`.

// The names are the C API's.
#![allow(non_snake_case)]

mod abi;
mod context;
pub mod control;
mod device;
mod error;
mod graph;
mod launch;
mod memory;
mod module;
mod not_supported;
mod procaddr;
mod state;
mod stream;
mod transfer;
mod work;

use std::panic::{AssertUnwindSafe, catch_unwind};

use error::{CUresult, CudaError, Result, SUCCESS};

/// Runs the inside of a call: no panic gets out, and a host function of a stream may not call back in.
fn entry(name: &'static str, call: impl FnOnce() -> Result<()>) -> CUresult {
    if state::is_in_callback() {
        return CudaError::NOT_PERMITTED.0;
    }
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => SUCCESS,
        Ok(Err(error)) => error.0,
        Err(_) => {
            eprintln!("cuda-emulator: internal error in {name}");
            CudaError::UNKNOWN.0
        }
    }
}

/// Defines exported calls from their insides.
macro_rules! api {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $kind:ty),* $(,)?) $body:block)*) => {$(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        // The argument list is the C API's.
        #[allow(clippy::too_many_arguments)]
        pub extern "C" fn $name($($arg: $kind),*) -> $crate::driver::error::CUresult {
            $crate::driver::entry(stringify!($name), move || $body)
        }
    )*};
}
use api;
