//! Floating point as PTX defines it: every rounding mode, `.ftz`, `.sat`, canonical NaNs.
//!
//! f32 results that are NaN are `0x7fffffff`, f16 and bf16 results `0x7fff` (PTX ISA, "Floating Point Instructions" and
//! "Half Precision Floating Point Instructions"). The ISA leaves the payload of f64 NaNs open; they are quieted and kept
//! here, as the hardware's double-precision unit does.

pub mod compare;
pub mod convert;
pub mod double;
pub mod half;
pub mod single;
pub mod soft;
#[cfg(test)]
mod tests;

pub use compare::*;
pub use convert::*;
pub use double::*;
pub use half::*;
pub(crate) use half::{Bf16, F16, Half};
pub use single::*;

/// How a result that the format cannot hold is rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Round {
    /// To the nearest value, ties to even: `.rn`, `.rni`.
    #[default]
    Nearest,
    /// Towards zero: `.rz`, `.rzi`.
    Zero,
    /// Towards −∞: `.rm`, `.rmi`.
    NegInf,
    /// Towards +∞: `.rp`, `.rpi`.
    PosInf,
    /// To the nearest value, ties away from zero: `.rna`, for tf32 only.
    NearestAway,
}

/// The modifiers of a floating-point instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mode {
    /// Rounding direction.
    pub round: Round,
    /// `.ftz`: subnormal operands and results become zeros of the same sign.
    pub ftz: bool,
    /// `.sat`: the result is clamped to [0, 1], NaN to +0.
    pub sat: bool,
}

impl Mode {
    /// `.rn` without further modifiers.
    pub const RN: Mode = Mode {
        round: Round::Nearest,
        ftz: false,
        sat: false,
    };
    /// `.rn.ftz`.
    pub const RN_FTZ: Mode = Mode {
        round: Round::Nearest,
        ftz: true,
        sat: false,
    };

    /// Rounds in the given direction, without further modifiers.
    pub const fn rounding(round: Round) -> Mode {
        Mode {
            round,
            ftz: false,
            sat: false,
        }
    }
}
