//! Single precision: arithmetic, minimum and maximum, saturation and flushing, on `u32` bit patterns.

use super::modifiers::{MinMax, Mode, Round};
use super::soft::{self, Format, Value};

/// The NaN that every f32 instruction gives as its result.
pub const NAN_F32: u32 = 0x7fff_ffff;

const SIGN: u32 = 0x8000_0000;
const INFINITY: u32 = 0x7f80_0000;
const MIN_NORMAL: u32 = 0x0080_0000;
const ONE: u32 = 0x3f80_0000;

/// Whether the bits are a NaN.
#[inline(always)]
pub fn is_nan_f32(a: u32) -> bool {
    a & !SIGN > INFINITY
}

/// A subnormal becomes the zero of its sign, everything else stays: `.ftz`.
#[inline(always)]
pub fn flush_f32(a: u32) -> u32 {
    if a & INFINITY == 0 { a & SIGN } else { a }
}

/// Every NaN becomes the canonical one.
#[inline(always)]
pub fn canonical_f32(a: u32) -> u32 {
    if is_nan_f32(a) { NAN_F32 } else { a }
}

/// Clamped to [0, 1]; NaN and −0 become +0: `.sat`.
#[inline(always)]
pub fn saturate_f32(a: u32) -> u32 {
    if is_nan_f32(a) || a & SIGN != 0 {
        0
    } else {
        a.min(ONE)
    }
}

/// An operand as the instruction sees it.
#[inline(always)]
fn operand(a: u32, mode: Mode) -> u32 {
    if mode.ftz { flush_f32(a) } else { a }
}

/// A rounded result with its NaN made canonical, flushed and saturated as the mode says.
#[inline(always)]
fn finish(a: u32, mode: Mode) -> u32 {
    let a = canonical_f32(a);
    let a = if mode.ftz { flush_f32(a) } else { a };
    if mode.sat { saturate_f32(a) } else { a }
}

#[inline(always)]
fn value(a: u32) -> Value {
    soft::unpack(Format::F32, u64::from(a))
}

#[cold]
fn rounded(x: Value, mode: Mode) -> u32 {
    soft::round(Format::F32, x, mode.round) as u32
}

/// `add{.rnd}{.ftz}{.sat}.f32`.
#[inline(always)]
pub fn add_f32(a: u32, b: u32, mode: Mode) -> u32 {
    let (a, b) = (operand(a, mode), operand(b, mode));
    let sum = match mode.round {
        Round::Nearest => (f32::from_bits(a) + f32::from_bits(b)).to_bits(),
        _ => rounded(soft::add(value(a), value(b), mode.round), mode),
    };
    finish(sum, mode)
}

/// `sub{.rnd}{.ftz}{.sat}.f32`.
#[inline(always)]
pub fn sub_f32(a: u32, b: u32, mode: Mode) -> u32 {
    add_f32(a, b ^ SIGN, mode)
}

/// `mul{.rnd}{.ftz}{.sat}.f32`.
#[inline(always)]
pub fn mul_f32(a: u32, b: u32, mode: Mode) -> u32 {
    let (a, b) = (operand(a, mode), operand(b, mode));
    let product = match mode.round {
        Round::Nearest => (f32::from_bits(a) * f32::from_bits(b)).to_bits(),
        _ => rounded(soft::mul(value(a), value(b)), mode),
    };
    finish(product, mode)
}

/// `fma.rnd{.ftz}{.sat}.f32`, and `mad` of every target from sm_20 on: a·b + c rounded once.
#[inline(always)]
pub fn fma_f32(a: u32, b: u32, c: u32, mode: Mode) -> u32 {
    let (a, b, c) = (operand(a, mode), operand(b, mode), operand(c, mode));
    let sum = match mode.round {
        Round::Nearest => f32::from_bits(a)
            .mul_add(f32::from_bits(b), f32::from_bits(c))
            .to_bits(),
        _ => rounded(
            soft::add(soft::mul(value(a), value(b)), value(c), mode.round),
            mode,
        ),
    };
    finish(sum, mode)
}

/// `div.rnd{.ftz}.f32`.
#[inline(always)]
pub fn div_f32(a: u32, b: u32, mode: Mode) -> u32 {
    let (a, b) = (operand(a, mode), operand(b, mode));
    let quotient = match mode.round {
        Round::Nearest => (f32::from_bits(a) / f32::from_bits(b)).to_bits(),
        _ => rounded(soft::div(value(a), value(b)), mode),
    };
    finish(quotient, mode)
}

/// `rcp.rnd{.ftz}.f32`.
#[inline(always)]
pub fn rcp_f32(a: u32, mode: Mode) -> u32 {
    div_f32(ONE, a, mode)
}

/// `sqrt.rnd{.ftz}.f32`.
#[inline(always)]
pub fn sqrt_f32(a: u32, mode: Mode) -> u32 {
    let a = operand(a, mode);
    let root = match mode.round {
        Round::Nearest => f32::from_bits(a).sqrt().to_bits(),
        _ => rounded(soft::sqrt(value(a)), mode),
    };
    finish(root, mode)
}

/// `neg{.ftz}.f32`: the sign flipped; NaN becomes canonical.
#[inline(always)]
pub fn neg_f32(a: u32, ftz: bool) -> u32 {
    finish(a ^ SIGN, Mode { ftz, ..Mode::RN })
}

/// `abs{.ftz}.f32`: the sign cleared; NaN becomes canonical.
#[inline(always)]
pub fn abs_f32(a: u32, ftz: bool) -> u32 {
    finish(a & !SIGN, Mode { ftz, ..Mode::RN })
}

/// `copysign.f32 d, a, b`: the magnitude of `b` with the sign of `a`, bit for bit.
#[inline(always)]
pub fn copysign_f32(a: u32, b: u32) -> u32 {
    (a & SIGN) | (b & !SIGN)
}

/// An integer that orders like the float it comes from, −0 just below +0. Not for NaN.
#[inline(always)]
fn ordered(a: u32) -> i32 {
    let a = a as i32;
    a ^ (((a >> 31) as u32) >> 1) as i32
}

#[inline(always)]
fn min_max_f32(a: u32, b: u32, how: MinMax, larger: bool) -> u32 {
    let (mut a, mut b) = if how.ftz {
        (flush_f32(a), flush_f32(b))
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
    let (a_nan, b_nan) = (is_nan_f32(a), is_nan_f32(b));
    let chosen = if a_nan {
        b
    } else if b_nan {
        a
    } else {
        chosen
    };
    if (a_nan && b_nan) || (how.nan && (a_nan || b_nan)) {
        NAN_F32
    } else {
        chosen | sign
    }
}

/// `min{.ftz}{.NaN}{.xorsign.abs}.f32`; −0 is less than +0.
#[inline(always)]
pub fn min_f32(a: u32, b: u32, how: MinMax) -> u32 {
    min_max_f32(a, b, how, false)
}

/// `max{.ftz}{.NaN}{.xorsign.abs}.f32`; −0 is less than +0.
#[inline(always)]
pub fn max_f32(a: u32, b: u32, how: MinMax) -> u32 {
    min_max_f32(a, b, how, true)
}

/// Whether the bits are a subnormal number (`testp.subnormal`).
#[inline(always)]
pub fn is_subnormal_f32(a: u32) -> bool {
    (1..MIN_NORMAL).contains(&(a & !SIGN))
}
