//! `mma.sp`: A is sparse. It holds half of each row's elements, and metadata says which half.

use super::element::Element;
use super::fragment::{Fragment, Role};
use super::shape::Mma;
use crate::arith::Lanes;
use crate::arith::float::{bf16_to_f32, canonical_f32, f16_to_f32, f32_to_f16_nearest};

/// D = A·B + C of the shape m16n8k, where A is sparse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SparseMma {
    /// Shape and types; k counts A's columns before half of them were left out.
    pub mma: Mma,
    /// Which lanes of each four give the metadata.
    pub selector: u32,
}

impl SparseMma {
    /// Whether sm_86 has the instruction. A selector that names lanes which don't exist has no meaning.
    pub fn exists(&self) -> bool {
        use Element::*;
        let m = &self.mma;
        let sums_fit = match (m.a, m.b) {
            (F16, F16) => matches!((m.c, m.d), (F16, F16) | (F32, F32)) && !m.satfinite,
            (Bf16, Bf16) | (Tf32, Tf32) => (m.c, m.d) == (F32, F32) && !m.satfinite,
            (S8 | U8, S8 | U8) | (S4 | U4, S4 | U4) => (m.c, m.d) == (S32, S32),
            _ => false,
        };
        // Shallow shapes take their metadata from one lane of four (16 bits a row) or from two; deep ones from
        // twice as many.
        let selectors = match (m.a, m.k) {
            (F16 | Bf16, 16) | (Tf32, 8) => 4,
            (F16 | Bf16, 32) | (Tf32, 16) | (S8 | U8, 32) | (S4 | U4, 64) => 2,
            (S8 | U8, 64) | (S4 | U4, 128) => 1,
            _ => 0,
        };
        sums_fit && (m.m, m.n) == (16, 8) && self.selector < selectors
    }

    /// The fragment of A without the elements that are left out.
    pub fn packed_a(&self) -> Fragment {
        Fragment {
            role: Role::A,
            rows: self.mma.m,
            cols: self.mma.k / 2,
            element: self.mma.a,
        }
    }

    /// Four bits of a row's metadata: those of its n-th group of elements.
    fn nibble(&self, metadata: &Lanes, row: u32, n: u32) -> u32 {
        let (g, half) = (row % 8, row / 8);
        let m = &self.mma;
        let (lane, bit) = match m.a {
            // Sixteen bits of row g and sixteen of row g + 8 in one lane, the next columns in the next lane.
            Element::F16 | Element::Bf16 | Element::Tf32 => {
                let words = m.k / if m.a == Element::Tf32 { 8 } else { 16 };
                (self.selector * words + n / 4, 16 * half + 4 * (n % 4))
            }
            // Row g in one lane, row g + 8 in the next, the next columns in the other two.
            _ => (2 * self.selector + half + 2 * (n / 8), 4 * (n % 8)),
        };
        metadata[(4 * g + lane) as usize] >> bit & 0xf
    }

    /// The column of A, and row of B, of a packed element.
    pub fn column(&self, metadata: &Lanes, row: u32, packed: u32) -> u32 {
        match self.mma.a {
            // One of two: 0b0100 is the first, 0b1110 the second.
            Element::Tf32 => 2 * packed + (self.nibble(metadata, row, packed) >> 1 & 1),
            // Two pairs of four pairs.
            Element::S4 | Element::U4 => {
                let (pair, group) = (packed / 2, packed / 4);
                let which = self.nibble(metadata, row, group) >> (2 * (pair % 2)) & 3;
                8 * group + 2 * which + packed % 2
            }
            // Two of four.
            _ => {
                let group = packed / 2;
                let which = self.nibble(metadata, row, group) >> (2 * (packed % 2)) & 3;
                4 * group + which
            }
        }
    }

    /// Multiplies: adds the products of the elements that A holds in ascending k, as [`Mma::apply`] does.
    ///
    /// # Panics
    /// If a slice is shorter than its fragment.
    pub fn apply(&self, a: &[Lanes], b: &[Lanes], c: &[Lanes], metadata: &Lanes, d: &mut [Lanes]) {
        let m = &self.mma;
        let left = tile(&self.packed_a(), a);
        let right = tile(&m.fragment(Role::B), b);
        let addend = tile(&m.fragment(Role::C), c);
        let (rows, cols, packed) = (m.m as usize, m.n as usize, m.k as usize / 2);
        let integer = m.d == Element::S32;
        let mut sums = vec![0u32; rows * cols];
        for (row, sums) in sums.chunks_exact_mut(cols).enumerate() {
            let columns: Vec<usize> = (0..packed)
                .map(|p| self.column(metadata, row as u32, p as u32) as usize)
                .collect();
            let elements = &left[row * packed..(row + 1) * packed];
            for (col, sum) in sums.iter_mut().enumerate() {
                let start = addend[row * cols + col];
                let pairs = elements
                    .iter()
                    .zip(&columns)
                    .map(|(x, k)| (*x, right[k * cols + col]));
                *sum = if integer {
                    let product = pairs.fold(0i32, |sum, (x, y)| {
                        sum + integer_value(m.a, x) * integer_value(m.b, y)
                    });
                    (if m.satfinite {
                        (start as i32).saturating_add(product)
                    } else {
                        (start as i32).wrapping_add(product)
                    }) as u32
                } else {
                    let sum = pairs.fold(float_value(m.c, start), |sum, (x, y)| {
                        float_value(m.a, x).mul_add(float_value(m.b, y), sum)
                    });
                    if m.d == Element::F16 {
                        u32::from(f32_to_f16_nearest(sum.to_bits()))
                    } else {
                        canonical_f32(sum.to_bits())
                    }
                };
            }
        }
        let fragment = m.d_fragment();
        let (along, bits) = (fragment.per_register(), m.d.bits());
        for (register, words) in d.iter_mut().enumerate() {
            for (lane, word) in words.iter_mut().enumerate() {
                *word = (0..along).fold(0, |word, index| {
                    let (row, col) = fragment.position(register as u32, index, lane as u32);
                    word | sums[row as usize * cols + col as usize] << (bits * index)
                });
            }
        }
    }
}

/// A fragment's elements as raw bits, row by row.
fn tile(fragment: &Fragment, registers: &[Lanes]) -> Vec<u32> {
    let mut out = vec![0; (fragment.rows * fragment.cols) as usize];
    let bits = fragment.element.bits();
    for (register, words) in registers[..fragment.registers() as usize]
        .iter()
        .enumerate()
    {
        for (lane, word) in words.iter().enumerate() {
            for index in 0..fragment.per_register() {
                let (row, col) = fragment.position(register as u32, index, lane as u32);
                out[(row * fragment.cols + col) as usize] =
                    word >> (bits * index) & (u32::MAX >> (32 - bits));
            }
        }
    }
    out
}

fn float_value(element: Element, bits: u32) -> f32 {
    f32::from_bits(match element {
        Element::F16 => f16_to_f32(bits as u16),
        Element::Bf16 => bf16_to_f32(bits as u16),
        Element::Tf32 => bits & 0xffff_e000,
        _ => bits,
    })
}

fn integer_value(element: Element, bits: u32) -> i32 {
    match element {
        Element::S8 => i32::from(bits as u8 as i8),
        Element::S4 => (bits << 28) as i32 >> 28,
        _ => bits as i32,
    }
}
