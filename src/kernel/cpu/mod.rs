//! CPU kernels: the call they answer, and what they are made of (a matrix product, vectors, threads).

pub mod call;
pub mod gemm;
pub mod parallel;
pub mod simd;
pub mod threads;

pub use call::{CpuCall, CpuOperator, PackedOperand, parallel_ranges, parallel_rows};
pub use threads::Shared;
