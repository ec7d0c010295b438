//! An RTX 3090 that isn't there: a CUDA driver library that executes PTX on the CPU.

pub mod arith;
