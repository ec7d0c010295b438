//! The `.approx` functions: deterministic, the documented special values, errors within the documented bounds.
//!
//! The hardware's tables are not public, so these functions are computed in double precision and rounded once. That is
//! inside every bound the PTX ISA gives, yet not the silicon's bits: a program must not depend on more than the bound.
//! 2^x and the logarithm, which kernels call for every element, are polynomials that vectorise; the rest is the host's libm.

use super::float::{
    FloatType, Mode, NAN_F32, NAN_F64, bf16_to_f32, div_f32, f16_to_f32, f32_to_bf16_nearest,
    f32_to_f16_nearest, flush_f32, is_nan_f64,
};

/// An f32 function computed in f64, with `.ftz` on both sides and the canonical NaN.
#[inline(always)]
fn through_f64(a: u32, ftz: bool, f: impl Fn(f64) -> f64) -> u32 {
    let a = if ftz { flush_f32(a) } else { a };
    let result = f(f64::from(f32::from_bits(a))) as f32;
    let bits = if result.is_nan() {
        NAN_F32
    } else {
        result.to_bits()
    };
    if ftz { flush_f32(bits) } else { bits }
}

/// 2^x for an x that came from f32: x = n + f with |f| ≤ ½, and the Taylor polynomial of e^(f ln 2), whose remainder is
/// below 2^-27. Whole numbers give exact powers.
#[inline(always)]
fn exp2(x: f64) -> f64 {
    /// (ln 2)^k / k!
    const TERMS: [f64; 8] = [
        1.525_273_380_405_984e-5,
        1.540_353_039_338_161e-4,
        1.333_355_814_642_844_2e-3,
        9.618_129_107_628_477e-3,
        5.550_410_866_482_158e-2,
        2.402_265_069_591_007e-1,
        std::f64::consts::LN_2,
        1.0,
    ];
    // Beyond these powers f32 is 0 or infinite. The comparisons keep NaN, which a clamp into range would lose.
    let x = if x > 200.0 { 200.0 } else { x };
    let x = if x < -200.0 { -200.0 } else { x };
    // Adding 1.5·2^52 leaves the nearest integer in the low bits of the sum.
    const TO_INTEGER: f64 = 6_755_399_441_055_744.0;
    let shifted = x + TO_INTEGER;
    let f = x - (shifted - TO_INTEGER);
    let power = TERMS[1..]
        .iter()
        .fold(TERMS[0], |sum, &term| sum.mul_add(f, term));
    let scale = f64::from_bits((shifted.to_bits().wrapping_add(1023)) << 52);
    power * scale
}

/// The binary logarithm of an x that came from f32: x = m·2^e with √½ ≤ m < √2, and the series of
/// 2/ln 2 · atanh((m − 1)/(m + 1)), cut off below 2^-40 of its value.
#[inline(always)]
fn log2(x: f64) -> f64 {
    const TWO_OVER_LN_2: f64 = 2.0 * std::f64::consts::LOG2_E;
    const SQRT_HALF: u64 = 0x3fe6_a09e_0000_0000;
    let offset = x.to_bits().wrapping_sub(SQRT_HALF);
    let exponent = (offset as i64) >> 52;
    let m = f64::from_bits(x.to_bits().wrapping_sub((exponent << 52) as u64));
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let series = [11.0, 9.0, 7.0, 5.0, 3.0, 1.0]
        .iter()
        .fold(1.0 / 13.0, |sum: f64, odd| sum.mul_add(square, 1.0 / odd));
    let finite = (s * TWO_OVER_LN_2).mul_add(series, exponent as i32 as f64);
    let bounded = if x == f64::INFINITY { x } else { finite };
    let signed = if x < 0.0 { f64::NAN } else { bounded };
    if x == 0.0 {
        f64::NEG_INFINITY
    } else if x.is_nan() {
        x
    } else {
        signed
    }
}

/// `ex2.approx{.ftz}.f32`: 2^a, within 2^-22.5 relative.
#[inline]
pub fn ex2_f32(a: u32, ftz: bool) -> u32 {
    through_f64(a, ftz, exp2)
}

/// `lg2.approx{.ftz}.f32`: the binary logarithm, within 2^-22.6 absolute or relative. Negative numbers give NaN.
#[inline]
pub fn lg2_f32(a: u32, ftz: bool) -> u32 {
    through_f64(a, ftz, log2)
}

/// `rcp.approx{.ftz}.f32`: the reciprocal, within 1 ulp.
#[inline]
pub fn rcp_f32(a: u32, ftz: bool) -> u32 {
    div_f32(0x3f80_0000, a, Mode { ftz, ..Mode::RN })
}

/// `rsqrt.approx{.ftz}.f32`: 1/√a, within 2^-22.9 relative. ±0 gives ±∞, negative numbers NaN.
#[inline]
pub fn rsqrt_f32(a: u32, ftz: bool) -> u32 {
    through_f64(a, ftz, |x| 1.0 / x.sqrt())
}

/// `sqrt.approx{.ftz}.f32`: the square root, within 2^-23 relative.
#[inline]
pub fn sqrt_f32(a: u32, ftz: bool) -> u32 {
    through_f64(a, ftz, f64::sqrt)
}

