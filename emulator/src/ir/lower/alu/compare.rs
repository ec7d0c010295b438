//! Comparisons and selections.

use super::super::names::{Lowering, Modifiers, Result};
use super::operands::int_type;
use super::predicate::{combine, reduce_bits};
use crate::arith::WARP;
use crate::arith::float::{self, FloatCmp};
use crate::arith::int::{self, IntCmp};
use crate::ir::code::InstructionClass;
use crate::ir::regs::{Reg, Regs, map_wide, map3};
use crate::ptx::ast::{Instruction, Operand, Type};

/// The comparison of integers that a modifier names.
pub(super) fn int_cmp(text: &str) -> Option<IntCmp> {
    Some(match text {
        "eq" => IntCmp::Eq,
        "ne" => IntCmp::Ne,
        "lt" | "lo" => IntCmp::Lt,
        "le" | "ls" => IntCmp::Le,
        "gt" | "hi" => IntCmp::Gt,
        "ge" | "hs" => IntCmp::Ge,
        _ => return None,
    })
}

/// The comparison of floats that a modifier names.
fn float_cmp(text: &str) -> Option<FloatCmp> {
    Some(match text {
        "eq" => FloatCmp::Eq,
        "ne" => FloatCmp::Ne,
        "lt" => FloatCmp::Lt,
        "le" => FloatCmp::Le,
        "gt" => FloatCmp::Gt,
        "ge" => FloatCmp::Ge,
        "equ" => FloatCmp::Equ,
        "neu" => FloatCmp::Neu,
        "ltu" => FloatCmp::Ltu,
        "leu" => FloatCmp::Leu,
        "gtu" => FloatCmp::Gtu,
        "geu" => FloatCmp::Geu,
        "num" => FloatCmp::Num,
        "nan" => FloatCmp::Nan,
        _ => return None,
    })
}

/// The lane bits of a comparison: of the (low) operands and, where they are packed, of the high ones.
type Comparison = Box<dyn Fn(&Regs) -> (u32, u32) + Send + Sync>;

