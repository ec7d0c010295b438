//! The modifiers of floating-point instructions.

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

/// The modifiers of `min` and `max`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MinMax {
    /// `.ftz`.
    pub ftz: bool,
    /// `.NaN`: any NaN operand makes the result NaN; without it the other operand wins.
    pub nan: bool,
    /// `.xorsign.abs`: compares magnitudes and gives the result the product's sign.
    pub xorsign_abs: bool,
}
