//! The products themselves: fragments decoded once into row-major tiles, multiplied, and spread out again.

use super::element::{BitOp, Element};
use super::half_product;
use super::shape::Mma;
use super::sums::{Accumulate, PANEL, read_sums, write_sums};
use crate::arith::float::{Round, canonical_f32, fma_f64};
use crate::arith::simd;
use crate::arith::{Lanes, Lanes64};

/// The most rows of A (`wmma.m32n8k16`).
const MAX_ROWS: usize = 32;
/// The most elements along k of a type that is decoded (`mma.m16n8k64` of 4-bit integers).
const MAX_DEPTH: usize = 64;

/// Decodes one brick: register `words` of all lanes gives eight rows of `4·E` consecutive elements; row g goes to
/// `out[(first_row + g) * stride + column …]`.
#[inline(always)]
fn decode_brick<T: Accumulate, const E: usize>(
    words: &Lanes,
    decode: impl Fn(u32) -> [T; E],
    out: &mut [T],
    first_row: usize,
    stride: usize,
    column: usize,
) {
    for (g, quad) in words.chunks_exact(4).enumerate() {
        let start = (first_row + g) * stride + column;
        for (word, elements) in quad
            .iter()
            .zip(out[start..start + 4 * E].chunks_exact_mut(E))
        {
            elements.copy_from_slice(&decode(*word));
        }
    }
}

/// A as rows of k, from its registers.
#[inline(always)]
fn decode_a<T: Accumulate, const E: usize>(
    mma: &Mma,
    a: &[Lanes],
    decode: impl Fn(u32) -> [T; E] + Copy,
    out: &mut [T],
) {
    let (rows, depth) = (mma.m as usize, mma.k as usize);
    let halves = (rows / 8).min(2);
    let steps = depth / (4 * E);
    for (register, words) in a[..rows * depth / (32 * E)].iter().enumerate() {
        let (half, rest) = (register % halves, register / halves);
        let (step, tile) = (rest % steps, rest / steps);
        decode_brick(
            words,
            decode,
            out,
            8 * half + 16 * tile,
            depth,
            step * 4 * E,
        );
    }
}

/// One panel of eight columns of B, k-major, from its registers.
#[inline(always)]
fn decode_b<T: Accumulate, const E: usize>(
    depth: usize,
    panel: &[Lanes],
    decode: impl Fn(u32) -> [T; E] + Copy,
    out: &mut [[T; PANEL]],
) {
    let mut columns = [T::default(); PANEL * MAX_DEPTH];
    for (step, words) in panel.iter().enumerate() {
        decode_brick(words, decode, &mut columns, 0, depth, step * 4 * E);
    }
    for (k, row) in out[..depth].iter_mut().enumerate() {
        for (n, value) in row.iter_mut().enumerate() {
            *value = columns[n * depth + k];
        }
    }
}

/// C's panel plus A times B's panel, in ascending k.
#[inline(always)]
fn accumulate<T: Accumulate>(a: &[T], depth: usize, b: &[[T; PANEL]], sums: &mut [[T; PANEL]]) {
    for (row, sums) in a.chunks_exact(depth).zip(sums) {
        let mut acc = *sums;
        for (&x, column) in row.iter().zip(b) {
            for (sum, &y) in acc.iter_mut().zip(column) {
                *sum = sum.multiply_add(x, y);
            }
        }
        *sums = acc;
    }
}

#[inline(always)]
fn multiply_floats<const E: usize>(
    mma: &Mma,
    a: &[Lanes],
    b: &[Lanes],
    c: &[Lanes],
    d: &mut [Lanes],
    decode: impl Fn(u32) -> [f32; E] + Copy,
) {
    let (rows, depth) = (mma.m as usize, mma.k as usize);
    let mut left = [0f32; MAX_ROWS * 16];
    decode_a(mma, a, decode, &mut left);
    let steps = depth / (4 * E);
    for (panel, registers) in b[..steps * mma.n as usize / PANEL]
        .chunks_exact(steps)
        .enumerate()
    {
        let mut right = [[0f32; PANEL]; 16];
        decode_b(depth, registers, decode, &mut right);
        let mut sums = [[0f32; PANEL]; MAX_ROWS];
        let sums = &mut sums[..rows];
        read_sums(mma, mma.c, panel, c, f32::from_bits, sums);
        accumulate(&left[..rows * depth], depth, &right[..depth], sums);
        write_sums(
            mma,
            mma.d,
            panel,
            d,
            |x: f32| canonical_f32(x.to_bits()),
            sums,
        );
    }
}

