//! The CPU device: `f32`, threads over the work of one step at a time, nothing allocated while a
//! plan runs.

mod buffer;
mod executable;

pub use executable::{CpuDevice, CpuExecutable};

#[doc(hidden)]
pub use crate::kernel::cpu::{gemm, threads};
