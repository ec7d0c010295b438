//! Modules from PTX, their functions and variables, and the attributes of functions.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::sync::{Arc, Mutex, PoisonError};

use super::abi::{DevicePtr, Handle, In, Out, Text};
use super::capture;
use super::device;
use super::entry::api;
use super::error::{CudaError, Result};
use super::objects::{
    DeviceAllocation, FunctionSettings, LoadedFunction, LoadedModule, Purpose, virtual_architecture,
};
use super::process::in_context;
use super::settings::DriverVersion;
use super::state::{DriverState, HandleKind};
use crate::exec::Instance;
use crate::ir::{Kernel, Module};
use crate::limits;

/// First bytes of images that hold machine code for a real GPU.
const ELF_MAGIC: [u8; 4] = *b"\x7fELF";
const FATBIN_MAGIC: [u8; 4] = 0xba55_ed50_u32.to_le_bytes();
const FATBIN_WRAPPER_MAGIC: [u8; 4] = 0x4662_43b1_u32.to_le_bytes();

/// `CUjit_option` numbers that have an effect here.
mod jit {
    pub const INFO_LOG: u32 = 3;
    pub const INFO_LOG_BYTES: u32 = 4;
    pub const ERROR_LOG: u32 = 5;
    pub const ERROR_LOG_BYTES: u32 = 6;
    pub const COUNT: u32 = 34;
}

impl DriverState {
    fn function_of(&mut self, module: &Arc<LoadedModule>, index: usize) -> Result<Handle> {
        let kernel = &module.module.kernels()[index];
        let mut known = module
            .functions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = known.get(&kernel.name) {
            return Ok(*handle);
        }
        let handle = self.new_handle(HandleKind::Function);
        let function = LoadedFunction {
            module: module.clone(),
            name: CString::new(kernel.name.as_str()).map_err(|_| CudaError::INVALID_PTX)?,
            index,
            settings: Mutex::new(FunctionSettings {
                max_dynamic_shared: device_default_dynamic(kernel),
                carveout: -1,
            }),
        };
        self.functions.insert(handle, Arc::new(function));
        known.insert(kernel.name.clone(), handle);
        Ok(handle)
    }
}

/// Dynamic shared memory without opting in: what the static part leaves of 48 KiB.
fn device_default_dynamic(kernel: &Kernel) -> u32 {
    limits::STATIC_SHARED_PER_BLOCK.saturating_sub(kernel.static_shared_bytes)
}

/// Where the caller wants the compiler's messages.
#[derive(Clone, Copy)]
struct Logs {
    error: (Out<c_char>, usize),
    info: (Out<c_char>, usize),
}

impl Logs {
    fn none() -> Logs {
        Logs {
            error: (Out::null(), 0),
            info: (Out::null(), 0),
        }
    }

    /// Reads the options of `cuModuleLoadDataEx`. Code generation options do not apply and are taken without effect.
    fn from_options(count: u32, options: In<u32>, values: In<usize>) -> Result<Logs> {
        let mut logs = Logs::none();
        for i in 0..count as usize {
            let value = values.get_at(i)?;
            match options.get_at(i)? {
                jit::INFO_LOG => logs.info.0 = log_buffer(value),
                // A 32-bit size was stored into the pointer-sized slot.
                jit::INFO_LOG_BYTES => logs.info.1 = value & 0xffff_ffff,
                jit::ERROR_LOG => logs.error.0 = log_buffer(value),
                jit::ERROR_LOG_BYTES => logs.error.1 = value & 0xffff_ffff,
                option if option < jit::COUNT => {}
                _ => return Err(CudaError::INVALID_VALUE),
            }
        }
        Ok(logs)
    }

    fn write(&self, error: &str) -> Result<()> {
        for ((log, bytes), text) in [(self.error, error), (self.info, "")] {
            if !log.is_null() && bytes > 0 {
                log.set_text(text, bytes)?;
            }
        }
        Ok(())
    }
}

fn log_buffer(address: usize) -> Out<c_char> {
    // SAFETY: the option's value is the address of a buffer whose size another option gives, as `cuda.h` demands.
    unsafe { Out::from_address(address) }
}

fn refuse(logs: Logs, error: CudaError, text: &str) -> CudaError {
    eprintln!("cuda-emulator: module not loaded: {text}");
    match logs.write(text) {
        Ok(()) => error,
        Err(error) => error,
    }
}

