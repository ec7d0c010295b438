//! Conversions.

use super::super::names::{Lowering, Modifiers, Result};
use super::operands::{float_type, int_type, round};
use crate::arith::float::{self, Convert, FloatType, IntType, Mode, Round};
use crate::ir::code::InstructionClass;
use crate::ir::regs::{Reg, S32, hot, map_wide, map1, map2, map3};
use crate::ptx::LoadErrorKind;
use crate::ptx::ast::{Instruction, Type};

impl Lowering<'_> {
    /// `cvt`
    pub(super) fn cvt(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
    ) -> Result<InstructionClass> {
        if m.flag("pack") {
            return self.cvt_pack(i, m);
        }
        let integral = m.pick(|m| {
            Some(match m {
                "rni" => Round::Nearest,
                "rzi" => Round::Zero,
                "rmi" => Round::NegInf,
                "rpi" => Round::PosInf,
                _ => return None,
            })
        });
        let given = round(m);
        let how = Convert {
            round: given.or(integral).unwrap_or_default(),
            ftz: m.flag("ftz"),
            sat: m.flag("sat"),
            relu: m.flag("relu"),
            satfinite: m.flag("satfinite"),
        };
        let types = m.types();
        let [to, from] = types[..] else {
            return self.fail(
                LoadErrorKind::Unsupported,
                format!("`{}`: a conversion that sm_86 doesn't have", i.text()),
            );
        };
        // Packed: two f32 into one register, the first operand above.
        if matches!(to, Type::F16x2 | Type::BF16x2) {
            if from != Type::F32 {
                return self.bad_type(i, from);
            }
            if given.is_none() {
                return self.operand_error(format!("`{}` needs a rounding mode", i.text()));
            }
            let (d, [a, b]) = {
                self.operands(i, 3)?;
                let d = self.d32(&i.operands[0], to)?;
                (
                    d,
                    [
                        self.s32(&i.operands[1], from)?,
                        self.s32(&i.operands[2], from)?,
                    ],
                )
            };
            let plain = how == Convert::default();
            self.alu(match (to, plain) {
                (Type::F16x2, true) => hot!(d; x: S32 = a, y: S32 = b;
                    u32::from(float::f32_to_f16_nearest(x)) << 16 | u32::from(float::f32_to_f16_nearest(y))),
                (_, true) => hot!(d; x: S32 = a, y: S32 = b;
                    u32::from(float::f32_to_bf16_nearest(x)) << 16 | u32::from(float::f32_to_bf16_nearest(y))),
                (Type::F16x2, false) => {
                    map2(d, a, b, move |a, b| float::cvt_pack_halves(FloatType::F16, a, b, how))
                }
                _ => map2(d, a, b, move |a, b| float::cvt_pack_halves(FloatType::Bf16, a, b, how)),
            });
            return Ok(InstructionClass::Convert);
        }
        self.operands(i, 2)?;
        if to == Type::TF32 {
            // The other roundings came with sm_90.
            if from != Type::F32 || how.round != Round::NearestAway {
                return self.bad_type(i, from);
            }
            let d = self.d32(&i.operands[0], Type::B32)?;
            let a = self.s32(&i.operands[1], from)?;
            self.alu(map1(d, a, move |a| float::f32_to_tf32(a, how)));
            return Ok(InstructionClass::Convert);
        }
        // bf16 converts from and to f32 only; the rest came with sm_90.
        if (to == Type::BF16 && from != Type::F32) || (from == Type::BF16 && to != Type::F32) {
            return self.bad_type(i, if to == Type::BF16 { from } else { to });
        }
        let (d, d_bits) = self.dest(&i.operands[0], to, true)?;
        let a = self.source(&i.operands[1], from, true)?;
        // A destination register wider than its type gets the value extended by the type's sign.
        let extend = move |v: u64, int: IntType| {
            let v = int.extend(v);
            if d_bits == 64 {
                v
            } else {
                v & (u64::MAX >> (64 - d_bits))
            }
        };
        match (float_type(to), float_type(from)) {
            (Some(tf), Some(ff)) => {
                let from_bits = 8 * from.bytes();
                let source_mask = u64::MAX >> (64 - from_bits);
                if tf == ff {
                    if integral.is_some() {
                        self.alu(map_wide(d, [a], move |[a]| {
                            float::cvt_round_to_integral(tf, a & source_mask, how)
                        }));
                    } else {
                        self.alu(map_wide(d, [a], move |[a]| {
                            float::cvt_float_to_float(ff, tf, a & source_mask, how)
                        }));
                    }
                } else if integral.is_some() {
                    return self.operand_error(format!(
                        "`{}`: an integer rounding between float types",
                        i.text()
                    ));
                } else {
                    let narrower =
                        to.bytes() < from.bytes() || (to.bytes() == 2 && from.bytes() == 2);
                    if narrower && given.is_none() {
                        return self.operand_error(format!("`{}` needs a rounding mode", i.text()));
                    }
                    let plain = how == Convert::default();
                    match (tf, ff, d, a) {
                        (FloatType::F32, FloatType::F16, Reg::W(d), Reg::W(a)) if plain => {
                            self.alu(hot!(d; x: S32 = a; float::f16_to_f32(x as u16)));
                        }
                        (FloatType::F32, FloatType::Bf16, Reg::W(d), Reg::W(a)) if plain => {
                            self.alu(hot!(d; x: S32 = a; float::bf16_to_f32(x as u16)));
                        }
                        (FloatType::F16, FloatType::F32, Reg::W(d), Reg::W(a)) if plain => {
                            self.alu(hot!(d; x: S32 = a; u32::from(float::f32_to_f16_nearest(x))));
                        }
                        (FloatType::Bf16, FloatType::F32, Reg::W(d), Reg::W(a)) if plain => {
                            self.alu(hot!(d; x: S32 = a; u32::from(float::f32_to_bf16_nearest(x))));
                        }
                        _ => self.alu(map_wide(d, [a], move |[a]| {
                            float::cvt_float_to_float(ff, tf, a & source_mask, how)
                        })),
                    }
                }
            }
            (None, Some(ff)) => {
                let Some(int) = int_type(to) else {
                    return self.bad_type(i, to);
                };
                if integral.is_none() {
                    return self.operand_error(format!(
                        "`{}` needs `.rni`, `.rzi`, `.rmi` or `.rpi`",
                        i.text()
                    ));
                }
                let source_mask = u64::MAX >> (64 - 8 * from.bytes());
                self.alu(map_wide(d, [a], move |[a]| {
                    extend(
                        float::cvt_float_to_int(ff, int, a & source_mask, how.round, how.ftz),
                        int,
                    )
                }));
            }
            (Some(tf), None) => {
                let Some(int) = int_type(from) else {
                    return self.bad_type(i, from);
                };
                if given.is_none() {
                    return self.operand_error(format!("`{}` needs a rounding mode", i.text()));
                }
                let mode = Mode {
                    round: how.round,
                    ftz: how.ftz,
                    sat: how.sat,
                };
                match (d, a) {
                    (Reg::W(d), Reg::W(a))
                        if from == Type::S32 && to == Type::F32 && mode == Mode::RN =>
                    {
                        self.alu(map1(d, a, |a: u32| (a as i32 as f32).to_bits()));
                    }
                    (Reg::W(d), Reg::W(a))
                        if from == Type::U32 && to == Type::F32 && mode == Mode::RN =>
                    {
                        self.alu(map1(d, a, |a: u32| (a as f32).to_bits()));
                    }
                    _ => self.alu(map_wide(d, [a], move |[a]| {
                        float::cvt_int_to_float(int, tf, a, mode)
                    })),
                }
            }
            (None, None) => {
                let (Some(ti), Some(fi)) = (int_type(to), int_type(from)) else {
                    return self.bad_type(i, to);
                };
                let sat = how.sat;
                match (d, a) {
                    (Reg::D(d), Reg::W(a)) if from == Type::S32 && !sat && to.bytes() == 8 => {
                        self.alu(map1(d, a, |a: u32| i64::from(a as i32) as u64));
                    }
                    (Reg::D(d), Reg::W(a))
                        if matches!(from, Type::U32 | Type::B32) && !sat && to.bytes() == 8 =>
                    {
                        self.alu(map1(d, a, |a: u32| u64::from(a)));
                    }
                    (Reg::W(d), Reg::D(a)) if to.bytes() == 4 && !sat => {
                        self.alu(map1(d, a, |a: u64| a as u32))
                    }
                    _ => self.alu(map_wide(d, [a], move |[a]| {
                        extend(float::cvt_int_to_int(fi, ti, a, sat), ti)
                    })),
                }
            }
        }
        Ok(InstructionClass::Convert)
    }

    fn cvt_pack(&mut self, i: &Instruction, m: &mut Modifiers<'_>) -> Result<InstructionClass> {
        if !m.flag("sat") {
            return self.operand_error("`cvt.pack` needs `.sat`");
        }
        let small = m.pick(|m| {
            Some(match m {
                "u2" => (2, false),
                "s2" => (2, true),
                "u4" => (4, false),
                "s4" => (4, true),
                _ => return None,
            })
        });
        let types = m.types();
        let (bits, signed) = match small {
            Some(s) => s,
            None => match types.first().and_then(|t| int_type(*t)) {
                Some(t) if t.bits <= 16 => (t.bits, t.signed),
                _ => return self.operand_error("`cvt.pack` needs a type of at most 16 bits"),
            },
        };
        let d = self.d32(&i.operands[0], Type::B32)?;
        if i.operands.len() < 3 {
            return self.operand_error("`cvt.pack` takes three or four operands");
        }
        let a = self.s32(&i.operands[1], Type::S32)?;
        let b = self.s32(&i.operands[2], Type::S32)?;
        let c = match i.operands.get(3) {
            Some(c) => self.s32(c, Type::B32)?,
            None => self.bits32(0),
        };
        self.alu(map3(d, a, b, c, move |a, b, c| {
            float::cvt_pack(bits, signed, a, b, c)
        }));
        Ok(InstructionClass::Convert)
    }
}
