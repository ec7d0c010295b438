//! Which lane and register hold which matrix element.

use super::element::Element;

/// A matrix operand's place in D = A·B + C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Left factor, m×k.
    A,
    /// Right factor, k×n.
    B,
    /// Accumulator and result, m×n.
    C,
}

/// How a matrix is spread over the lanes of a warp.
///
/// With `g = lane / 4` and `t = lane % 4`, a 32-bit register of A holds elements of row g, one of B elements of column g,
/// both for consecutive k starting at t times the number of elements in a register; one of C holds the element
/// (g, 2t) or (g, 2t + 1), or both if they are 16-bit. Registers then run over the lower eight rows, over k, and over
/// further tiles of 16 rows or 8 columns (PTX ISA, "Matrix Fragments for mma.m16n8k16 …"). `wmma` fragments, whose
/// layout the ISA leaves open, are the same tiles side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Which operand.
    pub role: Role,
    /// Rows of the matrix.
    pub rows: u32,
    /// Columns of the matrix.
    pub cols: u32,
    /// Element type.
    pub element: Element,
}

impl Fragment {
    /// Elements in one register; an f64 register is 64 bits wide, all others 32.
    pub const fn per_register(&self) -> u32 {
        match self.element {
            Element::F64 => 1,
            element => 32 / element.bits(),
        }
    }

    /// Registers per lane that hold the matrix once.
    pub const fn registers(&self) -> u32 {
        self.rows * self.cols / (32 * self.per_register())
    }

    /// Registers per lane of the `wmma` operand: f16 factors always take eight, so that smaller matrices are held
    /// more than once.
    pub const fn wmma_registers(&self) -> u32 {
        match (self.role, self.element) {
            (Role::A | Role::B, Element::F16) => 8,
            _ => self.registers(),
        }
    }

    /// Row and column of an element: `register` counts through the operand's vector, `index` through the register from
    /// its low bits. Registers beyond [`Fragment::registers`] repeat the first ones.
    pub fn position(&self, register: u32, index: u32, lane: u32) -> (u32, u32) {
        let register = register % self.registers();
        let (g, t) = (lane / 4, lane % 4);
        let along = self.per_register();
        match self.role {
            Role::A => {
                // Halves of 16 rows first, then steps along k, then further tiles of 16 rows.
                let halves = (self.rows / 8).min(2);
                let steps = self.cols / (4 * along);
                let (half, rest) = (register % halves, register / halves);
                let (step, tile) = (rest % steps, rest / steps);
                (
                    g + 8 * half + 16 * tile,
                    step * 4 * along + t * along + index,
                )
            }
            Role::B => {
                let steps = self.rows / (4 * along);
                let (step, tile) = (register % steps, register / steps);
                (step * 4 * along + t * along + index, g + 8 * tile)
            }
            Role::C => {
                // Two neighbouring elements of a row, in one or two registers.
                let pairs = if along == 2 { 1 } else { 2 };
                let (within, rest) = if along == 2 {
                    (index, register)
                } else {
                    (register % 2, register / pairs)
                };
                let halves = (self.rows / 8).min(2);
                let (half, rest) = (rest % halves, rest / halves);
                let tiles_across = self.cols / 8;
                let (across, down) = (rest % tiles_across, rest / tiles_across);
                (g + 8 * half + 16 * down, 8 * across + 2 * t + within)
            }
        }
    }
}
