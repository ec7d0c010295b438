//! Half precision and bfloat16: arithmetic, minimum and maximum, on `u16` bit patterns and packed pairs.
//!
//! Every result is rounded once, to nearest even, the only direction these instructions have. Sums and products go
//! through f32, whose 24 bits are at least 2·11 + 2, so that rounding twice equals rounding once. That does not hold for
//! a fused multiply-add, so its wide result is rounded to odd before it is narrowed (Boldo and Melquiond, "Emulation of
//! FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008).

use super::convert::{NAN_HALF, bf16_to_f32, f16_to_f32, f32_to_bf16_nearest, f32_to_f16_nearest};
use super::modifiers::MinMax;

const SIGN: u16 = 0x8000;

/// The modifiers of f16 and bf16 arithmetic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HalfMode {
    /// `.ftz`, for f16 only: subnormal operands and results become zeros of the same sign.
    pub ftz: bool,
    /// `.sat`: the result is clamped to [0, 1], NaN to +0.
    pub sat: bool,
    /// `.relu`: a negative result becomes +0; NaN stays NaN.
    pub relu: bool,
}

impl HalfMode {
    /// No modifier.
    pub const PLAIN: HalfMode = HalfMode {
        ftz: false,
        sat: false,
        relu: false,
    };
}

/// A subnormal f16 becomes the zero of its sign.
#[inline(always)]
pub fn flush_f16(a: u16) -> u16 {
    if a & 0x7c00 == 0 { a & SIGN } else { a }
}

/// What differs between the two formats.
pub(crate) trait Half {
    /// Positive infinity.
    const INFINITY: u16;
    /// One.
    const ONE: u16;
    /// The value, exactly.
    fn widen(a: u16) -> f32;
    /// Rounded to nearest even.
    fn narrow(a: f32) -> u16;
    /// a·b + c, rounded to odd in f32.
    fn fma_to_odd(a: f32, b: f32, c: f32) -> f32;
    /// `.ftz`, where the format has it.
    fn flush(a: u16) -> u16;
}

/// IEEE binary16.
pub(crate) struct F16;
/// The upper half of binary32.
pub(crate) struct Bf16;

impl Half for F16 {
    const INFINITY: u16 = 0x7c00;
    const ONE: u16 = 0x3c00;

    #[inline(always)]
    fn widen(a: u16) -> f32 {
        f32::from_bits(f16_to_f32(a))
    }

    #[inline(always)]
    fn narrow(a: f32) -> u16 {
        f32_to_f16_nearest(a.to_bits())
    }

    #[inline(always)]
    fn fma_to_odd(a: f32, b: f32, c: f32) -> f32 {
        // 22 bits between 2^-48 and 2^32: exact. The sum's error comes from Knuth's two-sum, also exact here.
        let product = a * b;
        let sum = product + c;
        let c_part = sum - product;
        let error = (product - (sum - c_part)) + (c - c_part);
        nudge_to_odd(sum, error < 0.0, error > 0.0)
    }

    #[inline(always)]
    fn flush(a: u16) -> u16 {
        flush_f16(a)
    }
}

impl Half for Bf16 {
    const INFINITY: u16 = 0x7f80;
    const ONE: u16 = 0x3f80;

    #[inline(always)]
    fn widen(a: u16) -> f32 {
        f32::from_bits(bf16_to_f32(a))
    }

    #[inline(always)]
    fn narrow(a: f32) -> u16 {
        f32_to_bf16_nearest(a.to_bits())
    }

    #[inline(always)]
    fn fma_to_odd(a: f32, b: f32, c: f32) -> f32 {
        // The exponents of products exceed f32's range, so the sum is formed in f64, rounded to odd there and again to f32.
        let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
        let sum = product + c;
        let c_part = sum - product;
        let error = (product - (sum - c_part)) + (c - c_part);
        let step = i64::from(error > 0.0) - i64::from(error < 0.0);
        let even = sum.to_bits() & 1 == 0 && sum.is_finite();
        let away = if sum.to_bits() >> 63 != 0 {
            -step
        } else {
            step
        };
        let odd = f64::from_bits(
            sum.to_bits()
                .wrapping_add_signed(if even { away } else { 0 }),
        );
        let narrow = odd as f32;
        let rest = odd - f64::from(narrow);
        nudge_to_odd(narrow, rest < 0.0, rest > 0.0)
    }

    #[inline(always)]
    fn flush(a: u16) -> u16 {
        a
    }
}