/// `sin.approx{.ftz}.f32`: within 2^-20.5 absolute on [−2π, 2π]. ±∞ gives NaN.
#[inline]
pub fn sin_f32(a: u32, ftz: bool) -> u32 {
    through_f64(a, ftz, f64::sin)
}

/// `cos.approx{.ftz}.f32`: within 2^-20.5 absolute on [−2π, 2π]. ±∞ gives NaN.
#[inline]
pub fn cos_f32(a: u32, ftz: bool) -> u32 {
    through_f64(a, ftz, f64::cos)
}

/// `tanh.approx.f32`: within 2^-11 relative; subnormals are supported.
#[inline]
pub fn tanh_f32(a: u32) -> u32 {
    through_f64(a, false, f64::tanh)
}

/// `div.approx{.ftz}.f32`: within 2 ulp for 2^-126 ≤ |b| ≤ 2^126. Above, the reciprocal underflows: the quotient is a
/// zero, or NaN for an infinite `a`.
#[inline]
pub fn div_approx_f32(a: u32, b: u32, ftz: bool) -> u32 {
    const SIGN: u32 = 0x8000_0000;
    const LIMIT: u32 = 0x7e80_0000; // 2^126
    const INFINITY: u32 = 0x7f80_0000;
    let (magnitude_a, magnitude_b) = (a & !SIGN, b & !SIGN);
    if magnitude_b > LIMIT && magnitude_b < INFINITY && magnitude_a <= INFINITY {
        return if magnitude_a == INFINITY {
            NAN_F32
        } else {
            (a ^ b) & SIGN
        };
    }
    div_f32(a, b, Mode { ftz, ..Mode::RN })
}

/// `div.full{.ftz}.f32`: within 2 ulp over the full range.
#[inline]
pub fn div_full_f32(a: u32, b: u32, ftz: bool) -> u32 {
    div_f32(a, b, Mode { ftz, ..Mode::RN })
}

/// The part of an f64 that the 64-bit reciprocals read: the upper word, subnormals flushed.
fn upper_word(a: u64) -> f64 {
    let a = a & 0xffff_ffff_0000_0000;
    f64::from_bits(if a & 0x7ff0_0000_0000_0000 == 0 {
        a & (1 << 63)
    } else {
        a
    })
}

/// An f64 rounded to the upper word, subnormals flushed; the lower word is zero.
fn to_upper_word(result: f64) -> u64 {
    if result.is_nan() {
        return NAN_F64 & 0xffff_ffff_0000_0000;
    }
    let bits = result.to_bits();
    // An infinity has nothing below the upper word, so rounding leaves it alone.
    let rounded = bits.wrapping_add(0x8000_0000) & 0xffff_ffff_0000_0000;
    if rounded & 0x7ff0_0000_0000_0000 == 0 {
        rounded & (1 << 63)
    } else {
        rounded
    }
}

/// `rcp.approx.ftz.f64`: a gross reciprocal that reads and writes upper words only.
#[inline]
pub fn rcp_ftz_f64(a: u64) -> u64 {
    to_upper_word(1.0 / upper_word_or_nan(a))
}

/// `rsqrt.approx.ftz.f64`: a gross 1/√a that reads and writes upper words only.
#[inline]
pub fn rsqrt_ftz_f64(a: u64) -> u64 {
    to_upper_word(1.0 / upper_word_or_nan(a).sqrt())
}

/// [`upper_word`], but a NaN whose payload lies in the lower word stays one.
fn upper_word_or_nan(a: u64) -> f64 {
    if is_nan_f64(a) {
        f64::NAN
    } else {
        upper_word(a)
    }
}

/// `rsqrt.approx.f64`: 1/√a with f64's full range.
#[inline]
pub fn rsqrt_f64(a: u64) -> u64 {
    let result = 1.0 / f64::from_bits(a).sqrt();
    if result.is_nan() {
        NAN_F64
    } else {
        result.to_bits()
    }
}

/// A function of a 16-bit float computed in f64 and rounded to nearest.
#[inline(always)]
fn through_half(ty: FloatType, a: u16, f: impl Fn(u32) -> u32) -> u16 {
    match ty {
        FloatType::Bf16 => f32_to_bf16_nearest(f(bf16_to_f32(a))),
        _ => f32_to_f16_nearest(f(f16_to_f32(a))),
    }
}

/// `ex2.approx{.ftz}.f16`: 2^a, within 2^-9.9 relative.
#[inline]
pub fn ex2_f16(a: u16, ftz: bool) -> u16 {
    let flush = |x: u16| if ftz { super::float::flush_f16(x) } else { x };
    flush(through_half(FloatType::F16, flush(a), |x| {
        ex2_f32(x, false)
    }))
}

/// `ex2.approx.ftz.bf16`: 2^a, within 2^-7 relative; subnormals flushed.
#[inline]
pub fn ex2_bf16(a: u16) -> u16 {
    through_half(FloatType::Bf16, a, |x| ex2_f32(x, true))
}

/// `tanh.approx.f16`: within 2^-10.987 absolute.
#[inline]
pub fn tanh_f16(a: u16) -> u16 {
    through_half(FloatType::F16, a, tanh_f32)
}

/// `tanh.approx.bf16`: within 2^-8 absolute.
#[inline]
pub fn tanh_bf16(a: u16) -> u16 {
    through_half(FloatType::Bf16, a, tanh_f32)
}
