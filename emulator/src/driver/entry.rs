//! How a C call gets in: exported symbols around functions that return a [`Result`].

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::{CUresult, CudaError, Result, SUCCESS};
use super::thread::is_in_callback;

/// Runs the inside of a call: no panic gets out, and a host function of a stream may not call back in.
pub fn enter(name: &'static str, call: impl FnOnce() -> Result<()>) -> CUresult {
    if is_in_callback() {
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
            $crate::driver::entry::enter(stringify!($name), move || $body)
        }
    )*};
}
pub(super) use api;
