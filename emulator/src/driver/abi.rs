//! What crosses the C boundary: checked pointer arguments and the layouts of the parameter structures (cuda.h of 12.9).

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;

use super::error::{CudaError, Result};

/// An opaque handle as C sees it. It is a number from a table, never dereferenced.
pub type Handle = u64;

/// A `CUdeviceptr`.
pub type DevicePtr = u64;

/// A pointer argument that the callee writes through (or reads and writes).
///
/// Only the C ABI makes values of this type, and `cuda.h` obliges the caller to pass null or a pointer that is valid
/// for the documented number of elements for the time of the call; that is the invariant the methods rely on.
#[repr(transparent)]
pub struct Out<T>(*mut T);

impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Out<T> {}

impl<T: Copy> Out<T> {
    /// True for a null pointer: an optional result that the caller does not want.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Writes the result.
    ///
    /// # Errors
    /// `INVALID_VALUE` for a null pointer.
    pub fn set(self, value: T) -> Result<()> {
        self.set_at(0, value)
    }

    /// Writes the result if the caller wants it.
    pub fn set_if_wanted(self, value: T) {
        if !self.0.is_null() {
            let _ = self.set(value);
        }
    }

    /// Writes element `index` of an array whose length the caller told.
    ///
    /// # Errors
    /// `INVALID_VALUE` for a null pointer.
    pub fn set_at(self, index: usize, value: T) -> Result<()> {
        if self.0.is_null() {
            return Err(CudaError::INVALID_VALUE);
        }
        // SAFETY: not null, and the type's invariant makes it valid for the elements that the caller announced.
        unsafe { self.0.add(index).write_unaligned(value) };
        Ok(())
    }

    /// Reads the present value of an in-out argument.
    ///
    /// # Errors
    /// `INVALID_VALUE` for a null pointer.
    pub fn get(self) -> Result<T> {
        if self.0.is_null() {
            return Err(CudaError::INVALID_VALUE);
        }
        // SAFETY: not null; an in-out argument is initialised by the caller (the type's invariant).
        Ok(unsafe { self.0.read_unaligned() })
    }

    /// The pointer of a result that is not wanted.
    pub const fn null() -> Out<T> {
        Out(std::ptr::null_mut())
    }

    /// A pointer that the caller passed as a number inside another argument.
    ///
    /// # Safety
    /// The number is a pointer under the type's invariant.
    pub unsafe fn from_address(address: usize) -> Out<T> {
        Out(address as *mut T)
    }

    /// The same address seen as another type, for the `void *` results whose type an attribute decides.
    pub fn cast<U>(self) -> Out<U> {
        Out(self.0.cast())
    }
}

impl Out<c_char> {
    /// Writes text and its NUL into a buffer of `len` bytes, cut to fit.
    ///
    /// # Errors
    /// `INVALID_VALUE` for a null buffer or one without room for the NUL.
    pub fn set_text(self, text: &str, len: usize) -> Result<()> {
        if len == 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        let kept = &text.as_bytes()[..text.len().min(len - 1)];
        for (i, byte) in kept.iter().enumerate() {
            self.set_at(i, *byte as c_char)?;
        }
        self.set_at(kept.len(), 0)
    }
}

/// A pointer argument that the callee only reads. The invariant is that of [`Out`].
#[repr(transparent)]
pub struct In<T>(*const T);

impl<T> Clone for In<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for In<T> {}

impl<T: Copy> In<T> {
    /// True for a null pointer.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Reads the value.
    ///
    /// # Errors
    /// `INVALID_VALUE` for a null pointer.
    pub fn get(self) -> Result<T> {
        self.get_at(0)
    }

    /// Reads element `index` of an array whose length the caller told.
    ///
    /// # Errors
    /// `INVALID_VALUE` for a null pointer.
    pub fn get_at(self, index: usize) -> Result<T> {
        if self.0.is_null() {
            return Err(CudaError::INVALID_VALUE);
        }
        // SAFETY: not null, and the type's invariant makes it valid for the elements that the caller announced.
        Ok(unsafe { self.0.add(index).read_unaligned() })
    }

    /// Reads `count` elements; a null pointer is an empty array if `count` is 0.
    ///
    /// # Errors
    /// `INVALID_VALUE` for a null pointer with a count.
    pub fn list(self, count: usize) -> Result<Vec<T>> {
        (0..count).map(|i| self.get_at(i)).collect()
    }

    /// The null pointer.
    pub const fn null() -> In<T> {
        In(std::ptr::null())
    }

    /// A pointer to something that the driver owns, for results that hold pointers.
    pub fn to(values: &[T]) -> In<T> {
        In(values.as_ptr())
    }

    /// The address as a number.
    pub fn address(self) -> usize {
        self.0 as usize
    }

    /// The same address seen as another type.
    pub fn cast<U>(self) -> In<U> {
        In(self.0.cast())
    }
}

/// A NUL-terminated text argument.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Text(*const c_char, PhantomData<*const c_char>);

impl Text {
    /// The bytes before the NUL.
    ///
    /// # Errors
    /// `INVALID_VALUE` for a null pointer.
    pub fn bytes(&self) -> Result<&[u8]> {
        if self.0.is_null() {
            return Err(CudaError::INVALID_VALUE);
        }
        // SAFETY: not null; `cuda.h` obliges the caller to end the text with a NUL.
        Ok(unsafe { CStr::from_ptr(self.0) }.to_bytes())
    }