impl Lowering<'_> {
    /// The comparison of `set` and `setp` as lane bits: low operands (and, packed, high operands).
    fn comparison(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
        ty: Type,
        a: &Operand,
        b: &Operand,
    ) -> Result<Comparison> {
        let a = self.source(a, ty, false)?;
        let b = self.source(b, ty, false)?;
        let ftz = m.flag("ftz");
        let no_cmp = || -> Result<_> {
            self.operand_error(format!("`{}` has no valid comparison for {ty:?}", i.text()))
        };
        if ty.is_float() {
            let Some(op) = m.pick(float_cmp) else {
                return no_cmp();
            };
            return Ok(match (ty, a, b) {
                (Type::F32, Reg::W(a), Reg::W(b)) => {
                    macro_rules! compare {
                        ($($op:ident)*) => {
                            match (op, ftz) {
                                $((FloatCmp::$op, false) => Box::new(move |r: &Regs| {
                                    let (a, b) = (r.get32(a), r.get32(b));
                                    (reduce_bits(|l| float::compare_f32(FloatCmp::$op, a[l], b[l], false)), 0)
                                }),)*
                                _ => Box::new(move |r: &Regs| {
                                    let (a, b) = (r.get32(a), r.get32(b));
                                    (reduce_bits(|l| float::compare_f32(op, a[l], b[l], ftz)), 0)
                                }),
                            }
                        };
                    }
                    compare!(Eq Neu Lt Le Gt Ge)
                }
                (Type::F64, Reg::D(a), Reg::D(b)) => Box::new(move |r: &Regs| {
                    let (a, b) = (r.get64(a), r.get64(b));
                    (reduce_bits(|l| float::compare_f64(op, a[l], b[l])), 0)
                }),
                (Type::F16 | Type::F16x2, Reg::W(a), Reg::W(b)) => Box::new(move |r: &Regs| {
                    let (a, b) = (r.get32(a), r.get32(b));
                    let at = |s: u32| {
                        reduce_bits(|l| {
                            float::compare_f16(op, (a[l] >> s) as u16, (b[l] >> s) as u16, ftz)
                        })
                    };
                    (at(0), at(16))
                }),
                // Comparisons of bf16 came with sm_90.
                _ => return self.bad_type(i, ty),
            });
        }
        let Some(int) = int_type(ty).filter(|t| t.bits > 8) else {
            return self.bad_type(i, ty);
        };
        let Some(op) = m.pick(int_cmp) else {
            return no_cmp();
        };
        Ok(match (a, b) {
            (Reg::W(a), Reg::W(b)) if int.bits == 32 => {
                macro_rules! compare {
                    ($($op:ident)*) => {
                        match (op, int.signed) {
                            $((IntCmp::$op, true) => Box::new(move |r: &Regs| {
                                let (a, b) = (r.get32(a), r.get32(b));
                                (reduce_bits(|l| IntCmp::$op.holds(a[l] as i32, b[l] as i32)), 0)
                            }),
                            (IntCmp::$op, false) => Box::new(move |r: &Regs| {
                                let (a, b) = (r.get32(a), r.get32(b));
                                (reduce_bits(|l| IntCmp::$op.holds(a[l], b[l])), 0)
                            }),)*
                        }
                    };
                }
                compare!(Eq Ne Lt Le Gt Ge)
            }
            _ => Box::new(move |r: &Regs| {
                let (a, b) = (a.fetch_wide(r), b.fetch_wide(r));
                (reduce_bits(|l| int::compare(op, int, a[l], b[l])), 0)
            }),
        })
    }

    /// `setp`
    pub(super) fn setp(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
    ) -> Result<InstructionClass> {
        let ty = self.one_type(m, i)?;
        let how = combine(m);
        self.operands(i, if how.is_some() { 4 } else { 3 })?;
        let (p, q) = match &i.operands[0] {
            Operand::Pair(p, q) => (self.dpred(p)?, Some(self.dpred(q)?)),
            p => (self.dpred(p)?, None),
        };
        let test = self.comparison(i, m, ty, &i.operands[1], &i.operands[2])?;
        let other = match (how, i.operands.get(3)) {
            (Some(how), Some(c)) => {
                let (c, negated) = self.pred(c)?;
                Some((how, c, if negated { u32::MAX } else { 0 }))
            }
            _ => None,
        };
        let packed = matches!(ty, Type::F16x2 | Type::BF16x2);
        self.alu(Box::new(move |r: &mut Regs, mask| {
            let (low, high) = test(r);
            let second = if packed { high } else { !low };
            let (mut x, mut y) = (low, second);
            if let Some((how, c, flip)) = other {
                let c = r.get_pred(c) ^ flip;
                (x, y) = (how.apply(low, c), how.apply(second, c));
            }
            r.put_pred(p, x, mask);
            if let Some(q) = q {
                r.put_pred(q, y, mask);
            }
        }));
        Ok(InstructionClass::Predicate)
    }

    /// `set`
    pub(super) fn set(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
    ) -> Result<InstructionClass> {
        let types = m.types();
        let [to, ty] = types[..] else {
            return self.operand_error("`set` takes two types");
        };
        let how = combine(m);
        self.operands(i, if how.is_some() { 4 } else { 3 })?;
        let packed = matches!(ty, Type::F16x2 | Type::BF16x2);
        let (yes, no) = match to {
            Type::U32 | Type::S32 if !packed => (u32::MAX, 0),
            Type::F32 if !packed => (1f32.to_bits(), 0),
            Type::U16 | Type::S16 if !packed => (0xffff, 0),
            Type::F16 | Type::F16x2 => (0x3c00, 0),
            Type::U32 | Type::S32 => (0xffff, 0),
            _ => return self.bad_type(i, to),
        };
        let d = self.d32(&i.operands[0], to)?;
        let test = self.comparison(i, m, ty, &i.operands[1], &i.operands[2])?;
        let other = match (how, i.operands.get(3)) {
            (Some(how), Some(c)) => {
                let (c, negated) = self.pred(c)?;
                Some((how, c, if negated { u32::MAX } else { 0 }))
            }
            _ => None,
        };
        self.alu(Box::new(move |r: &mut Regs, mask| {
            let (mut low, mut high) = test(r);
            if let Some((how, c, flip)) = other {
                let c = r.get_pred(c) ^ flip;
                (low, high) = (how.apply(low, c), how.apply(high, c));
            }
            let value = |bits: u32, l: usize| if bits >> l & 1 != 0 { yes } else { no };
            let out: [u32; WARP] = std::array::from_fn(|l| {
                if packed {
                    value(high, l) << 16 | value(low, l)
                } else {
                    value(low, l)
                }
            });
            r.put32(d, &out, mask);
        }));
        Ok(InstructionClass::Predicate)
    }

    /// `selp`
    pub(super) fn selp(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
    ) -> Result<InstructionClass> {
        let ty = self.one_type(m, i)?;
        self.operands(i, 4)?;
        let (p, negated) = self.pred(&i.operands[3])?;
        if ty.bytes() == 8 {
            let d = self.d64(&i.operands[0], ty)?;
            let (mut a, mut b) = (self.s64(&i.operands[1], ty)?, self.s64(&i.operands[2], ty)?);
            if negated {
                std::mem::swap(&mut a, &mut b);
            }
            self.alu(map3(d, a, b, p, |a, b, p| if p { a } else { b }));
        } else {
            if ty.bytes() == 1 {
                return self.bad_type(i, ty);
            }
            let d = self.d32(&i.operands[0], ty)?;
            let (mut a, mut b) = (self.s32(&i.operands[1], ty)?, self.s32(&i.operands[2], ty)?);
            if negated {
                std::mem::swap(&mut a, &mut b);
            }
            self.alu(map3(d, a, b, p, |a, b, p| if p { a } else { b }));
        }
        Ok(InstructionClass::Move)
    }

    /// `slct`
    pub(super) fn slct(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
    ) -> Result<InstructionClass> {
        let ftz = m.flag("ftz");
        let types = m.types();
        let [ty, by] = types[..] else {
            return self.operand_error("`slct` takes two types");
        };
        self.operands(i, 4)?;
        let d = self.dest(&i.operands[0], ty, false)?.0;
        let a = self.source(&i.operands[1], ty, false)?;
        let b = self.source(&i.operands[2], ty, false)?;
        let c = Reg::W(self.s32(&i.operands[3], by)?);
        match by {
            Type::S32 => self.alu(map_wide(
                d,
                [a, b, c],
                |[a, b, c]| if c as i32 >= 0 { a } else { b },
            )),
            Type::F32 => self.alu(map_wide(d, [a, b, c], move |[a, b, c]| {
                let c = if ftz {
                    float::flush_f32(c as u32)
                } else {
                    c as u32
                };
                if f32::from_bits(c) >= 0.0 { a } else { b }
            })),
            _ => return self.bad_type(i, by),
        }
        Ok(InstructionClass::Move)
    }
}
