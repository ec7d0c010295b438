//! `cvt` in all pairs of types, `cvt.pack`, and the packed conversions to f16x2 and bf16x2.

use super::double::{is_nan_f64, saturate_f64};
use super::modifiers::{Mode, Round};
use super::single::{NAN_F32, flush_f32, saturate_f32};
use super::soft::{self, Format, Integral};

/// The NaN that every f16 and bf16 instruction gives as its result.
pub const NAN_HALF: u16 = 0x7fff;

/// A floating-point register type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FloatType {
    /// `.f16`, 16 bits.
    F16,
    /// `.bf16`, 16 bits.
    Bf16,
    /// `.f32`.
    F32,
    /// `.f64`.
    F64,
}

impl FloatType {
    /// The bit layout.
    pub const fn format(self) -> Format {
        match self {
            FloatType::F16 => Format::F16,
            FloatType::Bf16 => Format::BF16,
            FloatType::F32 => Format::F32,
            FloatType::F64 => Format::F64,
        }
    }
}

/// An integer register type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IntType {
    /// 8, 16, 32 or 64.
    pub bits: u32,
    /// Two's complement if true.
    pub signed: bool,
}

impl IntType {
    /// `.u8`
    pub const U8: IntType = IntType {
        bits: 8,
        signed: false,
    };
    /// `.s8`
    pub const S8: IntType = IntType {
        bits: 8,
        signed: true,
    };
    /// `.u16`
    pub const U16: IntType = IntType {
        bits: 16,
        signed: false,
    };
    /// `.s16`
    pub const S16: IntType = IntType {
        bits: 16,
        signed: true,
    };
    /// `.u32`
    pub const U32: IntType = IntType {
        bits: 32,
        signed: false,
    };
    /// `.s32`
    pub const S32: IntType = IntType {
        bits: 32,
        signed: true,
    };
    /// `.u64`
    pub const U64: IntType = IntType {
        bits: 64,
        signed: false,
    };
    /// `.s64`
    pub const S64: IntType = IntType {
        bits: 64,
        signed: true,
    };

    /// The least and the largest value.
    pub const fn range(self) -> (i128, i128) {
        if self.signed {
            (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1)
        } else {
            (0, (1 << self.bits) - 1)
        }
    }

    /// The low `bits` of a register, zero- or sign-extended to 64 bits.
    #[inline(always)]
    pub const fn extend(self, register: u64) -> u64 {
        let unused = 64 - self.bits;
        if self.signed {
            ((register << unused) as i64 >> unused) as u64
        } else {
            register << unused >> unused
        }
    }

    /// The integer in the low `bits` of a register.
    #[inline(always)]
    pub const fn value(self, register: u64) -> i128 {
        if self.signed {
            self.extend(register) as i64 as i128
        } else {
            self.extend(register) as i128
        }
    }
}

/// The modifiers of a conversion to a floating-point type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Convert {
    /// Rounding direction; what widens or keeps the value ignores it.
    pub round: Round,
    /// `.ftz`: an f32 source or destination is flushed.
    pub ftz: bool,
    /// `.sat`: clamped to [0, 1], NaN to +0.
    pub sat: bool,
    /// `.relu`: a negative result becomes +0, NaN the canonical NaN.
    pub relu: bool,
    /// `.satfinite`: an overflow gives the largest finite value; NaN stays NaN.
    pub satfinite: bool,
}

/// f16 to f32: exact.
#[inline(always)]
pub fn f16_to_f32(a: u16) -> u32 {
    let magnitude = u32::from(a & 0x7fff) << 13;
    let sign = u32::from(a & 0x8000) << 16;
    // 2^112 moves the exponent from f16's bias to f32's and normalises subnormals on the way.
    let scaled = (f32::from_bits(magnitude) * f32::from_bits(0x7780_0000)).to_bits();
    let special = if a & 0x03ff != 0 {
        NAN_F32
    } else {
        0x7f80_0000 | sign
    };
    if magnitude >= 0x7c00 << 13 {
        special
    } else {
        scaled | sign
    }
}

