//! CUDA kernels: the call that an op answers with launches, and what a launch is. No driver is needed for any of it.

pub mod call;
pub mod chunks;
pub mod constants;
pub mod jobs;
pub mod launch;
pub mod target;
pub mod work;

pub use call::{CudaCall, CudaOperand, CudaOperator, CudaPackedOperand, element};
pub use chunks::Chunks;
pub use constants::ConstantPool;
pub use launch::{DevicePtr, Kernel, params};
pub use target::{Target, WORKSPACE_ALIGNMENT};
pub use work::LaunchWork;
