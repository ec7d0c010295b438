//! Matrix instructions of a warp: `mma`, `wmma`, `ldmatrix`, `movmatrix`.
//!
//! Registers come as slices of [`Lanes`], one per register of the instruction's vector operand. Every fragment of
//! `mma.m8n8…` and `mma.m16n8…` is built from the same brick, eight rows of four lanes, so one rule ([`Fragment`]) gives
//! all their layouts; `mma.m8n8k4.f16`, which works on four groups of eight lanes, has its own.
//!
//! # Order of accumulation
//! Floating-point products are exact and are added to the accumulator one after the other in ascending k, each sum
//! rounded to nearest even in f32 (f64 for f64). An f16 accumulator is widened first and rounded once at the end.
//! The hardware sums groups of products with its own alignment, which NVIDIA does not specify.

mod fragment;
mod half_product;
mod load;
mod product;
mod quad_pair;
mod sparse;
#[cfg(test)]
mod tests;

pub use fragment::{Fragment, Role};
pub use load::{ldmatrix, ldmatrix_row_lane, movmatrix};
pub use product::mma_f64;
pub use quad_pair::{QuadPairMma, quad_pair_element};
pub use sparse::SparseMma;

use super::Lanes;

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

/// D = A·B + C of the shape m×n×k: `mma.sync` of all shapes but `m8n8k4`, and `wmma.mma` of all types but f64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mma {
    /// Rows of A and C.
    pub m: u32,
    /// Columns of B and C.
    pub n: u32,
    /// Columns of A and rows of B.
    pub k: u32,
    /// Type of A's elements.
    pub a: Element,
    /// Type of B's elements.
    pub b: Element,
    /// Type of C's elements.
    pub c: Element,
    /// Type of D's elements.
    pub d: Element,
    /// `.satfinite`: integer results are clamped instead of wrapped.
    pub satfinite: bool,
    /// For b1 operands.
    pub bit_op: BitOp,
}

impl Mma {
    /// Whether `mma.sync` has this shape and these types on sm_86 (`m8n8k4` is [`QuadPairMma`] or [`mma_f64`]).
    pub fn is_mma(&self) -> bool {
        use Element::*;
        let shape = (self.m, self.n, self.k);
        match (self.a, self.b) {
            (F16, F16) => {
                matches!(shape, (16, 8, 8 | 16))
                    && matches!((self.c, self.d), (F16, F16) | (F32, F32))
            }
            (Bf16, Bf16) => matches!(shape, (16, 8, 8 | 16)) && (self.c, self.d) == (F32, F32),
            (Tf32, Tf32) => matches!(shape, (16, 8, 4 | 8)) && (self.c, self.d) == (F32, F32),
            (S8 | U8, S8 | U8) => {
                matches!(shape, (8, 8, 16) | (16, 8, 16 | 32)) && (self.c, self.d) == (S32, S32)
            }
            (S4 | U4, S4 | U4) => {
                matches!(shape, (8, 8, 32) | (16, 8, 32 | 64)) && (self.c, self.d) == (S32, S32)
            }
            (B1, B1) => {
                matches!(shape, (8, 8, 128) | (16, 8, 128 | 256)) && (self.c, self.d) == (S32, S32)
            }
            _ => false,
        }
    }

    /// Whether `wmma.mma` has this shape and these types on sm_86 (f64 m8n8k4 is [`mma_f64`]).
    pub fn is_wmma(&self) -> bool {
        use Element::*;
        let wide = matches!(
            (self.m, self.n, self.k),
            (16, 16, 16) | (8, 32, 16) | (32, 8, 16)
        );
        match (self.a, self.b) {
            (F16, F16) => wide && matches!((self.c, self.d), (F16 | F32, F16 | F32)),
            (Bf16, Bf16) => wide && (self.c, self.d) == (F32, F32),
            (Tf32, Tf32) => {
                (self.m, self.n, self.k) == (16, 16, 8) && (self.c, self.d) == (F32, F32)
            }
            (S8, S8) | (U8, U8) => wide && (self.c, self.d) == (S32, S32),
            (S4, S4) | (U4, U4) => {
                (self.m, self.n, self.k) == (8, 8, 32) && (self.c, self.d) == (S32, S32)
            }
            (B1, B1) => (self.m, self.n, self.k) == (8, 8, 128) && (self.c, self.d) == (S32, S32),
            _ => false,
        }
    }

    /// The fragment of A, B, C or D. `Role::C` is C's; pass `d` through [`Mma::d_fragment`].
    pub fn fragment(&self, role: Role) -> Fragment {
        let (rows, cols, element) = match role {
            Role::A => (self.m, self.k, self.a),
            Role::B => (self.k, self.n, self.b),
            Role::C => (self.m, self.n, self.c),
        };
        Fragment {
            role,
            rows,
            cols,
            element,
        }
    }

    /// The fragment of D.
    pub fn d_fragment(&self) -> Fragment {
        Fragment {
            role: Role::C,
            rows: self.m,
            cols: self.n,
            element: self.d,
        }
    }

    /// Multiplies. Each slice holds at least the fragment's registers; further registers (the duplicates of f16 `wmma`
    /// operands) are ignored in `a`, `b`, `c` and left alone in `d`.
    ///
    /// # Panics
    /// If the shape and types are not among [`Mma::is_mma`] and [`Mma::is_wmma`] or a slice is too short.
    pub fn apply(&self, a: &[Lanes], b: &[Lanes], c: &[Lanes], d: &mut [Lanes]) {
        assert!(
            self.is_mma() || self.is_wmma(),
            "no such matrix instruction: {self:?}"
        );
        product::multiply(self, a, b, c, d);
    }
}