/// Turns a sum rounded to nearest into the sum rounded to odd, given on which side of it the exact sum lies.
#[inline(always)]
fn nudge_to_odd(nearest: f32, exact_is_below: bool, exact_is_above: bool) -> f32 {
    let bits = nearest.to_bits();
    let inexact_even = bits & 1 == 0 && nearest.is_finite() && (exact_is_below || exact_is_above);
    let outwards = exact_is_below == (bits >> 31 != 0);
    f32::from_bits(bits.wrapping_add_signed(if !inexact_even {
        0
    } else if outwards {
        1
    } else {
        -1
    }))
}

#[inline(always)]
fn operand<H: Half>(a: u16, mode: HalfMode) -> f32 {
    H::widen(if mode.ftz { H::flush(a) } else { a })
}

#[inline(always)]
fn finish<H: Half>(wide: f32, mode: HalfMode) -> u16 {
    let a = H::narrow(wide);
    let a = if mode.ftz { H::flush(a) } else { a };
    let nan = a & !SIGN > H::INFINITY;
    if mode.sat {
        return if nan || a & SIGN != 0 {
            0
        } else {
            a.min(H::ONE)
        };
    }
    if mode.relu && !nan && a & SIGN != 0 {
        0
    } else {
        a
    }
}

#[inline(always)]
fn add<H: Half>(a: u16, b: u16, mode: HalfMode) -> u16 {
    finish::<H>(operand::<H>(a, mode) + operand::<H>(b, mode), mode)
}

#[inline(always)]
fn mul<H: Half>(a: u16, b: u16, mode: HalfMode) -> u16 {
    finish::<H>(operand::<H>(a, mode) * operand::<H>(b, mode), mode)
}

#[inline(always)]
fn fma<H: Half>(a: u16, b: u16, c: u16, mode: HalfMode) -> u16 {
    finish::<H>(
        H::fma_to_odd(
            operand::<H>(a, mode),
            operand::<H>(b, mode),
            operand::<H>(c, mode),
        ),
        mode,
    )
}

#[inline(always)]
fn neg<H: Half>(a: u16, ftz: bool) -> u16 {
    canonical::<H>(if ftz { H::flush(a) } else { a } ^ SIGN)
}

#[inline(always)]
fn abs<H: Half>(a: u16, ftz: bool) -> u16 {
    canonical::<H>(if ftz { H::flush(a) } else { a } & !SIGN)
}

#[inline(always)]
fn canonical<H: Half>(a: u16) -> u16 {
    if a & !SIGN > H::INFINITY { NAN_HALF } else { a }
}

/// An integer that orders like the number it comes from, −0 just below +0. Not for NaN.
#[inline(always)]
fn ordered(a: u16) -> i16 {
    let a = a as i16;
    a ^ (((a >> 15) as u16) >> 1) as i16
}

#[inline(always)]
fn min_max<H: Half>(a: u16, b: u16, how: MinMax, larger: bool) -> u16 {
    let (mut a, mut b) = if how.ftz {
        (H::flush(a), H::flush(b))
    } else {
        (a, b)
    };
    let sign = if how.xorsign_abs { (a ^ b) & SIGN } else { 0 };
    if how.xorsign_abs {
        (a, b) = (a & !SIGN, b & !SIGN);
    }
    let chosen = if (ordered(a) > ordered(b)) == larger {
        a
    } else {
        b
    };
    let (a_nan, b_nan) = (a & !SIGN > H::INFINITY, b & !SIGN > H::INFINITY);
    let chosen = if a_nan {
        b
    } else if b_nan {
        a
    } else {
        chosen
    };
    if (a_nan && b_nan) || (how.nan && (a_nan || b_nan)) {
        NAN_HALF
    } else {
        chosen | sign
    }
}

/// Applies a function to both halves of packed operands.
#[inline(always)]
pub fn both_halves<const N: usize>(operands: [u32; N], f: impl Fn([u16; N]) -> u16) -> u32 {
    let low = f(operands.map(|x| x as u16));
    let high = f(operands.map(|x| (x >> 16) as u16));
    u32::from(high) << 16 | u32::from(low)
}