/// What a text's `.version` says, such as 88 for 8.8.
fn ptx_version(text: &str) -> Option<u32> {
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(".version"))?;
    let (major, minor) = line.trim().split_once('.')?;
    Some(major.parse::<u32>().ok()? * 10 + minor.parse::<u32>().ok()?)
}

/// Loads PTX text into the current context.
fn load(out: Out<Handle>, image: &[u8], name: &str, logs: Logs) -> Result<()> {
    let (driver, mut state, ctx) = in_context()?;
    capture::check_synchronous(&mut state, None)?;
    let newest = state.settings.driver_version.map(DriverVersion::newest_ptx);
    drop(state);
    if out.is_null() {
        return Err(CudaError::INVALID_VALUE);
    }
    if [ELF_MAGIC, FATBIN_MAGIC, FATBIN_WRAPPER_MAGIC]
        .iter()
        .any(|magic| image.starts_with(magic))
    {
        return Err(refuse(
            logs,
            CudaError::NO_BINARY_FOR_GPU,
            "the image is machine code (cubin or fatbin); the emulator runs PTX: compile with NVRTC or `nvcc -ptx`",
        ));
    }
    let text = std::str::from_utf8(image).map_err(|e| {
        refuse(
            logs,
            CudaError::INVALID_PTX,
            &format!("the image is not text: {e}"),
        )
    })?;
    if let (Some(found), Some(newest)) = (ptx_version(text), newest)
        && found > newest
    {
        let dotted = |version: u32| format!("{}.{}", version / 10, version % 10);
        return Err(refuse(
            logs,
            CudaError::UNSUPPORTED_PTX_VERSION,
            &format!(
                "the PTX is of version {}; this driver takes {} and older",
                dotted(found),
                dotted(newest)
            ),
        ));
    }
    let module = Module::compile(text, name)
        .map_err(|e| refuse(logs, CudaError::INVALID_PTX, &e.to_string()))?;
    let module = Arc::new(module);
    let instance = Instance::new(&module, &driver.memory)
        .map_err(|e| refuse(logs, CudaError::OUT_OF_MEMORY, &e.to_string()))?;
    logs.write("")?;
    let mut state = driver.lock();
    let handle = state.new_handle(HandleKind::Module);
    for global in module.globals() {
        if let Some((address, bytes)) = instance.global(&global.name) {
            state.allocations.insert(
                address,
                DeviceAllocation {
                    bytes: bytes as usize,
                    ctx,
                    purpose: Purpose::Global(handle),
                },
            );
        }
    }
    state.modules.insert(
        handle,
        Arc::new(LoadedModule {
            ctx,
            handle,
            module,
            instance: Some(instance),
            device: &driver.memory,
            ptx: text.into(),
            virtual_architecture: virtual_architecture(text),
            functions: Mutex::new(BTreeMap::new()),
        }),
    );
    out.set(handle)
}

fn load_file(out: Out<Handle>, path: &Text) -> Result<()> {
    let path = path.str()?;
    let image = std::fs::read(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => CudaError::FILE_NOT_FOUND,
        _ => CudaError::OPERATING_SYSTEM,
    })?;
    let text = image.strip_suffix(b"\0").unwrap_or(&image);
    load(out, text, path, Logs::none())
}

/// An image in memory: binary images are known by their first bytes, everything else is text that ends with a NUL.
fn image_bytes(image: &Text) -> Result<&[u8]> {
    image.bytes()
}

fn unload(handle: Handle) -> Result<()> {
    let (driver, state, ctx) = in_context()?;
    let module = state
        .modules
        .get(&handle)
        .cloned()
        .ok_or(CudaError::INVALID_HANDLE)?;
    drop(state);
    // Work that uses the module is finished first, as on the real device.
    driver.drain(ctx);
    let mut state = driver.lock();
    state.modules.remove(&handle);
    state
        .functions
        .retain(|_, function| function.module.handle != handle);
    state
        .allocations
        .retain(|_, a| a.purpose != Purpose::Global(handle));
    drop(state);
    drop(module);
    Ok(())
}

fn get_function(out: Out<Handle>, module: Handle, name: &Text) -> Result<()> {
    let name = name.str()?;
    let (_, mut state, _) = in_context()?;
    if out.is_null() || name.is_empty() {
        return Err(CudaError::INVALID_VALUE);
    }
    let module = state
        .modules
        .get(&module)
        .cloned()
        .ok_or(CudaError::INVALID_HANDLE)?;
    let index = module
        .module
        .kernels()
        .iter()
        .position(|k| k.name == name)
        .ok_or(CudaError::NOT_FOUND)?;
    out.set(state.function_of(&module, index)?)
}

