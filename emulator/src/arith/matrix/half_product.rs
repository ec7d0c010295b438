//! Products of f16 and bf16 matrices: the path that tensor-core kernels spend their time on.
//!
//! A register of eight rows of four lanes is, read as 16-bit numbers, eight rows of eight numbers. So a fragment is
//! decoded with eight vector conversions per register, and the product then runs over vectors of eight columns. It is
//! compiled twice, for any processor and for AVX2, FMA and F16C; the results are the same bits.

use super::element::Element;
use super::shape::Mma;
use super::sums::{PANEL, read_sums, write_sums};
use crate::arith::float::{canonical_f32, f16_to_f32};
use crate::arith::{Lanes, simd};

/// Eight rows of eight numbers.
type Brick = [[f32; 8]; 8];

/// Multiplies m×k by k×n of f16 or bf16, the rows and the depth given as constants.
#[inline(always)]
fn multiply_sized<const ROWS: usize, const DEPTH: usize>(
    mma: &Mma,
    a: &[Lanes],
    b: &[Lanes],
    c: &[Lanes],
    d: &mut [Lanes],
    decode: impl Fn(&Lanes) -> Brick,
) {
    let halves = (ROWS / 8).min(2);
    let steps = DEPTH / 8;
    let mut left = [[0f32; DEPTH]; ROWS];
    for (register, words) in a[..ROWS / 8 * steps].iter().enumerate() {
        let (half, rest) = (register % halves, register / halves);
        let (step, tile) = (rest % steps, rest / steps);
        for (row, numbers) in left[16 * tile + 8 * half..].iter_mut().zip(&decode(words)) {
            row[8 * step..8 * step + 8].copy_from_slice(numbers);
        }
    }
    for panel in 0..mma.n as usize / PANEL {
        let mut right = [[0f32; PANEL]; DEPTH];
        for (step, words) in b[panel * steps..(panel + 1) * steps].iter().enumerate() {
            let columns = decode(words);
            for (n, column) in columns.iter().enumerate() {
                for (k, &number) in column.iter().enumerate() {
                    right[8 * step + k][n] = number;
                }
            }
        }
        let mut sums = [[0f32; PANEL]; ROWS];
        read_sums(mma, mma.c, panel, c, f32::from_bits, &mut sums);
        // Four rows at a time keep four independent chains of additions in flight.
        for (rows, sums) in left.chunks_exact(4).zip(sums.chunks_exact_mut(4)) {
            let mut acc = [sums[0], sums[1], sums[2], sums[3]];
            for k in 0..DEPTH {
                for (acc, row) in acc.iter_mut().zip(rows) {
                    for (sum, &y) in acc.iter_mut().zip(&right[k]) {
                        *sum = row[k].mul_add(y, *sum);
                    }
                }
            }
            sums.copy_from_slice(&acc);
        }
        write_sums(
            mma,
            mma.d,
            panel,
            d,
            |x: f32| canonical_f32(x.to_bits()),
            &sums,
        );
    }
}

#[inline(always)]
fn multiply_with(
    mma: &Mma,
    a: &[Lanes],
    b: &[Lanes],
    c: &[Lanes],
    d: &mut [Lanes],
    decode: impl Fn(&Lanes) -> Brick,
) {
    match (mma.m, mma.k) {
        (16, 16) => multiply_sized::<16, 16>(mma, a, b, c, d, decode),
        (16, _) => multiply_sized::<16, 8>(mma, a, b, c, d, decode),
        (8, _) => multiply_sized::<8, 16>(mma, a, b, c, d, decode),
        _ => multiply_sized::<32, 16>(mma, a, b, c, d, decode),
    }
}

#[inline(always)]
fn decode_numbers(words: &Lanes, decode: impl Fn(u16) -> u32) -> Brick {
    let mut brick = [[0f32; 8]; 8];
    for (row, quad) in brick.iter_mut().zip(words.chunks_exact(4)) {
        for (pair, &word) in row.chunks_exact_mut(2).zip(quad) {
            pair[0] = f32::from_bits(decode(word as u16));
            pair[1] = f32::from_bits(decode((word >> 16) as u16));
        }
    }
    brick
}

#[inline(always)]
fn decode_bf16(words: &Lanes) -> Brick {
    decode_numbers(words, |x| u32::from(x) << 16)
}

/// [`multiply`] without the vector instructions.
pub(super) fn multiply_portable(mma: &Mma, a: &[Lanes], b: &[Lanes], c: &[Lanes], d: &mut [Lanes]) {
    match mma.a {
        Element::F16 => multiply_with(mma, a, b, c, d, |words| decode_numbers(words, f16_to_f32)),
        _ => multiply_with(mma, a, b, c, d, decode_bf16),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn multiply_avx2(mma: &Mma, a: &[Lanes], b: &[Lanes], c: &[Lanes], d: &mut [Lanes]) {
    use std::arch::x86_64::{__m128i, __m256, _mm256_cvtph_ps};
    // The processor keeps NaN payloads where the portable code drops them; the result is canonical in both.
    let decode_f16 = |words: &Lanes| -> Brick {
        let mut brick = [[0f32; 8]; 8];
        for (row, quad) in brick.iter_mut().zip(words.as_chunks::<4>().0) {
            let numbers: __m256 = _mm256_cvtph_ps(bytemuck::cast::<[u32; 4], __m128i>(*quad));
            *row = bytemuck::cast(numbers);
        }
        brick
    };
    match mma.a {
        Element::F16 => multiply_with(mma, a, b, c, d, decode_f16),
        _ => multiply_with(mma, a, b, c, d, decode_bf16),
    }
}

/// Multiplies a checked shape of f16 or bf16 factors.
pub fn multiply(mma: &Mma, a: &[Lanes], b: &[Lanes], c: &[Lanes], d: &mut [Lanes]) {
    #[cfg(target_arch = "x86_64")]
    if simd::available() {
        // SAFETY: the processor has just been found to have the features.
        return unsafe { multiply_avx2(mma, a, b, c, d) };
    }
    multiply_portable(mma, a, b, c, d);
}