/// bf16 to f32: exact; NaN becomes canonical.
#[inline(always)]
pub fn bf16_to_f32(a: u16) -> u32 {
    super::single::canonical_f32(u32::from(a) << 16)
}

/// f32 to f16, to nearest even.
#[inline(always)]
pub fn f32_to_f16_nearest(a: u32) -> u16 {
    let magnitude = a & 0x7fff_ffff;
    let sign = (a >> 16) as u16 & 0x8000;
    // Adding ½ aligns a subnormal result's last place, 2^-24, with that of the sum, which the addition then rounds.
    let subnormal = (f32::from_bits(magnitude) + 0.5)
        .to_bits()
        .wrapping_sub(0x3f00_0000);
    let even = (magnitude >> 13) & 1;
    let normal = magnitude.wrapping_add(0xfff + even).wrapping_sub(112 << 23) >> 13;
    let finite = if magnitude < 0x3880_0000 {
        subnormal
    } else {
        normal
    };
    let clamped = if magnitude >= 0x477f_f000 {
        0x7c00
    } else {
        finite
    };
    if magnitude > 0x7f80_0000 {
        NAN_HALF
    } else {
        clamped as u16 | sign
    }
}

/// f32 to bf16, to nearest even.
#[inline(always)]
pub fn f32_to_bf16_nearest(a: u32) -> u16 {
    let rounded = (a.wrapping_add(0x7fff + ((a >> 16) & 1)) >> 16) as u16;
    if super::single::is_nan_f32(a) {
        NAN_HALF
    } else {
        rounded
    }
}

/// f32 to f16 in any direction.
#[inline]
pub fn f32_to_f16(a: u32, round: Round) -> u16 {
    match round {
        Round::Nearest => f32_to_f16_nearest(a),
        _ => soft::round(Format::F16, soft::unpack(Format::F32, u64::from(a)), round) as u16,
    }
}

/// f32 to bf16 in any direction.
#[inline]
pub fn f32_to_bf16(a: u32, round: Round) -> u16 {
    match round {
        Round::Nearest => f32_to_bf16_nearest(a),
        _ => soft::round(Format::BF16, soft::unpack(Format::F32, u64::from(a)), round) as u16,
    }
}

/// f32 to tf32: 10 stored significand bits in the upper 19 bits of the register, the lower 13 zero. PTX has `.rna` on
/// sm_80, and `.rn` and `.rz` later. NaN gives `0x7fffffff`.
#[inline]
pub fn f32_to_tf32(a: u32, how: Convert) -> u32 {
    let value = soft::unpack(
        Format::F32,
        u64::from(if how.ftz { flush_f32(a) } else { a }),
    );
    if value == soft::Value::Nan {
        return NAN_F32;
    }
    (finish_narrow(
        Format::TF32,
        soft::round(Format::TF32, value, how.round),
        value,
        how,
    ) as u32)
        << 13
}

/// Applies `.satfinite` and `.relu` to a rounded result.
#[inline(always)]
fn finish_narrow(format: Format, bits: u64, value: soft::Value, how: Convert) -> u64 {
    let sign = 1 << (format.width() - 1);
    let magnitude = bits & (sign - 1);
    if value == soft::Value::Nan {
        return format.canonical_nan();
    }
    if how.relu && bits & sign != 0 {
        return 0;
    }
    if how.satfinite && magnitude == format.infinity() {
        bits & sign | format.max_finite()
    } else {
        bits
    }
}

