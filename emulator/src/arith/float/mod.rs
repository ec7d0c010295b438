//! Floating point as PTX defines it: every rounding mode, `.ftz`, `.sat`, canonical NaNs.
//!
//! f32 results that are NaN are `0x7fffffff`, f16 and bf16 results `0x7fff` (PTX ISA, "Floating Point Instructions" and
//! "Half Precision Floating Point Instructions"). The ISA leaves the payload of f64 NaNs open; they are quieted and kept
//! here, as the hardware's double-precision unit does.

pub mod compare;
pub mod convert;
pub mod double;
pub mod half;
mod modifiers;
pub mod single;
pub mod soft;
#[cfg(test)]
mod tests;

pub use compare::*;
pub use convert::*;
pub use double::*;
pub use half::*;
pub(crate) use half::{Bf16, F16, Half};
pub use modifiers::{MinMax, Mode, Round};
pub use single::*;
