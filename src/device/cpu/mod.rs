//! The CPU device: `f32`, threads over the work of one step at a time, nothing allocated while a
//! plan runs.

mod buffer;
mod call;
mod executable;
pub mod gemm;
pub(crate) mod parallel;
pub(crate) mod simd;
pub mod threads;

pub use executable::{CpuDevice, CpuExecutable};

pub(crate) use call::{
    CpuCall, CpuOperator, PackedOperand, Shared, parallel_ranges, parallel_rows,
};
