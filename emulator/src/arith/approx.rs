//! The `.approx` functions: deterministic, the documented special values, errors within the documented bounds.
//!
//! The hardware's tables are not public, so these functions are computed in double precision and rounded once. That is
//! inside every bound the PTX ISA gives, yet not the silicon's bits: a program must not depend on more than the bound.

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

/// `ex2.approx{.ftz}.f32`: 2^a, within 2^-22.5 relative.
#[inline]
pub fn ex2_f32(a: u32, ftz: bool) -> u32 {
    through_f64(a, ftz, f64::exp2)
}

/// `lg2.approx{.ftz}.f32`: the binary logarithm, within 2^-22.6 absolute or relative. Negative numbers give NaN.
#[inline]
pub fn lg2_f32(a: u32, ftz: bool) -> u32 {
    through_f64(a, ftz, f64::log2)
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
