//! Arithmetic in f16 and bf16, one number or two packed in a register.

use super::super::names::{Lowering, Modifiers, Result};
use super::float::min_max;
use crate::arith::float::{self, HalfMode};
use crate::arith::{Lanes, WARP, approx, warp};
use crate::ir::code::InstructionClass;
use crate::ir::regs::{AluFn, S32, map1, map2, map3};
use crate::ptx::ast::{Instruction, Type};

/// A whole-warp operation on two registers.
fn warp2(
    d: S32,
    a: S32,
    b: S32,
    f: impl Fn(&mut Lanes, &Lanes, &Lanes) + Send + Sync + 'static,
) -> AluFn {
    Box::new(move |regs, mask| {
        let mut out = [0; WARP];
        f(&mut out, regs.get32(a), regs.get32(b));
        regs.put32(d, &out, mask);
    })
}

/// A whole-warp operation on three registers.
fn warp3(
    d: S32,
    a: S32,
    b: S32,
    c: S32,
    f: impl Fn(&mut Lanes, &Lanes, &Lanes, &Lanes) + Send + Sync + 'static,
) -> AluFn {
    Box::new(move |regs, mask| {
        let mut out = [0; WARP];
        f(&mut out, regs.get32(a), regs.get32(b), regs.get32(c));
        regs.put32(d, &out, mask);
    })
}

impl Lowering<'_> {
    /// Arithmetic in f16 and bf16.
    pub(super) fn half(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
        ty: Type,
    ) -> Result<InstructionClass> {
        let op = i.opcode.as_str();
        let packed = matches!(ty, Type::F16x2 | Type::BF16x2);
        let bf16 = matches!(ty, Type::BF16 | Type::BF16x2);
        macro_rules! unary {
            ($d:expr, $a:expr, $f:expr) => {{
                let f = $f;
                if packed {
                    map1($d, $a, move |a: u32| float::both_halves([a], |[a]| f(a)))
                } else {
                    map1($d, $a, move |a: u32| u32::from(f(a as u16)))
                }
            }};
        }
        macro_rules! binary {
            ($d:expr, $a:expr, $b:expr, $f:expr) => {{
                let f = $f;
                if packed {
                    map2($d, $a, $b, move |a: u32, b: u32| {
                        float::both_halves([a, b], |[a, b]| f(a, b))
                    })
                } else {
                    map2($d, $a, $b, move |a: u32, b: u32| {
                        u32::from(f(a as u16, b as u16))
                    })
                }
            }};
        }
        match op {
            "min" | "max" => {
                let how = min_max(m);
                let (d, [a, b]) = self.same32::<2>(i, ty)?;
                self.alu(match (op, bf16) {
                    ("min", false) if packed => {
                        warp2(d, a, b, move |d, a, b| warp::min_f16x2(d, a, b, how))
                    }
                    ("max", false) if packed => {
                        warp2(d, a, b, move |d, a, b| warp::max_f16x2(d, a, b, how))
                    }
                    ("min", true) if packed => {
                        warp2(d, a, b, move |d, a, b| warp::min_bf16x2(d, a, b, how))
                    }
                    ("max", true) if packed => {
                        warp2(d, a, b, move |d, a, b| warp::max_bf16x2(d, a, b, how))
                    }
                    ("min", false) => binary!(d, a, b, move |a, b| float::min_f16(a, b, how)),
                    ("max", false) => binary!(d, a, b, move |a, b| float::max_f16(a, b, how)),
                    ("min", true) => binary!(d, a, b, move |a, b| float::min_bf16(a, b, how)),
                    _ => binary!(d, a, b, move |a, b| float::max_bf16(a, b, how)),
                });
                return Ok(InstructionClass::Half);
            }
            "ex2" | "tanh" => {
                if !m.flag("approx") {
                    return self
                        .operand_error(format!("`{}` exists with `.approx` only", i.text()));
                }
                if bf16 {
                    // Came with sm_90.
                    return self.bad_type(i, ty);
                }
                let ftz = m.flag("ftz");
                let (d, [a]) = self.same32::<1>(i, ty)?;
                self.alu(match op {
                    "ex2" => unary!(d, a, move |a| approx::ex2_f16(a, ftz)),
                    _ => unary!(d, a, approx::tanh_f16),
                });
                return Ok(InstructionClass::Special);
            }
            _ => {}
        }
        m.flag("rn");
        let mode = HalfMode {
            ftz: m.flag("ftz"),
            sat: m.flag("sat"),
            relu: m.flag("relu"),
        };
        let ftz = mode.ftz;
        // bf16 sums and products of their own came with sm_90; `fma` does their work.
        if bf16 && (ftz || mode.sat || matches!(op, "add" | "sub" | "mul")) {
            return self.bad_type(i, ty);
        }
        match op {
            "add" | "sub" | "mul" => {
                let (d, [a, b]) = self.same32::<2>(i, ty)?;
                let plain = mode == HalfMode::PLAIN;
                self.alu(match (op, plain) {
                    ("add", true) if packed => warp2(d, a, b, warp::add_f16x2),
                    ("sub", true) if packed => warp2(d, a, b, warp::sub_f16x2),
                    ("mul", true) if packed => warp2(d, a, b, warp::mul_f16x2),
                    ("add", _) => binary!(d, a, b, move |a, b| float::add_f16(a, b, mode)),
                    ("sub", _) => binary!(d, a, b, move |a, b| float::sub_f16(a, b, mode)),
                    _ => binary!(d, a, b, move |a, b| float::mul_f16(a, b, mode)),
                });
            }
            "fma" => {
                let (d, [a, b, c]) = self.same32::<3>(i, ty)?;
                self.alu(match (packed, bf16) {
                    (true, false) if mode == HalfMode::PLAIN => warp3(d, a, b, c, warp::fma_f16x2),
                    (true, true) if mode == HalfMode::PLAIN => warp3(d, a, b, c, warp::fma_bf16x2),
                    (true, false) => {
                        map3(d, a, b, c, move |a, b, c| float::fma_f16x2(a, b, c, mode))
                    }
                    (true, true) => {
                        map3(d, a, b, c, move |a, b, c| float::fma_bf16x2(a, b, c, mode))
                    }
                    (false, false) => map3(d, a, b, c, move |a: u32, b: u32, c: u32| {
                        u32::from(float::fma_f16(a as u16, b as u16, c as u16, mode))
                    }),
                    (false, true) => map3(d, a, b, c, move |a: u32, b: u32, c: u32| {
                        u32::from(float::fma_bf16(a as u16, b as u16, c as u16, mode))
                    }),
                });
            }
            "abs" | "neg" => {
                let (d, [a]) = self.same32::<1>(i, ty)?;
                self.alu(match (op, bf16) {
                    ("abs", false) => unary!(d, a, move |a| float::abs_f16(a, ftz)),
                    ("neg", false) => unary!(d, a, move |a| float::neg_f16(a, ftz)),
                    ("abs", true) => unary!(d, a, move |a| float::abs_bf16(a, ftz)),
                    _ => unary!(d, a, move |a| float::neg_bf16(a, ftz)),
                });
            }
            _ => return self.bad_type(i, ty),
        }
        Ok(InstructionClass::Half)
    }
}
