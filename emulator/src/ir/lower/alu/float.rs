//! Arithmetic in f32 and f64.

use super::super::names::{Lowering, Modifiers, Result};
use super::operands::round;
use crate::arith::approx;
use crate::arith::float::{self, FloatClass, MinMax, Mode, Round};
use crate::ir::code::InstructionClass;
use crate::ir::regs::{S32, hot, map1, map2, map3};
use crate::ptx::ast::{Instruction, Type};

/// An f32 operation whose common modifiers are compiled into the loop over lanes.
macro_rules! by_mode {
    ($mode:expr; $d:expr; $($arg:ident = $slot:expr),+; $m:ident => $body:expr; $map:ident) => {
        match $mode {
            Mode { round: Round::Nearest, ftz: false, sat: false } => {
                hot!($d; $($arg: S32 = $slot),+; { const $m: Mode = Mode::RN; $body })
            }
            Mode { round: Round::Nearest, ftz: true, sat: false } => {
                hot!($d; $($arg: S32 = $slot),+; { const $m: Mode = Mode::RN_FTZ; $body })
            }
            #[allow(non_snake_case)]
            $m => $map($d, $($slot),+, move |$($arg),+| $body),
        }
    };
}

/// `min` and `max` without modifiers.
const PLAIN: MinMax = MinMax {
    ftz: false,
    nan: false,
    xorsign_abs: false,
};

/// Takes the modifiers of `min` and `max`.
pub(super) fn min_max(m: &mut Modifiers<'_>) -> MinMax {
    let how = MinMax {
        ftz: m.flag("ftz"),
        nan: m.flag("NaN"),
        xorsign_abs: m.flag("xorsign"),
    };
    if how.xorsign_abs {
        m.flag("abs");
    }
    how
}