/// `cvt` between floating-point types, without rounding to an integer. Equal types keep the value but for `.ftz`,
/// `.sat` and canonical NaNs. A widened f64 NaN keeps its payload.
#[inline]
pub fn cvt_float_to_float(from: FloatType, to: FloatType, bits: u64, how: Convert) -> u64 {
    let bits = if from == FloatType::F32 && how.ftz {
        u64::from(flush_f32(bits as u32))
    } else {
        bits
    };
    let result = match (from, to) {
        (FloatType::F16, FloatType::F32) => u64::from(f16_to_f32(bits as u16)),
        (FloatType::Bf16, FloatType::F32) => u64::from(bf16_to_f32(bits as u16)),
        (FloatType::F32, FloatType::F64) => widen_f32(bits as u32),
        (FloatType::F64, FloatType::F64) => bits,
        (FloatType::F32, FloatType::F16) if how.round == Round::Nearest && !how.satfinite => {
            u64::from(f32_to_f16_nearest(bits as u32))
        }
        (FloatType::F32, FloatType::Bf16) if how.round == Round::Nearest && !how.satfinite => {
            u64::from(f32_to_bf16_nearest(bits as u32))
        }
        _ => {
            let value = soft::unpack(from.format(), bits);
            finish_narrow(
                to.format(),
                soft::round(to.format(), value, how.round),
                value,
                how,
            )
        }
    };
    finish_cvt(to, result, how)
}

/// Flushes, saturates and clips a converted number as the modifiers say.
#[inline(always)]
fn finish_cvt(to: FloatType, bits: u64, how: Convert) -> u64 {
    let bits = if how.ftz && to == FloatType::F32 {
        u64::from(flush_f32(bits as u32))
    } else {
        bits
    };
    let format = to.format();
    let negative = bits >> (format.width() - 1) != 0;
    let nan = bits & !(1 << (format.width() - 1)) > format.infinity();
    if how.relu && negative && !nan {
        return 0;
    }
    if !how.sat {
        return bits;
    }
    match to {
        FloatType::F32 => u64::from(saturate_f32(bits as u32)),
        FloatType::F64 => saturate_f64(bits),
        FloatType::F16 => {
            if nan || negative {
                0
            } else {
                bits.min(0x3c00)
            }
        }
        FloatType::Bf16 => {
            if nan || negative {
                0
            } else {
                bits.min(0x3f80)
            }
        }
    }
}

/// f32 to f64: exact. A NaN is quieted and keeps its payload.
#[inline(always)]
fn widen_f32(a: u32) -> u64 {
    if super::single::is_nan_f32(a) {
        let payload = u64::from(a & 0x007f_ffff) << 29;
        return u64::from(a >> 31) << 63 | 0x7ff8_0000_0000_0000 | payload;
    }
    f64::from(f32::from_bits(a)).to_bits()
}

/// `cvt.{rni,rzi,rmi,rpi}` between equal floating-point types: rounded to an integer that stays in floating point.
/// The sign of zero results is the operand's.
#[inline]
pub fn cvt_round_to_integral(ty: FloatType, bits: u64, how: Convert) -> u64 {
    let result = match ty {
        FloatType::F32 => {
            let a = f32::from_bits(if how.ftz {
                flush_f32(bits as u32)
            } else {
                bits as u32
            });
            let rounded = match how.round {
                Round::Nearest => a.round_ties_even(),
                Round::NearestAway => a.round(),
                Round::Zero => a.trunc(),
                Round::NegInf => a.floor(),
                Round::PosInf => a.ceil(),
            };
            u64::from(super::single::canonical_f32(rounded.to_bits()))
        }
        FloatType::F64 => {
            let a = f64::from_bits(bits);
            if is_nan_f64(bits) {
                return finish_cvt(ty, bits | 0x0008_0000_0000_0000, how);
            }
            match how.round {
                Round::Nearest => a.round_ties_even(),
                Round::NearestAway => a.round(),
                Round::Zero => a.trunc(),
                Round::NegInf => a.floor(),
                Round::PosInf => a.ceil(),
            }
            .to_bits()
        }
        FloatType::F16 | FloatType::Bf16 => {
            // Exact in f32, and the rounded integer is a number of the narrow format again.
            let wide = cvt_float_to_float(ty, FloatType::F32, bits, Convert::default());
            let whole = cvt_round_to_integral(
                FloatType::F32,
                wide,
                Convert {
                    round: how.round,
                    ..Convert::default()
                },
            );
            cvt_float_to_float(FloatType::F32, ty, whole, Convert::default())
        }
    };
    finish_cvt(ty, result, how)
}

