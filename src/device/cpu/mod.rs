pub mod gemm;
pub mod threads;
