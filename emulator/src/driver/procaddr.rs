//! `cuGetProcAddress`: this library's own symbols by name, in the version that CUDA 12.9's headers mean.

use std::ffi::{CString, c_void};

use super::abi::{In, Out, Text, Uuid};
use super::entry::api;
use super::error::{CudaError, Result};

/// Names that cuda.h of 12.9 maps to another version than the newest one that this library exports.
const VERSIONED: [(&str, &str); 12] = [
    ("cuCtxCreate", "cuCtxCreate_v2"),
    ("cuGetProcAddress", "cuGetProcAddress_v2"),
    ("cuGraphInstantiate", "cuGraphInstantiateWithFlags"),
    ("cuMemAdvise", "cuMemAdvise"),
    ("cuMemPrefetchAsync", "cuMemPrefetchAsync"),
    ("cuEventElapsedTime", "cuEventElapsedTime_v2"),
    ("cuGraphGetEdges", "cuGraphGetEdges"),
    ("cuGraphNodeGetDependencies", "cuGraphNodeGetDependencies"),
    (
        "cuGraphNodeGetDependentNodes",
        "cuGraphNodeGetDependentNodes",
    ),
    ("cuGraphAddDependencies", "cuGraphAddDependencies"),
    ("cuGraphRemoveDependencies", "cuGraphRemoveDependencies"),
    ("cuStreamGetCtx", "cuStreamGetCtx"),
];

/// `CUdriverProcAddressQueryResult`.
const FOUND: u32 = 0;
const SYMBOL_NOT_FOUND: u32 = 1;

/// Looks a symbol up in the file that this code was loaded from, wherever else a libcuda may be.
fn own_symbol(name: &str) -> Option<*mut c_void> {
    let name = CString::new(name).ok()?;
    let mut info = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    let inside: fn(&str) -> Option<*mut c_void> = own_symbol;
    // SAFETY: asks about the address of a function of this very library; `info` is written only on success.
    if unsafe { libc::dladdr(inside as *const c_void, &mut info) } == 0 || info.dli_fname.is_null()
    {
        return None;
    }
    // SAFETY: the name is the loader's own and NUL-terminated; NOLOAD only finds what is already loaded.
    let library = unsafe { libc::dlopen(info.dli_fname, libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    if library.is_null() {
        return None;
    }
    // SAFETY: an open library and a NUL-terminated name. The reference that `dlopen` added is given back; the library
    // stays, because this code runs in it.
    let symbol = unsafe {
        let symbol = libc::dlsym(library, name.as_ptr());
        libc::dlclose(library);
        symbol
    };
    (!symbol.is_null()).then_some(symbol)
}

fn find(name: &str) -> Option<*mut c_void> {
    if let Some((_, versioned)) = VERSIONED.iter().find(|(plain, _)| *plain == name) {
        return own_symbol(versioned);
    }
    own_symbol(&format!("{name}_v2")).or_else(|| own_symbol(name))
}

fn get(name: &Text, function: Out<*mut c_void>, status: Out<u32>) -> Result<()> {
    let found = find(name.str()?);
    status.set_if_wanted(if found.is_some() {
        FOUND
    } else {
        SYMBOL_NOT_FOUND
    });
    function.set(found.unwrap_or(std::ptr::null_mut()))?;
    found.map(|_| ()).ok_or(CudaError::NOT_FOUND)
}

api! {
    fn cuGetProcAddress(name: Text, function: Out<*mut c_void>, _version: i32, _flags: u64) {
        get(&name, function, Out::null())
    }

    fn cuGetProcAddress_v2(
        name: Text,
        function: Out<*mut c_void>,
        _version: i32,
        _flags: u64,
        status: Out<u32>,
    ) {
        get(&name, function, status)
    }

    fn cuGetExportTable(table: Out<*const c_void>, _id: In<Uuid>) {
        table.set_if_wanted(std::ptr::null());
        Err(CudaError::NOT_FOUND)
    }
}