macro_rules! half_instructions {
    ($format:ident, $name:literal, $add:ident, $sub:ident, $mul:ident, $fma:ident, $neg:ident, $abs:ident, $min:ident, $max:ident) => {
        #[doc = concat!("`add{.rn}{.ftz}{.sat}.", $name, "`.")]
        #[inline(always)]
        pub fn $add(a: u16, b: u16, mode: HalfMode) -> u16 {
            add::<$format>(a, b, mode)
        }

        #[doc = concat!("`sub{.rn}{.ftz}{.sat}.", $name, "`.")]
        #[inline(always)]
        pub fn $sub(a: u16, b: u16, mode: HalfMode) -> u16 {
            add::<$format>(a, b ^ SIGN, mode)
        }

        #[doc = concat!("`mul{.rn}{.ftz}{.sat}.", $name, "`.")]
        #[inline(always)]
        pub fn $mul(a: u16, b: u16, mode: HalfMode) -> u16 {
            mul::<$format>(a, b, mode)
        }

        #[doc = concat!("`fma.rn{.ftz}{.sat}{.relu}.", $name, "`: a·b + c rounded once.")]
        #[inline(always)]
        pub fn $fma(a: u16, b: u16, c: u16, mode: HalfMode) -> u16 {
            fma::<$format>(a, b, c, mode)
        }

        #[doc = concat!("`neg{.ftz}.", $name, "`; NaN becomes canonical.")]
        #[inline(always)]
        pub fn $neg(a: u16, ftz: bool) -> u16 {
            neg::<$format>(a, ftz)
        }

        #[doc = concat!("`abs{.ftz}.", $name, "`; NaN becomes canonical.")]
        #[inline(always)]
        pub fn $abs(a: u16, ftz: bool) -> u16 {
            abs::<$format>(a, ftz)
        }

        #[doc = concat!("`min{.ftz}{.NaN}{.xorsign.abs}.", $name, "`; −0 is less than +0.")]
        #[inline(always)]
        pub fn $min(a: u16, b: u16, how: MinMax) -> u16 {
            min_max::<$format>(a, b, how, false)
        }

        #[doc = concat!("`max{.ftz}{.NaN}{.xorsign.abs}.", $name, "`; −0 is less than +0.")]
        #[inline(always)]
        pub fn $max(a: u16, b: u16, how: MinMax) -> u16 {
            min_max::<$format>(a, b, how, true)
        }
    };
}

half_instructions!(
    F16, "f16", add_f16, sub_f16, mul_f16, fma_f16, neg_f16, abs_f16, min_f16, max_f16
);
half_instructions!(
    Bf16, "bf16", add_bf16, sub_bf16, mul_bf16, fma_bf16, neg_bf16, abs_bf16, min_bf16, max_bf16
);

macro_rules! packed_instructions {
    ($($name:literal: $packed:ident($($operand:ident),+; $mode:ident: $type:ty) = $scalar:ident;)*) => {$(
        #[doc = concat!("`", $name, "`: [`", stringify!($scalar), "`] on both halves.")]
        #[inline(always)]
        pub fn $packed($($operand: u32,)+ $mode: $type) -> u32 {
            both_halves([$($operand),+], |[$($operand),+]| $scalar($($operand,)+ $mode))
        }
    )*};
}

packed_instructions! {
    "add.f16x2": add_f16x2(a, b; mode: HalfMode) = add_f16;
    "sub.f16x2": sub_f16x2(a, b; mode: HalfMode) = sub_f16;
    "mul.f16x2": mul_f16x2(a, b; mode: HalfMode) = mul_f16;
    "fma.rn.f16x2": fma_f16x2(a, b, c; mode: HalfMode) = fma_f16;
    "neg.f16x2": neg_f16x2(a; ftz: bool) = neg_f16;
    "abs.f16x2": abs_f16x2(a; ftz: bool) = abs_f16;
    "min.f16x2": min_f16x2(a, b; how: MinMax) = min_f16;
    "max.f16x2": max_f16x2(a, b; how: MinMax) = max_f16;
    "add.bf16x2": add_bf16x2(a, b; mode: HalfMode) = add_bf16;
    "sub.bf16x2": sub_bf16x2(a, b; mode: HalfMode) = sub_bf16;
    "mul.bf16x2": mul_bf16x2(a, b; mode: HalfMode) = mul_bf16;
    "fma.rn.bf16x2": fma_bf16x2(a, b, c; mode: HalfMode) = fma_bf16;
    "neg.bf16x2": neg_bf16x2(a; ftz: bool) = neg_bf16;
    "abs.bf16x2": abs_bf16x2(a; ftz: bool) = abs_bf16;
    "min.bf16x2": min_bf16x2(a, b; how: MinMax) = min_bf16;
    "max.bf16x2": max_bf16x2(a, b; how: MinMax) = max_bf16;
}
