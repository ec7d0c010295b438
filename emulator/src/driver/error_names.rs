//! The two queries for a result code's name and description. They work before `cuInit`.

use std::ffi::{CStr, c_char};

use super::abi::Out;
use super::error::{CUresult, CudaError, SUCCESS, describe};

/// `cuGetErrorName`: the C name of a code; a number that is no code gives a null string and `INVALID_VALUE`.
#[unsafe(no_mangle)]
pub extern "C" fn cuGetErrorName(error: CUresult, name: Out<*const c_char>) -> CUresult {
    answer(describe(error).map(|(name, _)| name), name)
}

/// `cuGetErrorString`: the description of a code; a number that is no code gives a null string and `INVALID_VALUE`.
#[unsafe(no_mangle)]
pub extern "C" fn cuGetErrorString(error: CUresult, text: Out<*const c_char>) -> CUresult {
    answer(describe(error).map(|(_, text)| text), text)
}

fn answer(text: Option<&'static CStr>, out: Out<*const c_char>) -> CUresult {
    let found = text.is_some();
    match out.set(text.map_or(std::ptr::null(), CStr::as_ptr)) {
        Ok(()) if found => SUCCESS,
        _ => CudaError::INVALID_VALUE.0,
    }
}
