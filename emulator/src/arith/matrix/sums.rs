//! The sums of a product: eight columns of C or D at a time, read from registers and written back.

use super::element::Element;
use super::shape::Mma;
use crate::arith::Lanes;
use crate::arith::float::{f16_to_f32, f32_to_f16_nearest};

/// Columns of B and C that are multiplied at once: one brick of lanes, and one vector register of f32.
pub(super) const PANEL: usize = 8;

/// A type that elements are decoded to and that products are accumulated in.
pub(super) trait Accumulate: Copy + Default {
    /// self + a·b.
    fn multiply_add(self, a: Self, b: Self) -> Self;
}

impl Accumulate for f32 {
    #[inline(always)]
    fn multiply_add(self, a: f32, b: f32) -> f32 {
        a.mul_add(b, self)
    }
}

impl Accumulate for i32 {
    #[inline(always)]
    fn multiply_add(self, a: i32, b: i32) -> i32 {
        self.wrapping_add(a * b)
    }
}

/// The bricks of eight rows of a panel of C or D: the index of the first register, counted as if each held one element,
/// and the first row.
#[inline(always)]
fn panel_bricks(mma: &Mma, panel: usize, rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let panels = mma.n as usize / PANEL;
    let halves = (rows / 8).min(2);
    (0..rows / 8).map(move |brick| {
        let (tile, half) = (brick / halves, brick % halves);
        (((tile * panels + panel) * halves + half) * 2, 8 * brick)
    })
}

/// The rows of a panel of C, `sums.len()` of them; `from_bits` takes f32 bits or an integer.
#[inline(always)]
pub(super) fn read_sums<T: Accumulate>(
    mma: &Mma,
    element: Element,
    panel: usize,
    c: &[Lanes],
    from_bits: impl Fn(u32) -> T,
    sums: &mut [[T; PANEL]],
) {
    for (register, first_row) in panel_bricks(mma, panel, sums.len()) {
        let rows = &mut sums[first_row..first_row + 8];
        if element == Element::F16 {
            for (row, quad) in rows.iter_mut().zip(c[register / 2].chunks_exact(4)) {
                for t in 0..4 {
                    row[2 * t] = from_bits(f16_to_f32(quad[t] as u16));
                    row[2 * t + 1] = from_bits(f16_to_f32((quad[t] >> 16) as u16));
                }
            }
        } else {
            let quads = c[register]
                .chunks_exact(4)
                .zip(c[register + 1].chunks_exact(4));
            for (row, (even, odd)) in rows.iter_mut().zip(quads) {
                for t in 0..4 {
                    row[2 * t] = from_bits(even[t]);
                    row[2 * t + 1] = from_bits(odd[t]);
                }
            }
        }
    }
}

/// The reverse of [`read_sums`], for D.
#[inline(always)]
pub(super) fn write_sums<T: Accumulate>(
    mma: &Mma,
    element: Element,
    panel: usize,
    d: &mut [Lanes],
    to_bits: impl Fn(T) -> u32,
    sums: &[[T; PANEL]],
) {
    let half = |bits: u32| u32::from(f32_to_f16_nearest(bits));
    for (register, first_row) in panel_bricks(mma, panel, sums.len()) {
        let rows = &sums[first_row..first_row + 8];
        if element == Element::F16 {
            for (row, quad) in rows.iter().zip(d[register / 2].chunks_exact_mut(4)) {
                for t in 0..4 {
                    quad[t] = half(to_bits(row[2 * t])) | half(to_bits(row[2 * t + 1])) << 16;
                }
            }
        } else {
            for within in 0..2 {
                for (row, quad) in rows.iter().zip(d[register + within].chunks_exact_mut(4)) {
                    for t in 0..4 {
                        quad[t] = to_bits(row[2 * t + within]);
                    }
                }
            }
        }
    }
}
