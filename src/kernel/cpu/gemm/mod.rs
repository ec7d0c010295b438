//! Matrix products on the CPU: the micro-kernel, the instruction sets it is compiled for, packing, and a strided
//! `C = alpha·A·B + beta·C` for whoever has plain matrices.

pub mod kernel;
pub mod pack;
pub mod simd;
mod strided;
#[cfg(test)]
mod tests;

pub use simd::Isa;
pub use strided::{Strided, StridedMut, gemm, gemm_on, gemm_workspace_len};