impl Lowering<'_> {
    /// Arithmetic in f32.
    pub(super) fn f32(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
    ) -> Result<InstructionClass> {
        let ty = Type::F32;
        let op = i.opcode.as_str();
        let approximate = m.flag("approx");
        match op {
            "min" | "max" => {
                let how = min_max(m);
                let (d, [a, b]) = self.same32::<2>(i, ty)?;
                let plain = how == MinMax::default();
                self.alu(match (op, plain) {
                    ("min", true) => hot!(d; x: S32 = a, y: S32 = b; float::min_f32(x, y, PLAIN)),
                    ("max", true) => hot!(d; x: S32 = a, y: S32 = b; float::max_f32(x, y, PLAIN)),
                    ("min", false) => map2(d, a, b, move |a, b| float::min_f32(a, b, how)),
                    _ => map2(d, a, b, move |a, b| float::max_f32(a, b, how)),
                });
                return Ok(InstructionClass::F32);
            }
            "copysign" => {
                let (d, [a, b]) = self.same32::<2>(i, ty)?;
                self.alu(map2(d, a, b, float::copysign_f32));
                return Ok(InstructionClass::F32);
            }
            _ => {}
        }
        let given = round(m);
        let mode = Mode {
            round: given.unwrap_or_default(),
            ftz: m.flag("ftz"),
            sat: m.flag("sat"),
        };
        if mode.round == Round::NearestAway {
            return self.bad_type(i, ty);
        }
        let ftz = mode.ftz;
        match op {
            "add" | "sub" | "mul" => {
                let (d, [a, b]) = self.same32::<2>(i, ty)?;
                self.alu(match op {
                    "add" => by_mode!(mode; d; x = a, y = b; M => float::add_f32(x, y, M); map2),
                    "sub" => by_mode!(mode; d; x = a, y = b; M => float::sub_f32(x, y, M); map2),
                    _ => by_mode!(mode; d; x = a, y = b; M => float::mul_f32(x, y, M); map2),
                });
            }
            "fma" | "mad" => {
                if given.is_none() {
                    return self.operand_error(format!("`{}` needs a rounding mode", i.text()));
                }
                let (d, [a, b, c]) = self.same32::<3>(i, ty)?;
                self.alu(
                    by_mode!(mode; d; x = a, y = b, z = c; M => float::fma_f32(x, y, z, M); map3),
                );
            }
            "div" => {
                let full = m.flag("full");
                let (d, [a, b]) = self.same32::<2>(i, ty)?;
                self.alu(if approximate {
                    map2(d, a, b, move |a, b| approx::div_approx_f32(a, b, ftz))
                } else if full {
                    map2(d, a, b, move |a, b| approx::div_full_f32(a, b, ftz))
                } else if given.is_some() {
                    by_mode!(mode; d; x = a, y = b; M => float::div_f32(x, y, M); map2)
                } else {
                    return self
                        .operand_error("`div.f32` needs `.approx`, `.full` or a rounding mode");
                });
                return Ok(if approximate || full {
                    InstructionClass::Special
                } else {
                    InstructionClass::F32
                });
            }
            "rcp" | "sqrt" => {
                let (d, [a]) = self.same32::<1>(i, ty)?;
                if !approximate && given.is_none() {
                    return self.operand_error(format!(
                        "`{}` needs `.approx` or a rounding mode",
                        i.text()
                    ));
                }
                self.alu(match (op, approximate) {
                    ("rcp", true) => map1(d, a, move |a| approx::rcp_f32(a, ftz)),
                    ("rcp", false) => by_mode!(mode; d; x = a; M => float::rcp_f32(x, M); map1),
                    (_, true) => map1(d, a, move |a| approx::sqrt_f32(a, ftz)),
                    _ => by_mode!(mode; d; x = a; M => float::sqrt_f32(x, M); map1),
                });
                return Ok(if approximate {
                    InstructionClass::Special
                } else {
                    InstructionClass::F32
                });
            }
            "rsqrt" | "sin" | "cos" | "lg2" | "ex2" | "tanh" => {
                if !approximate {
                    return self
                        .operand_error(format!("`{}` exists with `.approx` only", i.text()));
                }
                let (d, [a]) = self.same32::<1>(i, ty)?;
                self.alu(match op {
                    "rsqrt" => map1(d, a, move |a| approx::rsqrt_f32(a, ftz)),
                    "sin" => map1(d, a, move |a| approx::sin_f32(a, ftz)),
                    "cos" => map1(d, a, move |a| approx::cos_f32(a, ftz)),
                    "lg2" => map1(d, a, move |a| approx::lg2_f32(a, ftz)),
                    "ex2" => map1(d, a, move |a| approx::ex2_f32(a, ftz)),
                    _ => map1(d, a, approx::tanh_f32),
                });
                return Ok(InstructionClass::Special);
            }
            "abs" | "neg" => {
                let (d, [a]) = self.same32::<1>(i, ty)?;
                self.alu(match (op, ftz) {
                    ("abs", false) => hot!(d; x: S32 = a; float::abs_f32(x, false)),
                    ("abs", true) => hot!(d; x: S32 = a; float::abs_f32(x, true)),
                    (_, false) => hot!(d; x: S32 = a; float::neg_f32(x, false)),
                    (_, true) => map1(d, a, |a| float::neg_f32(a, true)),
                });
            }
            _ => return self.bad_type(i, ty),
        }
        if approximate {
            return self.bad_type(i, ty);
        }
        Ok(InstructionClass::F32)
    }

    /// Arithmetic in f64.
    pub(super) fn f64(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
    ) -> Result<InstructionClass> {
        let ty = Type::F64;
        let op = i.opcode.as_str();
        let approximate = m.flag("approx");
        let given = round(m);
        let r = given.unwrap_or_default();
        let ftz = m.flag("ftz");
        if r == Round::NearestAway || (ftz && !approximate && op != "rcp") {
            return self.bad_type(i, ty);
        }
        match op {
            "add" | "sub" | "mul" | "div" | "min" | "max" | "copysign" => {
                if op == "div" && given.is_none() {
                    return self.operand_error("`div.f64` needs a rounding mode");
                }
                let (d, [a, b]) = self.same64::<2>(i, ty)?;
                let nearest = r == Round::Nearest;
                self.alu(match op {
                    "add" if nearest => map2(d, a, b, |a, b| float::add_f64(a, b, Round::Nearest)),
                    "sub" if nearest => map2(d, a, b, |a, b| float::sub_f64(a, b, Round::Nearest)),
                    "mul" if nearest => map2(d, a, b, |a, b| float::mul_f64(a, b, Round::Nearest)),
                    "add" => map2(d, a, b, move |a, b| float::add_f64(a, b, r)),
                    "sub" => map2(d, a, b, move |a, b| float::sub_f64(a, b, r)),
                    "mul" => map2(d, a, b, move |a, b| float::mul_f64(a, b, r)),
                    "div" => map2(d, a, b, move |a, b| float::div_f64(a, b, r)),
                    "min" => map2(d, a, b, float::min_f64),
                    "max" => map2(d, a, b, float::max_f64),
                    _ => map2(d, a, b, float::copysign_f64),
                });
            }
            "fma" | "mad" => {
                if given.is_none() {
                    return self.operand_error(format!("`{}` needs a rounding mode", i.text()));
                }
                let (d, [a, b, c]) = self.same64::<3>(i, ty)?;
                self.alu(if r == Round::Nearest {
                    map3(d, a, b, c, |a, b, c| {
                        float::fma_f64(a, b, c, Round::Nearest)
                    })
                } else {
                    map3(d, a, b, c, move |a, b, c| float::fma_f64(a, b, c, r))
                });
            }
            "rcp" | "sqrt" | "rsqrt" => {
                let (d, [a]) = self.same64::<1>(i, ty)?;
                self.alu(match (op, approximate, ftz) {
                    ("rcp", true, true) => map1(d, a, approx::rcp_ftz_f64),
                    ("rsqrt", true, true) => map1(d, a, approx::rsqrt_ftz_f64),
                    ("rsqrt", true, false) => map1(d, a, approx::rsqrt_f64),
                    // The assembler takes `.ftz` here and makes the same code with and without it.
                    ("rcp", false, _) if given.is_some() => {
                        map1(d, a, move |a| float::rcp_f64(a, r))
                    }
                    ("sqrt", false, false) if given.is_some() => {
                        map1(d, a, move |a| float::sqrt_f64(a, r))
                    }
                    _ => return self.bad_type(i, ty),
                });
                return Ok(if approximate {
                    InstructionClass::Special
                } else {
                    InstructionClass::F64
                });
            }
            "abs" | "neg" => {
                let (d, [a]) = self.same64::<1>(i, ty)?;
                self.alu(if op == "abs" {
                    map1(d, a, float::abs_f64)
                } else {
                    map1(d, a, float::neg_f64)
                });
            }
            _ => return self.bad_type(i, ty),
        }
        if approximate {
            return self.bad_type(i, ty);
        }
        Ok(InstructionClass::F64)
    }

    /// `testp`
    pub(super) fn test_class(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
    ) -> Result<InstructionClass> {
        let ty = self.one_type(m, i)?;
        let class = m.pick(|m| {
            Some(match m {
                "finite" => FloatClass::Finite,
                "infinite" => FloatClass::Infinite,
                "number" => FloatClass::Number,
                "notanumber" => FloatClass::NotANumber,
                "normal" => FloatClass::Normal,
                "subnormal" => FloatClass::Subnormal,
                _ => return None,
            })
        });
        let Some(class) = class else {
            return self.operand_error("`testp` needs a class of numbers");
        };
        self.operands(i, 2)?;
        let d = self.dpred(&i.operands[0])?;
        match ty {
            Type::F32 => {
                let a = self.s32(&i.operands[1], ty)?;
                self.alu(map1(d, a, move |a| float::testp_f32(class, a)));
            }
            Type::F64 => {
                let a = self.s64(&i.operands[1], ty)?;
                self.alu(map1(d, a, move |a| float::testp_f64(class, a)));
            }
            _ => return self.bad_type(i, ty),
        }
        Ok(InstructionClass::Predicate)
    }
}
