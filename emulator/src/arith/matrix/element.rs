//! The types of matrix elements.

/// The type of a matrix element of `mma` and `wmma`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// `.f16`
    F16,
    /// `.bf16`
    Bf16,
    /// `.tf32`: f32 whose low 13 bits are ignored.
    Tf32,
    /// `.f32`, accumulators only.
    F32,
    /// `.f64`
    F64,
    /// `.s8`
    S8,
    /// `.u8`
    U8,
    /// `.s4`
    S4,
    /// `.u4`
    U4,
    /// `.b1`
    B1,
    /// `.s32`, accumulators only.
    S32,
}

impl Element {
    /// Width in bits.
    pub const fn bits(self) -> u32 {
        match self {
            Element::F64 => 64,
            Element::Tf32 | Element::F32 | Element::S32 => 32,
            Element::F16 | Element::Bf16 => 16,
            Element::S8 | Element::U8 => 8,
            Element::S4 | Element::U4 => 4,
            Element::B1 => 1,
        }
    }
}

/// How `mma.b1` combines bits before it counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BitOp {
    /// `.xor.popc`
    #[default]
    Xor,
    /// `.and.popc`
    And,
}
