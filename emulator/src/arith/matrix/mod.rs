//! Matrix instructions of a warp: `mma`, `wmma`, `ldmatrix`, `movmatrix`.
//!
//! Registers come as slices of [`Lanes`](super::Lanes), one per register of the instruction's vector operand. Every fragment of
//! `mma.m8n8…` and `mma.m16n8…` is built from the same brick, eight rows of four lanes, so one rule ([`Fragment`]) gives
//! all their layouts; `mma.m8n8k4.f16`, which works on four groups of eight lanes, has its own.
//!
//! # Order of accumulation
//! Floating-point products are exact and are added to the accumulator one after the other in ascending k, each sum
//! rounded to nearest even in f32 (f64 for f64). An f16 accumulator is widened first and rounded once at the end.
//! The hardware sums groups of products with its own alignment, which NVIDIA does not specify.

mod element;
mod fragment;
mod half_product;
mod load;
mod product;
mod quad_pair;
mod shape;
mod sparse;
mod sums;
#[cfg(test)]
mod tests;

pub use element::{BitOp, Element};
pub use fragment::{Fragment, Role};
pub use load::{ldmatrix, ldmatrix_row_lane, movmatrix};
pub use product::mma_f64;
pub use quad_pair::{QuadPairMma, quad_pair_element};
pub use shape::Mma;
pub use sparse::SparseMma;