#[inline(always)]
fn multiply_integers<const E: usize>(
    mma: &Mma,
    a: &[Lanes],
    b: &[Lanes],
    c: &[Lanes],
    d: &mut [Lanes],
    decode_left: impl Fn(u32) -> [i32; E] + Copy,
    decode_right: impl Fn(u32) -> [i32; E] + Copy,
) {
    let (rows, depth) = (mma.m as usize, mma.k as usize);
    let mut left = [0i32; MAX_ROWS * MAX_DEPTH];
    decode_a(mma, a, decode_left, &mut left);
    let steps = depth / (4 * E);
    for (panel, registers) in b[..steps * mma.n as usize / PANEL]
        .chunks_exact(steps)
        .enumerate()
    {
        let mut right = [[0i32; PANEL]; MAX_DEPTH];
        decode_b(depth, registers, decode_right, &mut right);
        // The sum of products fits easily; only adding C can overflow.
        let mut products = [[0i32; PANEL]; MAX_ROWS];
        accumulate(
            &left[..rows * depth],
            depth,
            &right[..depth],
            &mut products[..rows],
        );
        let mut sums = [[0i32; PANEL]; MAX_ROWS];
        let sums = &mut sums[..rows];
        read_sums(mma, mma.c, panel, c, |bits| bits as i32, sums);
        for (sum, product) in sums
            .as_flattened_mut()
            .iter_mut()
            .zip(products.as_flattened())
        {
            *sum = if mma.satfinite {
                sum.saturating_add(*product)
            } else {
                sum.wrapping_add(*product)
            };
        }
        write_sums(mma, mma.d, panel, d, |x: i32| x as u32, sums);
    }
}

/// b1: the words of a row are combined as they are.
fn multiply_bits(mma: &Mma, a: &[Lanes], b: &[Lanes], c: &[Lanes], d: &mut [Lanes]) {
    let steps = mma.k as usize / 128;
    let halves = (mma.m as usize / 8).min(2);
    let mut sums = [[0i32; PANEL]; MAX_ROWS];
    let sums = &mut sums[..mma.m as usize];
    read_sums(mma, mma.c, 0, c, |bits| bits as i32, sums);
    for (row, sums) in sums.iter_mut().enumerate() {
        for (n, sum) in sums.iter_mut().enumerate() {
            for step in 0..steps {
                for t in 0..4 {
                    let x = a[step * halves + row / 8][4 * (row % 8) + t];
                    let y = b[step][4 * n + t];
                    let bits = match mma.bit_op {
                        BitOp::Xor => x ^ y,
                        BitOp::And => x & y,
                    };
                    *sum = sum.wrapping_add(bits.count_ones() as i32);
                }
            }
        }
    }
    write_sums(mma, mma.d, 0, d, |x: i32| x as u32, sums);
}

#[inline(always)]
fn tf32(word: u32) -> [f32; 1] {
    [f32::from_bits(word & 0xffff_e000)]
}

#[inline(always)]
fn bytes(signed: bool) -> impl Fn(u32) -> [i32; 4] + Copy {
    move |word| {
        word.to_le_bytes().map(|x| {
            if signed {
                i32::from(x as i8)
            } else {
                i32::from(x)
            }
        })
    }
}

#[inline(always)]
fn nibbles(signed: bool) -> impl Fn(u32) -> [i32; 8] + Copy {
    move |word| {
        std::array::from_fn(|i| {
            let top = word << (28 - 4 * i);
            if signed {
                top as i32 >> 28
            } else {
                (top >> 28) as i32
            }
        })
    }
}

#[inline(always)]
fn multiply_portable(mma: &Mma, a: &[Lanes], b: &[Lanes], c: &[Lanes], d: &mut [Lanes]) {
    let (a_signed, b_signed) = (
        matches!(mma.a, Element::S8 | Element::S4),
        matches!(mma.b, Element::S8 | Element::S4),
    );
    match mma.a {
        Element::Tf32 => multiply_floats(mma, a, b, c, d, tf32),
        Element::S8 | Element::U8 => {
            multiply_integers(mma, a, b, c, d, bytes(a_signed), bytes(b_signed))
        }
        Element::S4 | Element::U4 => {
            multiply_integers(mma, a, b, c, d, nibbles(a_signed), nibbles(b_signed))
        }
        _ => multiply_bits(mma, a, b, c, d),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn multiply_avx2(mma: &Mma, a: &[Lanes], b: &[Lanes], c: &[Lanes], d: &mut [Lanes]) {
    multiply_portable(mma, a, b, c, d);
}

impl Mma {
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
        multiply(self, a, b, c, d);
    }
}

/// Multiplies a checked shape.
fn multiply(mma: &Mma, a: &[Lanes], b: &[Lanes], c: &[Lanes], d: &mut [Lanes]) {
    if matches!(mma.a, Element::F16 | Element::Bf16) {
        return half_product::multiply(mma, a, b, c, d);
    }
    #[cfg(target_arch = "x86_64")]
    if simd::available() {
        // SAFETY: the processor has just been found to have the features.
        return unsafe { multiply_avx2(mma, a, b, c, d) };
    }
    multiply_portable(mma, a, b, c, d);
}

/// `mma.m8n8k4.f64` and `wmma.mma.m8n8k4.f64`: one register of A (row lane / 4, column lane % 4), one of B (row
/// lane % 4, column lane / 4), two of C and D (row lane / 4, columns 2·(lane % 4) and the next).
pub fn mma_f64(round: Round, a: &Lanes64, b: &Lanes64, c: &[Lanes64; 2], d: &mut [Lanes64; 2]) {
    for lane in 0..32 {
        let (row, first) = (lane / 4, 2 * (lane % 4));
        for within in 0..2 {
            let col = first + within;
            d[within][lane] = (0..4).fold(c[within][lane], |sum, k| {
                fma_f64(a[4 * row + k], b[4 * col + k], sum, round)
            });
        }
    }
}
