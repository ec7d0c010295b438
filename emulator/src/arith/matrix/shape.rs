//! The shapes and types of `mma` and `wmma`.

use super::element::{BitOp, Element};
use super::fragment::{Fragment, Role};

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
    /// Whether `mma.sync` has this shape and these types on sm_86 (`m8n8k4` is [`QuadPairMma`](super::QuadPairMma) or [`mma_f64`](super::mma_f64)).
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

    /// Whether `wmma.mma` has this shape and these types on sm_86 (f64 m8n8k4 is [`mma_f64`](super::mma_f64)).
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
}