/// `cvt` from floating point to an integer: rounded, then clamped to the type's range. NaN gives 0, but with an f64
/// source or a 64-bit destination the destination's sign bit alone (PTX ISA, "cvt"). The result is extended to 64 bits.
#[inline]
pub fn cvt_float_to_int(from: FloatType, to: IntType, bits: u64, round: Round, ftz: bool) -> u64 {
    let bits = if from == FloatType::F32 && ftz {
        u64::from(flush_f32(bits as u32))
    } else {
        bits
    };
    if from == FloatType::F32 && to == IntType::S32 && round == Round::Zero {
        return f32::from_bits(bits as u32) as i32 as i64 as u64;
    }
    match soft::round_to_integer(soft::unpack(from.format(), bits), round) {
        Integral::Nan if from == FloatType::F64 || to.bits == 64 => to.extend(1 << (to.bits - 1)),
        Integral::Nan => 0,
        Integral::Integer(integer) => {
            let (least, largest) = to.range();
            integer.clamp(least, largest) as u64
        }
    }
}

/// `cvt` from an integer (the low bits of `register`) to floating point.
#[inline]
pub fn cvt_int_to_float(from: IntType, to: FloatType, register: u64, mode: Mode) -> u64 {
    let nearest = mode.round == Round::Nearest;
    let bits = match to {
        FloatType::F32 if nearest && from.signed => {
            u64::from((from.extend(register) as i64 as f32).to_bits())
        }
        FloatType::F32 if nearest => u64::from((from.extend(register) as f32).to_bits()),
        _ => soft::round(
            to.format(),
            soft::from_integer(from.value(register)),
            mode.round,
        ),
    };
    finish_cvt(
        to,
        bits,
        Convert {
            sat: mode.sat,
            ..Convert::default()
        },
    )
}

/// `cvt` between integers: the low bits, or clamped to the destination's range with `.sat`. The result is extended to 64 bits.
#[inline(always)]
pub fn cvt_int_to_int(from: IntType, to: IntType, register: u64, sat: bool) -> u64 {
    if sat {
        let (least, largest) = to.range();
        from.value(register).clamp(least, largest) as u64
    } else {
        to.extend(from.extend(register))
    }
}

/// `cvt.{rn,rz}{.relu}{.satfinite}.{f16x2,bf16x2}.f32 d, a, b`: `a` goes to the high half, `b` to the low half.
#[inline]
pub fn cvt_pack_halves(to: FloatType, a: u32, b: u32, how: Convert) -> u32 {
    let convert = |x: u32| cvt_float_to_float(FloatType::F32, to, u64::from(x), how) as u32;
    convert(a) << 16 | convert(b)
}

/// `cvt.pack.sat.{u16,s16}.s32 d, a, b` and `cvt.pack.sat.{u8,s8,u4,s4,u2,s2}.s32.b32 d, a, b, c`: both numbers clamped
/// to `bits` bits, `a` above `b`; the low part of `c` fills what is left above them (pass 0 for the 16-bit forms).
pub fn cvt_pack(bits: u32, signed: bool, a: u32, b: u32, c: u32) -> u32 {
    let (least, largest) = IntType { bits, signed }.range();
    let mask = (1u64 << bits) - 1;
    let clamp = |x: u32| (i128::from(x as i32).clamp(least, largest) as u64) & mask;
    (u64::from(c) << (2 * bits) | clamp(a) << bits | clamp(b)) as u32
}
