//! Loaded modules and their kernels as functions with settings.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::abi::Handle;
use super::super::error::{CudaError, Result};
use crate::exec::Instance;
use crate::ir::{Kernel, Module};
use crate::limits;
use crate::memory::DeviceMemory;

/// `CUfunction_attribute`.
mod attribute {
    pub const MAX_THREADS_PER_BLOCK: u32 = 0;
    pub const SHARED_BYTES: u32 = 1;
    pub const CONST_BYTES: u32 = 2;
    pub const LOCAL_BYTES: u32 = 3;
    pub const REGISTERS: u32 = 4;
    pub const PTX_VERSION: u32 = 5;
    pub const BINARY_VERSION: u32 = 6;
    pub const CACHE_MODE_CA: u32 = 7;
    pub const MAX_DYNAMIC_SHARED: u32 = 8;
    pub const SHARED_CARVEOUT: u32 = 9;
    /// The last one of CUDA 12.9; those from 10 on are about clusters, which this device has not.
    pub const LAST: u32 = 15;
}

/// A module that is loaded in a context.
pub struct LoadedModule {
    /// The context that it belongs to.
    pub ctx: Handle,
    /// Its own handle.
    pub handle: Handle,
    /// The compiled PTX.
    pub module: Arc<Module>,
    /// Taken only when the module is dropped.
    pub instance: Option<Instance>,
    /// The memory that its variables are placed in.
    pub device: &'static DeviceMemory,
    /// The PTX, for the assembler's register report.
    pub ptx: Arc<str>,
    /// The `.target` of the PTX, 86 for sm_86: what the attribute called PTX version reports.
    pub virtual_architecture: i32,
    /// Handles of the functions that were asked for, by name.
    pub functions: Mutex<BTreeMap<String, Handle>>,
}

/// Reads the `.target` of PTX: 86 for sm_86, and where there is none.
pub fn virtual_architecture(ptx: &str) -> i32 {
    ptx.split(".target")
        .nth(1)
        .and_then(|rest| rest.trim_start().strip_prefix("sm_"))
        .and_then(|rest| {
            rest.split(|c: char| !c.is_ascii_digit())
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or(86)
}

impl LoadedModule {
    /// Where the module's variables are.
    ///
    /// # Errors
    /// `INVALID_HANDLE` while the module is being dropped.
    pub fn instance(&self) -> Result<&Instance> {
        self.instance.as_ref().ok_or(CudaError::INVALID_HANDLE)
    }
}

impl Drop for LoadedModule {
    fn drop(&mut self) {
        if let Some(instance) = self.instance.take() {
            instance.unload(self.device);
        }
    }
}

/// A kernel of a loaded module.
pub struct LoadedFunction {
    /// The module that it belongs to.
    pub module: Arc<LoadedModule>,
    /// Its name as C sees it.
    pub name: CString,
    /// Index in the module's list of kernels.
    pub index: usize,
    /// What a program may set about it.
    pub settings: Mutex<FunctionSettings>,
}

/// What a program may set about a function.
#[derive(Clone, Copy)]
pub struct FunctionSettings {
    /// Dynamic shared memory that a launch may ask for, in bytes.
    pub max_dynamic_shared: u32,
    /// Preferred share of shared memory in percent, or -1: accepted and reported back.
    pub carveout: i32,
}

impl LoadedFunction {
    /// What the module says about the kernel.
    pub fn kernel(&self) -> &Kernel {
        &self.module.module.kernels()[self.index]
    }

    fn settings(&self) -> MutexGuard<'_, FunctionSettings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Dynamic shared memory that a launch may ask for, in bytes.
    pub fn max_dynamic_shared(&self) -> u32 {
        self.settings().max_dynamic_shared
    }

    /// Threads that a block may have by the kernel's directives. The register count is an estimate and refuses nothing.
    pub fn max_threads(&self) -> u32 {
        let kernel = self.kernel();
        kernel
            .required_threads
            .or(kernel.max_threads)
            .map_or(limits::THREADS_PER_BLOCK, |n| {
                n.iter().fold(1, |all: u32, n| all.saturating_mul(*n))
            })
            .min(limits::THREADS_PER_BLOCK)
    }

    /// A `CUfunction_attribute`.
    ///
    /// # Errors
    /// `INVALID_VALUE` for a number that is no attribute.
    pub fn attribute(&self, id: u32) -> Result<i32> {
        let kernel = self.kernel();
        Ok(match id {
            attribute::MAX_THREADS_PER_BLOCK => self.max_threads() as i32,
            attribute::SHARED_BYTES => kernel.static_shared_bytes as i32,
            attribute::CONST_BYTES => kernel.const_bytes as i32,
            attribute::LOCAL_BYTES => kernel.local_bytes as i32,
            attribute::REGISTERS => kernel.registers as i32,
            attribute::PTX_VERSION => self.module.virtual_architecture,
            attribute::BINARY_VERSION => 86,
            attribute::CACHE_MODE_CA => 0,
            attribute::MAX_DYNAMIC_SHARED => self.max_dynamic_shared() as i32,
            attribute::SHARED_CARVEOUT => self.settings().carveout,
            10..=attribute::LAST => 0,
            _ => return Err(CudaError::INVALID_VALUE),
        })
    }

    /// Sets one of the two attributes that can be set.
    ///
    /// # Errors
    /// `INVALID_VALUE` for another attribute or a value outside its range.
    pub fn set_attribute(&self, id: u32, value: i32) -> Result<()> {
        match id {
            attribute::MAX_DYNAMIC_SHARED => {
                let most =
                    limits::SHARED_PER_BLOCK.saturating_sub(self.kernel().static_shared_bytes);
                let value = u32::try_from(value).map_err(|_| CudaError::INVALID_VALUE)?;
                if value > most {
                    return Err(CudaError::INVALID_VALUE);
                }
                self.settings().max_dynamic_shared = value;
                Ok(())
            }
            attribute::SHARED_CARVEOUT if (-1..=100).contains(&value) => {
                self.settings().carveout = value;
                Ok(())
            }
            _ => Err(CudaError::INVALID_VALUE),
        }
    }
}