    /// The text.
    ///
    /// # Errors
    /// `INVALID_VALUE` for a null pointer or text that is not UTF-8.
    pub fn str(&self) -> Result<&str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| CudaError::INVALID_VALUE)
    }
}

/// Host memory that a copy reads or writes, perhaps long after the call that named it.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct HostPtr(*mut c_void);

impl HostPtr {
    /// The address as a number; 0 for null.
    pub fn address(self) -> usize {
        self.0 as usize
    }
}

/// `CUDA_MEMCPY2D`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Memcpy2d {
    pub src_x: usize,
    pub src_y: usize,
    pub src_type: u32,
    pub src_host: *const c_void,
    pub src_device: DevicePtr,
    pub src_array: *mut c_void,
    pub src_pitch: usize,
    pub dst_x: usize,
    pub dst_y: usize,
    pub dst_type: u32,
    pub dst_host: *mut c_void,
    pub dst_device: DevicePtr,
    pub dst_array: *mut c_void,
    pub dst_pitch: usize,
    pub width: usize,
    pub height: usize,
}

/// `CUDA_MEMCPY3D`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Memcpy3d {
    pub src_x: usize,
    pub src_y: usize,
    pub src_z: usize,
    pub src_lod: usize,
    pub src_type: u32,
    pub src_host: *const c_void,
    pub src_device: DevicePtr,
    pub src_array: *mut c_void,
    pub reserved0: *mut c_void,
    pub src_pitch: usize,
    pub src_height: usize,
    pub dst_x: usize,
    pub dst_y: usize,
    pub dst_z: usize,
    pub dst_lod: usize,
    pub dst_type: u32,
    pub dst_host: *mut c_void,
    pub dst_device: DevicePtr,
    pub dst_array: *mut c_void,
    pub reserved1: *mut c_void,
    pub dst_pitch: usize,
    pub dst_height: usize,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
}

/// `CUmemorytype`: where an end of a copy lies.
pub mod memory_type {
    pub const HOST: u32 = 1;
    pub const DEVICE: u32 = 2;
    pub const UNIFIED: u32 = 4;
}

/// `CUDA_KERNEL_NODE_PARAMS` (the first version ends before `kernel`).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KernelNodeParams {
    pub func: Handle,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: u32,
    pub kernel_params: In<In<u8>>,
    pub extra: In<In<u8>>,
}

/// `CUDA_KERNEL_NODE_PARAMS_v2`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KernelNodeParamsV2 {
    pub base: KernelNodeParams,
    pub kernel: Handle,
    pub ctx: Handle,
}

/// `CUDA_MEMSET_NODE_PARAMS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MemsetNodeParams {
    pub dst: DevicePtr,
    pub pitch: usize,
    pub value: u32,
    pub element_size: u32,
    pub width: usize,
    pub height: usize,
}

/// `CUhostFn`.
pub type HostFn = unsafe extern "C" fn(*mut c_void);

/// `CUstreamCallback`.
pub type StreamCallback = unsafe extern "C" fn(Handle, u32, *mut c_void);

/// `CUoccupancyB2DSize`: dynamic shared memory for a block size.
pub type BlockToShared = unsafe extern "C" fn(i32) -> usize;

/// `CUDA_HOST_NODE_PARAMS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct HostNodeParams {
    pub function: Option<HostFn>,
    pub user_data: *mut c_void,
}

/// `CUlaunchConfig`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LaunchConfigEx {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: u32,
    pub stream: Handle,
    pub attrs: In<LaunchAttribute>,
    pub num_attrs: u32,
}

/// `CUlaunchAttribute`: an identifier and 64 bytes whose meaning it decides.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LaunchAttribute {
    pub id: u32,
    pub pad: u32,
    pub value: [u32; 16],
}

/// `CUmemLocation`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MemLocation {
    pub kind: u32,
    pub id: i32,
}

/// `CUmemPoolProps`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MemPoolProps {
    pub alloc_type: u32,
    pub handle_types: u32,
    pub location: MemLocation,
    pub win32_security_attributes: *mut c_void,
    pub max_size: usize,
    pub usage: u16,
    pub reserved: [u8; 54],
}

/// `CUDA_GRAPH_INSTANTIATE_PARAMS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct GraphInstantiateParams {
    pub flags: u64,
    pub upload_stream: Handle,
    pub error_node: Handle,
    pub result: u32,
}

/// `CUgraphExecUpdateResultInfo`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct GraphExecUpdateResultInfo {
    pub result: u32,
    pub error_node: Handle,
    pub error_from_node: Handle,
}

/// `CUuuid`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Uuid {
    pub bytes: [u8; 16],
}

/// `CUdevprop`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DeviceProperties {
    pub max_threads_per_block: i32,
    pub max_threads_dim: [i32; 3],
    pub max_grid_size: [i32; 3],
    pub shared_per_block: i32,
    pub total_constant_memory: i32,
    pub simd_width: i32,
    pub mem_pitch: i32,
    pub regs_per_block: i32,
    pub clock_rate: i32,
    pub texture_align: i32,
}