fn get_global(
    address: Out<DevicePtr>,
    bytes: Out<usize>,
    module: Handle,
    name: &Text,
) -> Result<()> {
    let name = name.str()?;
    let (_, state, _) = in_context()?;
    if address.is_null() && bytes.is_null() {
        return Err(CudaError::INVALID_VALUE);
    }
    let module = state
        .modules
        .get(&module)
        .ok_or(CudaError::INVALID_HANDLE)?;
    let (at, size) = module
        .instance()?
        .global(name)
        .ok_or(CudaError::NOT_FOUND)?;
    address.set_if_wanted(at);
    bytes.set_if_wanted(size as usize);
    Ok(())
}

fn enumerate(out: Out<Handle>, count: u32, module: Handle) -> Result<()> {
    let (_, mut state, _) = in_context()?;
    let module = state
        .modules
        .get(&module)
        .cloned()
        .ok_or(CudaError::INVALID_HANDLE)?;
    for index in 0..module.module.kernels().len().min(count as usize) {
        out.set_at(index, state.function_of(&module, index)?)?;
    }
    Ok(())
}

fn kernel_count(count: Out<u32>, module: Handle) -> Result<()> {
    let (_, state, _) = in_context()?;
    let module = state
        .modules
        .get(&module)
        .ok_or(CudaError::INVALID_HANDLE)?;
    count.set(module.module.kernels().len() as u32)
}

fn with_function<T>(
    handle: Handle,
    read: impl FnOnce(&Arc<LoadedFunction>) -> Result<T>,
) -> Result<T> {
    let (_, state, _) = in_context()?;
    let function = state.function(handle)?;
    drop(state);
    read(&function)
}

fn function_name(out: Out<*const c_char>, handle: Handle) -> Result<()> {
    // Valid until the module is unloaded, which keeps the function's entry.
    with_function(handle, |f| out.set(f.name.as_ptr()))
}

fn param_info(handle: Handle, index: usize, offset: Out<usize>, size: Out<usize>) -> Result<()> {
    with_function(handle, |f| {
        let parameter = f
            .kernel()
            .parameters
            .get(index)
            .ok_or(CudaError::INVALID_VALUE)?;
        offset.set(parameter.offset as usize)?;
        size.set_if_wanted(parameter.size as usize);
        Ok(())
    })
}

