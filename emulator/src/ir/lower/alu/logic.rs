//! Logic, shifts and permutations of bytes.

use super::super::names::{Lowering, Modifiers, Result};
use super::operands::int_type;
use super::predicate::{Combine, combine, reduce_bits};
use crate::arith::WARP;
use crate::arith::int::{self, PermuteMode};
use crate::ir::code::InstructionClass;
use crate::ir::regs::{Reg, Regs, map_wide, map1, map2, map3};
use crate::ptx::ast::{Instruction, Number, Operand, Type};

impl Lowering<'_> {
    /// `and`, `or` and `xor`, of bits and of predicates.
    pub(super) fn logic(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
    ) -> Result<InstructionClass> {
        let op = i.opcode.as_str();
        let ty = self.one_type(m, i)?;
        match ty {
            Type::Pred => {
                self.operands(i, 3)?;
                let d = self.dpred(&i.operands[0])?;
                let (a, na) = self.pred(&i.operands[1])?;
                let (b, nb) = self.pred(&i.operands[2])?;
                let how = match op {
                    "and" => Combine::And,
                    "or" => Combine::Or,
                    _ => Combine::Xor,
                };
                let (na, nb) = (0u32.wrapping_sub(na.into()), 0u32.wrapping_sub(nb.into()));
                self.alu(Box::new(move |r: &mut Regs, mask| {
                    let v = how.apply(r.get_pred(a) ^ na, r.get_pred(b) ^ nb);
                    r.put_pred(d, v, mask);
                }));
                Ok(InstructionClass::Predicate)
            }
            Type::B16 | Type::B32 => {
                let (d, [a, b]) = self.same32::<2>(i, ty)?;
                self.alu(match op {
                    "and" => map2(d, a, b, |a, b| a & b),
                    "or" => map2(d, a, b, |a, b| a | b),
                    _ => map2(d, a, b, |a, b| a ^ b),
                });
                Ok(InstructionClass::Integer)
            }
            Type::B64 => {
                let (d, [a, b]) = self.same64::<2>(i, ty)?;
                self.alu(match op {
                    "and" => map2(d, a, b, |a, b| a & b),
                    "or" => map2(d, a, b, |a, b| a | b),
                    _ => map2(d, a, b, |a, b| a ^ b),
                });
                Ok(InstructionClass::Integer)
            }
            _ => self.bad_type(i, ty),
        }
    }

    /// `not` and `cnot`.
    pub(super) fn complement(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
    ) -> Result<InstructionClass> {
        let ty = self.one_type(m, i)?;
        let not = i.opcode == "not";
        match ty {
            Type::Pred if not => {
                self.operands(i, 2)?;
                let d = self.dpred(&i.operands[0])?;
                let (a, negated) = self.pred(&i.operands[1])?;
                let flip = if negated { 0 } else { u32::MAX };
                self.alu(Box::new(move |r: &mut Regs, mask| {
                    let v = r.get_pred(a) ^ flip;
                    r.put_pred(d, v, mask);
                }));
                Ok(InstructionClass::Predicate)
            }
            Type::B16 => {
                let (d, [a]) = self.same32::<1>(i, ty)?;
                self.alu(if not {
                    map1(d, a, |a| a ^ 0xffff)
                } else {
                    map1(d, a, |a| u32::from(a == 0))
                });
                Ok(InstructionClass::Integer)
            }
            Type::B32 => {
                let (d, [a]) = self.same32::<1>(i, ty)?;
                self.alu(if not {
                    map1(d, a, |a: u32| !a)
                } else {
                    map1(d, a, |a| u32::from(a == 0))
                });
                Ok(InstructionClass::Integer)
            }
            Type::B64 => {
                let (d, [a]) = self.same64::<1>(i, ty)?;
                self.alu(if not {
                    map1(d, a, |a: u64| !a)
                } else {
                    map1(d, a, |a| u64::from(a == 0))
                });
                Ok(InstructionClass::Integer)
            }
            _ => self.bad_type(i, ty),
        }
    }

    /// `shl` and `shr`.
    pub(super) fn shift(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
    ) -> Result<InstructionClass> {
        let op = i.opcode.as_str();
        let ty = self.one_type(m, i)?;
        self.operands(i, 3)?;
        let d = self.dest(&i.operands[0], ty, false)?.0;
        let a = self.source(&i.operands[1], ty, false)?;
        let n = self.s32(&i.operands[2], Type::U32)?;
        let bits = 8 * ty.bytes();
        let Some(int) = int_type(ty).filter(|t| t.bits >= 16) else {
            return self.bad_type(i, ty);
        };
        match (op, d, a) {
            ("shl", Reg::W(d), Reg::W(a)) if bits == 32 => {
                self.alu(map2(
                    d,
                    a,
                    n,
                    |a: u32, n| if n >= 32 { 0 } else { a << (n & 31) },
                ));
            }
            ("shl", Reg::D(d), Reg::D(a)) => {
                self.alu(map2(
                    d,
                    a,
                    n,
                    |a: u64, n| if n >= 64 { 0 } else { a << (n & 63) },
                ));
            }
            ("shr", Reg::W(d), Reg::W(a)) if bits == 32 => self.alu(if ty.is_signed() {
                map2(d, a, n, |a: u32, n: u32| (a as i32 >> n.min(31)) as u32)
            } else {
                map2(d, a, n, |a: u32, n| if n >= 32 { 0 } else { a >> (n & 31) })
            }),
            ("shl", ..) => {
                self.alu(map_wide(d, [a, Reg::W(n)], move |[a, n]| {
                    int::shl(bits, a, n as u32)
                }));
            }
            _ => {
                let mask = u64::MAX >> (64 - bits);
                self.alu(map_wide(d, [a, Reg::W(n)], move |[a, n]| {
                    int::shr(int, a, n as u32) & mask
                }));
            }
        }
        Ok(InstructionClass::Integer)
    }

    /// `shf`
    pub(super) fn funnel_shift(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
    ) -> Result<InstructionClass> {
        let ty = self.one_type(m, i)?;
        let left = m.flag("l");
        if ty != Type::B32 || (!left && !m.flag("r")) {
            return self.bad_type(i, ty);
        }
        let wrap = m.flag("wrap");
        if !wrap && !m.flag("clamp") {
            return self.operand_error("`shf` needs `.wrap` or `.clamp`");
        }
        self.operands(i, 4)?;
        let (d, [a, b, c]) = self.same32::<3>(i, ty)?;
        self.alu(match (left, wrap) {
            (true, true) => map3(d, a, b, c, |a, b, c| int::shf_l(a, b, c, true)),
            (true, false) => map3(d, a, b, c, |a, b, c| int::shf_l(a, b, c, false)),
            (false, true) => map3(d, a, b, c, |a, b, c| int::shf_r(a, b, c, true)),
            (false, false) => map3(d, a, b, c, |a, b, c| int::shf_r(a, b, c, false)),
        });
        Ok(InstructionClass::Integer)
    }

    /// `lop3`
    pub(super) fn lop3(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
    ) -> Result<InstructionClass> {
        let how = combine(m);
        let ty = self.one_type(m, i)?;
        if ty != Type::B32 {
            return self.bad_type(i, ty);
        }
        let count = if how.is_some() { 6 } else { 5 };
        self.operands(i, count)?;
        let Operand::Number(Number::Int(table)) = i.operands[4] else {
            return self.operand_error("the table of `lop3` is a constant");
        };
        let table = table as u8;
        let (d_operand, p_operand) = match (&i.operands[0], how) {
            (Operand::Pair(d, p), Some(_)) => (&**d, Some(&**p)),
            (d, None) => (d, None),
            _ => return self.operand_error("`lop3` with a Boolean operation takes `d|p`"),
        };
        let d = self.d32(d_operand, ty)?;
        let a = self.s32(&i.operands[1], ty)?;
        let b = self.s32(&i.operands[2], ty)?;
        let c = self.s32(&i.operands[3], ty)?;
        match (how, p_operand) {
            (Some(how), Some(p)) => {
                let p = self.dpred(p)?;
                let (q, negated) = self.pred(&i.operands[5])?;
                let flip = if negated { u32::MAX } else { 0 };
                self.alu(Box::new(move |r: &mut Regs, mask| {
                    let (a, b, c) = (*r.get32(a), *r.get32(b), *r.get32(c));
                    let out: [u32; WARP] =
                        std::array::from_fn(|l| int::lop3(a[l], b[l], c[l], table));
                    let bits = how.apply(reduce_bits(|l| out[l] != 0), r.get_pred(q) ^ flip);
                    r.put32(d, &out, mask);
                    r.put_pred(p, bits, mask);
                }));
            }
            _ => self.alu(map3(d, a, b, c, move |a, b, c| int::lop3(a, b, c, table))),
        }
        Ok(InstructionClass::Integer)
    }

    /// `prmt`
    pub(super) fn permute(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
    ) -> Result<InstructionClass> {
        let mode = m
            .pick(|m| {
                Some(match m {
                    "f4e" => PermuteMode::ForwardExtract,
                    "b4e" => PermuteMode::BackwardExtract,
                    "rc8" => PermuteMode::Replicate8,
                    "ecl" => PermuteMode::EdgeClampLeft,
                    "ecr" => PermuteMode::EdgeClampRight,
                    "rc16" => PermuteMode::Replicate16,
                    _ => return None,
                })
            })
            .unwrap_or(PermuteMode::Default);
        let ty = self.one_type(m, i)?;
        if ty != Type::B32 {
            return self.bad_type(i, ty);
        }
        let (d, [a, b, c]) = self.same32::<3>(i, ty)?;
        self.alu(map3(d, a, b, c, move |a, b, c| int::prmt(mode, a, b, c)));
        Ok(InstructionClass::Integer)
    }
}
