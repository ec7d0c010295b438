//! `mma.m8n8k4` with f16 operands: four independent products, each by eight lanes (a pair of quads).

use super::element::Element;
use super::fragment::Role;
use crate::arith::Lanes;
use crate::arith::float::{canonical_f32, f16_to_f32, f32_to_f16_nearest};

/// `mma.sync.aligned.m8n8k4.{row,col}.{row,col}.dtype.f16.f16.ctype`. Lanes 4q … 4q + 3 and 16 + 4q … 16 + 4q + 3
/// compute product q.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuadPairMma {
    /// A is given by columns (`.col`).
    pub a_col: bool,
    /// B is given by columns (`.col`).
    pub b_col: bool,
    /// C's type, f16 or f32.
    pub c: Element,
    /// D's type, f16 or f32.
    pub d: Element,
}

/// Row and column of element `index` that `lane` holds of a fragment of `m8n8k4`: 4 elements of A or B, 8 of C or D.
/// `col` is the layout of A or B; for C and D `wide` says that they are f32.
pub fn quad_pair_element(
    role: Role,
    col: bool,
    wide: bool,
    lane: usize,
    index: usize,
) -> (usize, usize) {
    let upper = if lane < 16 { 0 } else { 4 };
    let quad = lane % 4;
    match (role, col, wide) {
        (Role::A, false, _) => (quad + upper, index),
        (Role::A, true, _) => (index + upper, quad),
        (Role::B, false, _) => (quad, index + upper),
        (Role::B, true, _) => (index, quad + upper),
        (Role::C, _, false) => (quad + upper, index),
        (Role::C, _, true) => (
            (quad & 1) + (index & 2) + upper,
            (index & 4) + (quad & 2) + (index & 1),
        ),
    }
}

fn half_at(registers: &[Lanes], lane: usize, index: usize) -> f32 {
    let pair = registers[index / 2][lane];
    f32::from_bits(f16_to_f32((pair >> (16 * (index % 2))) as u16))
}

impl QuadPairMma {
    /// Multiplies: two registers each of A and B, four (f16) or eight (f32) of C and D.
    pub fn apply(&self, a: &[Lanes], b: &[Lanes], c: &[Lanes], d: &mut [Lanes]) {
        for quad in 0..4 {
            let lanes = || (4 * quad..4 * quad + 4).chain(16 + 4 * quad..20 + 4 * quad);
            let mut left = [[0f32; 4]; 8];
            let mut right = [[0f32; 8]; 4];
            let mut sums = [[0f32; 8]; 8];
            for lane in lanes() {
                for index in 0..4 {
                    let (row, col) = quad_pair_element(Role::A, self.a_col, false, lane, index);
                    left[row][col] = half_at(a, lane, index);
                    let (row, col) = quad_pair_element(Role::B, self.b_col, false, lane, index);
                    right[row][col] = half_at(b, lane, index);
                }
                let wide = self.c == Element::F32;
                for index in 0..8 {
                    let (row, col) = quad_pair_element(Role::C, false, wide, lane, index);
                    sums[row][col] = if wide {
                        f32::from_bits(c[index][lane])
                    } else {
                        half_at(c, lane, index)
                    };
                }
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                for (col, sum) in sums.iter_mut().enumerate() {
                    for k in 0..4 {
                        *sum = left[row][k].mul_add(right[k][col], *sum);
                    }
                }
            }
            for lane in lanes() {
                let wide = self.d == Element::F32;
                for index in 0..8 {
                    let (row, col) = quad_pair_element(Role::C, false, wide, lane, index);
                    let bits = sums[row][col].to_bits();
                    if wide {
                        d[index][lane] = canonical_f32(bits);
                    } else {
                        let shift = 16 * (index % 2);
                        let half = u32::from(f32_to_f16_nearest(bits)) << shift;
                        d[index / 2][lane] = d[index / 2][lane] & !(0xffff << shift) | half;
                    }
                }
            }
        }
    }
}
