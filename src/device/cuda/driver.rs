//! Which driver library this process uses: NVIDIA's, or the emulated RTX 3090's.
//!
//! cudarc looks for a driver by name when it is first called and panics without one. So the library is looked for here
//! first, and the emulator's, whose SONAME is that of the real driver, is loaded by path before cudarc asks for it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cudarc::driver::{result, sys};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use super::error::CudaError;

/// A driver library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Driver {
    Nvidia,
    Emulated,
}

impl Driver {
    pub fn name(self) -> &'static str {
        match self {
            Self::Nvidia => "NVIDIA's driver",
            Self::Emulated => "the emulated GPU",
        }
    }

    /// Loads the library and initialises it; a process has one driver for life.
    pub fn load(self) -> Result<(), CudaError> {
        static LOADED: Mutex<Option<Driver>> = Mutex::new(None);
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        match *loaded {
            Some(driver) if driver == self => return Ok(()),
            Some(other) => return Err(CudaError::OtherDriver(other.name())),
            None => {}
        }
        if self == Self::Emulated {
            let path = emulator_library()?;
            // SAFETY: the emulator's initialisers have no preconditions. It is never unloaded.
            let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) }
                .map_err(|source| CudaError::Library { path, source })?;
            std::mem::forget(library);
        }
        // SAFETY: loading a driver library runs its initialisers only.
        if !unsafe { sys::is_culib_present() } {
            return Err(CudaError::NoDriver);
        }
        result::init().map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_NO_DEVICE => CudaError::NoDevice,
            code => CudaError::DriverSilent {
                code: format!("{code:?}"),
            },
        })?;
        *loaded = Some(self);
        Ok(())
    }
}

const EMULATOR: &str = "libcuda_emulator.so";

/// The emulator: `MEDFUSION_EMULATOR`, else where cargo puts it beside this program.
pub(super) fn emulator_library() -> Result<PathBuf, CudaError> {
    if let Some(named) = std::env::var_os("MEDFUSION_EMULATOR").filter(|v| !v.is_empty()) {
        let path = PathBuf::from(named);
        return path
            .is_file()
            .then_some(path.clone())
            .ok_or(CudaError::NoEmulator { looked: path });
    }
    let program = std::env::current_exe().unwrap_or_default();
    let folder = program.parent().unwrap_or(Path::new("."));
    // A test lies in `deps`, beside the build it belongs to; a program one folder up.
    let candidates = [folder.join("deps"), folder.to_owned(), folder.join("..")];
    candidates
        .iter()
        .map(|folder| folder.join(EMULATOR))
        .find(|path| path.is_file())
        .ok_or(CudaError::NoEmulator {
            looked: folder.to_owned(),
        })
}

/// A driver call's result as an error that says what was tried; of the emulator with its report.
pub(super) fn check<T>(what: &str, result: Result<T, result::DriverError>) -> Result<T, CudaError> {
    result.map_err(|error| CudaError::Driver {
        what: what.to_owned(),
        code: format!("{:?}", error.0),
        report: last_fault().map_or(String::new(), |report| format!("\n{report}")),
    })
}

/// The emulator's report of the last fault, if this process uses it.
fn last_fault() -> Option<String> {
    type Give = unsafe extern "C" fn(*mut u8, usize, *mut usize) -> u32;
    // SAFETY: looks among the libraries already loaded.
    let process = unsafe { Library::open(None::<&str>, RTLD_NOW) }.ok()?;
    // SAFETY: the type is that of the emulator's text functions; NVIDIA's driver has no such symbol.
    let give = unsafe { process.get::<Give>(b"cuEmuGetLastFault\0") }.ok()?;
    let mut needed = 0usize;
    // SAFETY: no buffer, only the size is asked for.
    if unsafe { give(std::ptr::null_mut(), 0, &mut needed) } != 0 || needed == 0 {
        return None;
    }
    let mut text = vec![0u8; needed];
    // SAFETY: a buffer of the size that was asked for.
    if unsafe { give(text.as_mut_ptr(), needed, &mut needed) } != 0 {
        return None;
    }
    text.truncate(text.iter().position(|&b| b == 0).unwrap_or(text.len()));
    String::from_utf8(text).ok().filter(|text| !text.is_empty())
}
