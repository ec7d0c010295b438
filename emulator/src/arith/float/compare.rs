//! Comparisons of `set` and `setp`, and the classes of `testp`.

use super::convert::{bf16_to_f32, f16_to_f32};
use super::double::is_nan_f64;
use super::single::{flush_f32, is_nan_f32};

/// A comparison of two floating-point operands. The ones with a `u` are true when an operand is NaN, the others false.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FloatCmp {
    /// `.eq`
    Eq,
    /// `.ne`: ordered and different.
    Ne,
    /// `.lt`
    Lt,
    /// `.le`
    Le,
    /// `.gt`
    Gt,
    /// `.ge`
    Ge,
    /// `.equ`
    Equ,
    /// `.neu`
    Neu,
    /// `.ltu`
    Ltu,
    /// `.leu`
    Leu,
    /// `.gtu`
    Gtu,
    /// `.geu`
    Geu,
    /// `.num`: neither operand is NaN.
    Num,
    /// `.nan`: at least one operand is NaN.
    Nan,
}

#[inline(always)]
fn compare<T: PartialOrd>(op: FloatCmp, a: T, b: T, unordered: bool) -> bool {
    match op {
        FloatCmp::Eq => a == b,
        FloatCmp::Ne => !unordered && a != b,
        FloatCmp::Lt => a < b,
        FloatCmp::Le => a <= b,
        FloatCmp::Gt => a > b,
        FloatCmp::Ge => a >= b,
        FloatCmp::Equ => unordered || a == b,
        FloatCmp::Neu => unordered || a != b,
        FloatCmp::Ltu => unordered || a < b,
        FloatCmp::Leu => unordered || a <= b,
        FloatCmp::Gtu => unordered || a > b,
        FloatCmp::Geu => unordered || a >= b,
        FloatCmp::Num => !unordered,
        FloatCmp::Nan => unordered,
    }
}

/// Compares two f32 bit patterns; `ftz` treats subnormals as zeros.
#[inline(always)]
pub fn compare_f32(op: FloatCmp, a: u32, b: u32, ftz: bool) -> bool {
    let (a, b) = if ftz {
        (flush_f32(a), flush_f32(b))
    } else {
        (a, b)
    };
    compare(
        op,
        f32::from_bits(a),
        f32::from_bits(b),
        is_nan_f32(a) || is_nan_f32(b),
    )
}

/// Compares two f64 bit patterns.
#[inline(always)]
pub fn compare_f64(op: FloatCmp, a: u64, b: u64) -> bool {
    compare(
        op,
        f64::from_bits(a),
        f64::from_bits(b),
        is_nan_f64(a) || is_nan_f64(b),
    )
}

/// Compares two f16 bit patterns; `ftz` treats subnormals as zeros.
#[inline(always)]
pub fn compare_f16(op: FloatCmp, a: u16, b: u16, ftz: bool) -> bool {
    let flush = |x: u16| if ftz { super::half::flush_f16(x) } else { x };
    compare_f32(op, f16_to_f32(flush(a)), f16_to_f32(flush(b)), false)
}

/// Compares two bf16 bit patterns.
#[inline(always)]
pub fn compare_bf16(op: FloatCmp, a: u16, b: u16) -> bool {
    compare_f32(op, bf16_to_f32(a), bf16_to_f32(b), false)
}

/// A class of floating-point numbers that `testp` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FloatClass {
    /// Neither infinite nor NaN.
    Finite,
    /// ±∞.
    Infinite,
    /// Not NaN.
    Number,
    /// NaN.
    NotANumber,
    /// Neither zero, subnormal, infinite nor NaN.
    Normal,
    /// Subnormal. Zero is not.
    Subnormal,
}

fn is_class(class: FloatClass, category: std::num::FpCategory) -> bool {
    use std::num::FpCategory;
    match class {
        FloatClass::Finite => !matches!(category, FpCategory::Nan | FpCategory::Infinite),
        FloatClass::Infinite => category == FpCategory::Infinite,
        FloatClass::Number => category != FpCategory::Nan,
        FloatClass::NotANumber => category == FpCategory::Nan,
        // The ISA counts zero as normal: "testp.normal … zero is considered normal".
        FloatClass::Normal => matches!(category, FpCategory::Normal | FpCategory::Zero),
        FloatClass::Subnormal => category == FpCategory::Subnormal,
    }
}

/// `testp.class.f32`.
pub fn testp_f32(class: FloatClass, a: u32) -> bool {
    is_class(class, f32::from_bits(a).classify())
}

/// `testp.class.f64`.
pub fn testp_f64(class: FloatClass, a: u64) -> bool {
    is_class(class, f64::from_bits(a).classify())
}
