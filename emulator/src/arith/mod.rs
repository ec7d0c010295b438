//! The arithmetic of the machine: pure functions on register bit patterns, one lane or one warp at a time.
//!
//! Registers are bit patterns (`u16`, `u32`, `u64`), because that is what PTX registers are: a function's name says how
//! it reads them (`add_f32`, `fma_f16x2`). Nothing here touches memory, faults or allocates; an instruction that PTX
//! leaves undefined for some operand gives what the hardware is known to give, and the function says so.

pub mod approx;
pub mod float;
pub mod int;
pub mod matrix;
pub(crate) mod simd;
pub mod video;
pub mod warp;

#[cfg(test)]
mod tests;

/// Lanes in a warp.
pub const WARP: usize = 32;

/// One 32-bit register of every lane of a warp.
pub type Lanes = [u32; WARP];

/// One 64-bit register of every lane of a warp.
pub type Lanes64 = [u64; WARP];