api! {
    fn cuModuleLoad(module: Out<Handle>, path: Text) {
        load_file(module, &path)
    }

    fn cuModuleLoadData(module: Out<Handle>, image: Text) {
        load(module, image_bytes(&image)?, "<ptx>", Logs::none())
    }

    fn cuModuleLoadDataEx(
        module: Out<Handle>,
        image: Text,
        count: u32,
        options: In<u32>,
        values: In<usize>,
    ) {
        load(module, image_bytes(&image)?, "<ptx>", Logs::from_options(count, options, values)?)
    }

    fn cuModuleLoadFatBinary(module: Out<Handle>, image: Text) {
        load(module, image_bytes(&image)?, "<fatbin>", Logs::none())
    }

    fn cuModuleUnload(module: Handle) {
        unload(module)
    }

    fn cuModuleGetFunction(function: Out<Handle>, module: Handle, name: Text) {
        get_function(function, module, &name)
    }

    fn cuModuleGetGlobal_v2(address: Out<DevicePtr>, bytes: Out<usize>, module: Handle, name: Text) {
        get_global(address, bytes, module, &name)
    }

    fn cuModuleGetFunctionCount(count: Out<u32>, module: Handle) {
        kernel_count(count, module)
    }

    fn cuModuleEnumerateFunctions(functions: Out<Handle>, count: u32, module: Handle) {
        enumerate(functions, count, module)
    }

    fn cuModuleGetLoadingMode(mode: Out<u32>) {
        // Eager: a module is compiled when it is loaded.
        mode.set(1)
    }

    fn cuFuncGetAttribute(value: Out<i32>, id: u32, function: Handle) {
        with_function(function, |f| value.set(f.attribute(id)?))
    }

    fn cuFuncSetAttribute(function: Handle, id: u32, value: i32) {
        with_function(function, |f| f.set_attribute(id, value))
    }

    fn cuFuncSetCacheConfig(function: Handle, config: u32) {
        with_function(function, |_| if config > 3 { Err(CudaError::INVALID_VALUE) } else { Ok(()) })
    }

    fn cuFuncSetSharedMemConfig(function: Handle, config: u32) {
        with_function(function, |_| if config > 2 { Err(CudaError::INVALID_VALUE) } else { Ok(()) })
    }

    fn cuFuncGetModule(module: Out<Handle>, function: Handle) {
        with_function(function, |f| module.set(f.module.handle))
    }

    fn cuFuncGetName(name: Out<*const c_char>, function: Handle) {
        function_name(name, function)
    }

    fn cuFuncGetParamInfo(function: Handle, index: usize, offset: Out<usize>, size: Out<usize>) {
        param_info(function, index, offset, size)
    }

    fn cuFuncGetParamCount(function: Handle, count: Out<usize>) {
        with_function(function, |f| count.set(f.kernel().parameters.len()))
    }

    fn cuFuncIsLoaded(state: Out<u32>, function: Handle) {
        with_function(function, |_| state.set(1))
    }

    fn cuFuncLoad(function: Handle) {
        with_function(function, |_| Ok(()))
    }

    // A library is a module, and a kernel a function, of the context that is current when it is loaded.
    fn cuLibraryLoadData(
        library: Out<Handle>,
        image: Text,
        options: In<u32>,
        values: In<usize>,
        count: u32,
        _library_options: In<u32>,
        _library_values: In<usize>,
        _library_count: u32,
    ) {
        load(library, image_bytes(&image)?, "<ptx>", Logs::from_options(count, options, values)?)
    }

    fn cuLibraryLoadFromFile(
        library: Out<Handle>,
        path: Text,
        _options: In<u32>,
        _values: In<usize>,
        _count: u32,
        _library_options: In<u32>,
        _library_values: In<usize>,
        _library_count: u32,
    ) {
        load_file(library, &path)
    }

    fn cuLibraryUnload(library: Handle) {
        unload(library)
    }

    fn cuLibraryGetKernel(kernel: Out<Handle>, library: Handle, name: Text) {
        get_function(kernel, library, &name)
    }

    fn cuLibraryGetKernelCount(count: Out<u32>, library: Handle) {
        kernel_count(count, library)
    }

    fn cuLibraryEnumerateKernels(kernels: Out<Handle>, count: u32, library: Handle) {
        enumerate(kernels, count, library)
    }

    fn cuLibraryGetModule(module: Out<Handle>, library: Handle) {
        let (_, state, _) = in_context()?;
        state.modules.get(&library).ok_or(CudaError::INVALID_HANDLE)?;
        module.set(library)
    }

    fn cuLibraryGetGlobal(address: Out<DevicePtr>, bytes: Out<usize>, library: Handle, name: Text) {
        get_global(address, bytes, library, &name)
    }

    fn cuKernelGetFunction(function: Out<Handle>, kernel: Handle) {
        with_function(kernel, |_| function.set(kernel))
    }

    fn cuKernelGetLibrary(library: Out<Handle>, kernel: Handle) {
        with_function(kernel, |f| library.set(f.module.handle))
    }

    fn cuKernelGetAttribute(value: Out<i32>, id: u32, kernel: Handle, device: i32) {
        device::check(device)?;
        with_function(kernel, |f| value.set(f.attribute(id)?))
    }

    fn cuKernelSetAttribute(id: u32, value: i32, kernel: Handle, device: i32) {
        device::check(device)?;
        with_function(kernel, |f| f.set_attribute(id, value))
    }

    fn cuKernelSetCacheConfig(kernel: Handle, config: u32, device: i32) {
        device::check(device)?;
        with_function(kernel, |_| if config > 3 { Err(CudaError::INVALID_VALUE) } else { Ok(()) })
    }

    fn cuKernelGetName(name: Out<*const c_char>, kernel: Handle) {
        function_name(name, kernel)
    }

    fn cuKernelGetParamInfo(kernel: Handle, index: usize, offset: Out<usize>, size: Out<usize>) {
        param_info(kernel, index, offset, size)
    }

    fn cuKernelGetParamCount(kernel: Handle, count: Out<usize>) {
        with_function(kernel, |f| count.set(f.kernel().parameters.len()))
    }
}
