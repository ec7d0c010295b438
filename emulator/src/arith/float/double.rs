//! Double precision: arithmetic, minimum and maximum, on `u64` bit patterns.

use super::modifiers::Round;
use super::soft::{self, Format, Value};

/// The NaN that an f64 instruction gives when no operand is NaN.
pub const NAN_F64: u64 = 0x7fff_ffff_ffff_ffff;

const SIGN: u64 = 1 << 63;
const INFINITY: u64 = 0x7ff0_0000_0000_0000;
const QUIET: u64 = 0x0008_0000_0000_0000;
const ONE: u64 = 0x3ff0_0000_0000_0000;

/// Whether the bits are a NaN.
#[inline(always)]
pub fn is_nan_f64(a: u64) -> bool {
    a & !SIGN > INFINITY
}

/// The result for NaN: the first NaN operand, quieted; the canonical NaN if the operation itself made it.
#[inline(always)]
fn finish(result: u64, operands: &[u64]) -> u64 {
    if !is_nan_f64(result) {
        return result;
    }
    operands
        .iter()
        .copied()
        .find(|&x| is_nan_f64(x))
        .map_or(NAN_F64, |x| x | QUIET)
}

#[inline(always)]
fn value(a: u64) -> Value {
    soft::unpack(Format::F64, a)
}

#[cold]
fn rounded(x: Value, round: Round) -> u64 {
    soft::round(Format::F64, x, round)
}

/// `add{.rnd}.f64`.
#[inline(always)]
pub fn add_f64(a: u64, b: u64, round: Round) -> u64 {
    let sum = match round {
        Round::Nearest => (f64::from_bits(a) + f64::from_bits(b)).to_bits(),
        _ => rounded(soft::add(value(a), value(b), round), round),
    };
    finish(sum, &[a, b])
}

/// `sub{.rnd}.f64`.
#[inline(always)]
pub fn sub_f64(a: u64, b: u64, round: Round) -> u64 {
    let difference = match round {
        Round::Nearest => (f64::from_bits(a) - f64::from_bits(b)).to_bits(),
        _ => rounded(soft::add(value(a), soft::negate(value(b)), round), round),
    };
    finish(difference, &[a, b])
}

/// `mul{.rnd}.f64`.
#[inline(always)]
pub fn mul_f64(a: u64, b: u64, round: Round) -> u64 {
    let product = match round {
        Round::Nearest => (f64::from_bits(a) * f64::from_bits(b)).to_bits(),
        _ => rounded(soft::mul(value(a), value(b)), round),
    };
    finish(product, &[a, b])
}

/// `fma.rnd.f64` and `mad.rnd.f64`: a·b + c rounded once.
#[inline(always)]
pub fn fma_f64(a: u64, b: u64, c: u64, round: Round) -> u64 {
    let sum = match round {
        Round::Nearest => f64::from_bits(a)
            .mul_add(f64::from_bits(b), f64::from_bits(c))
            .to_bits(),
        _ => rounded(
            soft::add(soft::mul(value(a), value(b)), value(c), round),
            round,
        ),
    };
    finish(sum, &[a, b, c])
}

/// `div.rnd.f64`.
#[inline(always)]
pub fn div_f64(a: u64, b: u64, round: Round) -> u64 {
    let quotient = match round {
        Round::Nearest => (f64::from_bits(a) / f64::from_bits(b)).to_bits(),
        _ => rounded(soft::div(value(a), value(b)), round),
    };
    finish(quotient, &[a, b])
}

/// `rcp.rnd.f64`.
#[inline(always)]
pub fn rcp_f64(a: u64, round: Round) -> u64 {
    div_f64(ONE, a, round)
}

/// `sqrt.rnd.f64`.
#[inline(always)]
pub fn sqrt_f64(a: u64, round: Round) -> u64 {
    let root = match round {
        Round::Nearest => f64::from_bits(a).sqrt().to_bits(),
        _ => rounded(soft::sqrt(value(a)), round),
    };
    finish(root, &[a])
}

/// `neg.f64`: the sign flipped.
#[inline(always)]
pub fn neg_f64(a: u64) -> u64 {
    a ^ SIGN
}

/// `abs.f64`: the sign cleared.
#[inline(always)]
pub fn abs_f64(a: u64) -> u64 {
    a & !SIGN
}

/// `copysign.f64 d, a, b`: the magnitude of `b` with the sign of `a`, bit for bit.
#[inline(always)]
pub fn copysign_f64(a: u64, b: u64) -> u64 {
    (a & SIGN) | (b & !SIGN)
}

/// An integer that orders like the float it comes from, −0 just below +0. Not for NaN.
#[inline(always)]
fn ordered(a: u64) -> i64 {
    let a = a as i64;
    a ^ (((a >> 63) as u64) >> 1) as i64
}

#[inline(always)]
fn min_max_f64(a: u64, b: u64, larger: bool) -> u64 {
    match (is_nan_f64(a), is_nan_f64(b)) {
        (true, true) => NAN_F64,
        (true, false) => b,
        (false, true) => a,
        (false, false) => {
            if (ordered(a) > ordered(b)) == larger {
                a
            } else {
                b
            }
        }
    }
}

/// `min.f64`: the other operand if one is NaN; −0 is less than +0.
#[inline(always)]
pub fn min_f64(a: u64, b: u64) -> u64 {
    min_max_f64(a, b, false)
}

/// `max.f64`: the other operand if one is NaN; −0 is less than +0.
#[inline(always)]
pub fn max_f64(a: u64, b: u64) -> u64 {
    min_max_f64(a, b, true)
}

/// Clamped to [0, 1]; NaN and −0 become +0: `cvt.sat.f64.f64`.
#[inline(always)]
pub fn saturate_f64(a: u64) -> u64 {
    if is_nan_f64(a) || a & SIGN != 0 {
        0
    } else {
        a.min(ONE)
    }
}
