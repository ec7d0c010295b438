//! Integer arithmetic.

use super::super::names::{Lowering, Modifiers, Result};
use crate::arith::WARP;
use crate::arith::float::IntType;
use crate::arith::int;
use crate::ir::code::InstructionClass;
use crate::ir::regs::{Reg, Regs, SP, map_wide, map2, map3};
use crate::ptx::ast::{Instruction, Type};

impl Lowering<'_> {
    /// The predicate that holds the carry flag.
    fn carry(&mut self) -> SP {
        if let Some(c) = self.carry {
            return c;
        }
        let c = self.temp_pred();
        self.carry = Some(c);
        c
    }

    /// `dp4a` and `dp2a`.
    pub(super) fn dot_product(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
    ) -> Result<InstructionClass> {
        let op = i.opcode.as_str();
        let types = m.types();
        let [ta, tb] = types[..] else {
            return self.operand_error(format!("`{}` takes two types", i.text()));
        };
        for t in [ta, tb] {
            if !matches!(t, Type::U32 | Type::S32) {
                return self.bad_type(i, t);
            }
        }
        let (d, [a, b, c]) = self.same32::<3>(i, Type::B32)?;
        let (sa, sb) = (ta.is_signed(), tb.is_signed());
        if op == "dp4a" {
            self.alu(map3(d, a, b, c, move |a, b, c| int::dp4a(sa, sb, a, b, c)));
        } else {
            let upper = m.flag("hi");
            if !upper && !m.flag("lo") {
                return self.operand_error("`dp2a` needs `.lo` or `.hi`");
            }
            self.alu(map3(d, a, b, c, move |a, b, c| {
                int::dp2a(sa, sb, upper, a, b, c)
            }));
        }
        Ok(InstructionClass::Integer)
    }

    /// Arithmetic on a type of 16, 32 or 64 bits.
    pub(super) fn integer(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
        ty: Type,
        int: IntType,
    ) -> Result<InstructionClass> {
        let bits = int.bits;
        let mask = u64::MAX >> (64 - bits);
        let op = i.opcode.as_str();
        if bits == 8 {
            return self.bad_type(i, ty);
        }
        match op {
            "add" | "sub" if m.flag("sat") => {
                if ty != Type::S32 {
                    return self.bad_type(i, ty);
                }
                let (d, [a, b]) = self.same32::<2>(i, ty)?;
                self.alu(if op == "add" {
                    map2(d, a, b, int::add_sat_s32)
                } else {
                    map2(d, a, b, int::sub_sat_s32)
                });
            }
            "add" | "sub" | "addc" | "subc" => {
                let with_carry = op.len() == 4;
                let sets = m.flag("cc");
                if with_carry || sets {
                    let (d, [a, b]) = self.same::<2>(i, ty)?;
                    let cc = self.carry();
                    let subtract = op.starts_with("sub");
                    self.alu(Box::new(move |r: &mut Regs, mask| {
                        let (a, b) = (a.fetch_wide(r), b.fetch_wide(r));
                        // A subtraction adds the complement and one.
                        let fresh = if subtract { u32::MAX } else { 0 };
                        let carry = if with_carry { r.get_pred(cc) } else { fresh };
                        let (mut out, mut flags) = ([0u64; WARP], 0u32);
                        for l in 0..WARP {
                            let c = carry >> l & 1 != 0;
                            let (v, f) = if subtract {
                                int::sub_carry(bits, a[l], b[l], c)
                            } else {
                                int::add_carry(bits, a[l], b[l], c)
                            };
                            out[l] = v;
                            flags |= u32::from(f) << l;
                        }
                        d.store_wide(r, &out, mask);
                        if sets {
                            r.put_pred(cc, flags, mask);
                        }
                    }));
                    return Ok(InstructionClass::Integer);
                }
                match bits {
                    32 => {
                        let (d, [a, b]) = self.same32::<2>(i, ty)?;
                        self.alu(if op == "add" {
                            map2(d, a, b, u32::wrapping_add)
                        } else {
                            map2(d, a, b, u32::wrapping_sub)
                        });
                    }
                    64 => {
                        let (d, [a, b]) = self.same64::<2>(i, ty)?;
                        self.alu(if op == "add" {
                            map2(d, a, b, u64::wrapping_add)
                        } else {
                            map2(d, a, b, u64::wrapping_sub)
                        });
                    }
                    _ => {
                        let (d, s) = self.same::<2>(i, ty)?;
                        self.alu(if op == "add" {
                            map_wide(d, s, move |[a, b]| a.wrapping_add(b) & mask)
                        } else {
                            map_wide(d, s, move |[a, b]| a.wrapping_sub(b) & mask)
                        });
                    }
                }
            }
            "mul" | "mad" | "madc" => return self.multiply(i, m, ty, int),
            "mul24" | "mad24" => {
                if bits != 32 {
                    return self.bad_type(i, ty);
                }
                let high = m.flag("hi");
                if !high && !m.flag("lo") {
                    return self.operand_error(format!("`{op}` needs `.lo` or `.hi`"));
                }
                let sat = m.flag("sat");
                let signed = int.signed;
                let product = move |a, b| {
                    if high {
                        int::mul24_hi(signed, a, b)
                    } else {
                        int::mul24_lo(signed, a, b)
                    }
                };
                if op == "mul24" {
                    let (d, [a, b]) = self.same32::<2>(i, ty)?;
                    self.alu(map2(d, a, b, product));
                } else {
                    let (d, [a, b, c]) = self.same32::<3>(i, ty)?;
                    if sat {
                        if !(high && signed) {
                            return self.bad_type(i, ty);
                        }
                        self.alu(map3(d, a, b, c, int::mad24_hi_sat_s32));
                    } else {
                        self.alu(map3(d, a, b, c, move |a, b, c: u32| {
                            product(a, b).wrapping_add(c)
                        }));
                    }
                }
            }
            "sad" => {
                self.operands(i, 4)?;
                let (d, s) = self.same::<3>(i, ty)?;
                self.alu(map_wide(d, s, move |[a, b, c]| {
                    int::sad(int, a, b, c) & mask
                }));
            }
            "div" | "rem" => {
                let (d, s) = self.same::<2>(i, ty)?;
                self.alu(if op == "div" {
                    map_wide(d, s, move |[a, b]| int::div(int, a, b) & mask)
                } else {
                    map_wide(d, s, move |[a, b]| int::rem(int, a, b) & mask)
                });
            }
            "abs" | "neg" => {
                if !int.signed {
                    return self.bad_type(i, ty);
                }
                let (d, s) = self.same::<1>(i, ty)?;
                self.alu(if op == "abs" {
                    map_wide(d, s, move |[a]| int::abs(int, a) & mask)
                } else {
                    map_wide(d, s, move |[a]| 0u64.wrapping_sub(a) & mask)
                });
            }
            "min" | "max" => {
                let larger = op == "max";
                if bits == 32 {
                    let (d, [a, b]) = self.same32::<2>(i, ty)?;
                    self.alu(match (larger, int.signed) {
                        (true, true) => {
                            map2(d, a, b, |a: u32, b: u32| (a as i32).max(b as i32) as u32)
                        }
                        (false, true) => {
                            map2(d, a, b, |a: u32, b: u32| (a as i32).min(b as i32) as u32)
                        }
                        (true, false) => map2(d, a, b, |a: u32, b: u32| a.max(b)),
                        (false, false) => map2(d, a, b, |a: u32, b: u32| a.min(b)),
                    });
                } else {
                    let (d, s) = self.same::<2>(i, ty)?;
                    self.alu(map_wide(d, s, move |[a, b]| {
                        int::min_max(int, a, b, larger) & mask
                    }));
                }
            }
            "popc" | "clz" => {
                if !matches!(ty, Type::B32 | Type::B64) {
                    return self.bad_type(i, ty);
                }
                self.operands(i, 2)?;
                let d = Reg::W(self.d32(&i.operands[0], Type::U32)?);
                let a = self.source(&i.operands[1], ty, false)?;
                let pad = 64 - bits;
                self.alu(if op == "popc" {
                    map_wide(d, [a], |[a]| u64::from(a.count_ones()))
                } else {
                    map_wide(d, [a], move |[a]| u64::from(a.leading_zeros() - pad))
                });
            }
            "bfind" => {
                let shift = m.flag("shiftamt");
                if bits < 32 {
                    return self.bad_type(i, ty);
                }
                self.operands(i, 2)?;
                let d = Reg::W(self.d32(&i.operands[0], Type::U32)?);
                let a = self.source(&i.operands[1], ty, false)?;
                self.alu(map_wide(d, [a], move |[a]| {
                    u64::from(int::bfind(int, a, shift))
                }));
            }
            "brev" => {
                if !matches!(ty, Type::B32 | Type::B64) {
                    return self.bad_type(i, ty);
                }
                let (d, s) = self.same::<1>(i, ty)?;
                let pad = 64 - bits;
                self.alu(map_wide(d, s, move |[a]| a.reverse_bits() >> pad));
            }
            "bfe" => {
                if bits < 32 {
                    return self.bad_type(i, ty);
                }
                self.operands(i, 4)?;
                let d = self.dest(&i.operands[0], ty, false)?.0;
                let a = self.source(&i.operands[1], ty, false)?;
                let b = Reg::W(self.s32(&i.operands[2], Type::U32)?);
                let c = Reg::W(self.s32(&i.operands[3], Type::U32)?);
                self.alu(map_wide(d, [a, b, c], move |[a, b, c]| {
                    int::bfe(int, a, b as u32, c as u32) & mask
                }));
            }
            "bfi" => {
                if !matches!(ty, Type::B32 | Type::B64) {
                    return self.bad_type(i, ty);
                }
                self.operands(i, 5)?;
                let d = self.dest(&i.operands[0], ty, false)?.0;
                let a = self.source(&i.operands[1], ty, false)?;
                let b = self.source(&i.operands[2], ty, false)?;
                let c = Reg::W(self.s32(&i.operands[3], Type::U32)?);
                let e = Reg::W(self.s32(&i.operands[4], Type::U32)?);
                self.alu(map_wide(d, [a, b, c, e], move |[a, b, c, e]| {
                    int::bfi(bits, a, b, c as u32, e as u32) & mask
                }));
            }
            "fns" => {
                if ty != Type::B32 {
                    return self.bad_type(i, ty);
                }
                self.operands(i, 4)?;
                let (d, [a, b, c]) = self.same32::<3>(i, ty)?;
                self.alu(map3(d, a, b, c, |a, b, c: u32| int::fns(a, b, c as i32)));
            }
            "szext" | "bmsk" => {
                let wrap = m.flag("wrap");
                if !wrap && !m.flag("clamp") {
                    return self.operand_error(format!("`{op}` needs `.wrap` or `.clamp`"));
                }
                if bits != 32 {
                    return self.bad_type(i, ty);
                }
                let signed = int.signed;
                let (d, [a, b]) = self.same32::<2>(i, Type::B32)?;
                self.alu(if op == "szext" {
                    map2(d, a, b, move |a, b| int::szext(signed, wrap, a, b))
                } else {
                    map2(d, a, b, move |a, b| int::bmsk(wrap, a, b))
                });
            }
            _ => return self.bad_type(i, ty),
        }
        Ok(InstructionClass::Integer)
    }

    /// `mul`, `mad` and `madc`.
    fn multiply(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
        ty: Type,
        int: IntType,
    ) -> Result<InstructionClass> {
        let op = i.opcode.as_str();
        let bits = int.bits;
        let mask = u64::MAX >> (64 - bits);
        let wide = m.flag("wide");
        let high = m.flag("hi");
        if !wide && !high && !m.flag("lo") {
            return self.operand_error(format!("`{}` needs `.lo`, `.hi` or `.wide`", i.text()));
        }
        let sat = m.flag("sat");
        let (uses_carry, sets_carry) = (op == "madc", m.flag("cc"));
        let twice = match ty {
            Type::U16 => Type::U32,
            Type::S16 => Type::S32,
            Type::U32 => Type::U64,
            Type::S32 => Type::S64,
            _ if wide => return self.bad_type(i, ty),
            _ => ty,
        };
        if uses_carry || sets_carry {
            if wide || (bits < 32 && sets_carry) {
                return self.bad_type(i, ty);
            }
            let (d, [a, b, c]) = self.same::<3>(i, ty)?;
            let cc = self.carry();
            self.alu(Box::new(move |r: &mut Regs, mask| {
                let (a, b, c) = (a.fetch_wide(r), b.fetch_wide(r), c.fetch_wide(r));
                let carry = if uses_carry { r.get_pred(cc) } else { 0 };
                let (mut out, mut flags) = ([0u64; WARP], 0u32);
                for l in 0..WARP {
                    let (v, f) = int::mad_carry(int, high, a[l], b[l], c[l], carry >> l & 1 != 0);
                    out[l] = v;
                    flags |= u32::from(f) << l;
                }
                d.store_wide(r, &out, mask);
                if sets_carry {
                    r.put_pred(cc, flags, mask);
                }
            }));
            return Ok(InstructionClass::Integer);
        }
        if wide {
            self.operands(i, if op == "mul" { 3 } else { 4 })?;
            let d = self.dest(&i.operands[0], twice, false)?.0;
            let a = self.source(&i.operands[1], ty, false)?;
            let b = self.source(&i.operands[2], ty, false)?;
            match (op, d, a, b) {
                ("mul", Reg::D(d), Reg::W(a), Reg::W(b)) => self.alu(if ty.is_signed() {
                    map2(d, a, b, |a: u32, b: u32| {
                        (i64::from(a as i32) * i64::from(b as i32)) as u64
                    })
                } else {
                    map2(d, a, b, |a: u32, b: u32| u64::from(a) * u64::from(b))
                }),
                ("mul", ..) => {
                    self.alu(map_wide(d, [a, b], move |[a, b]| int::mul_wide(int, a, b)))
                }
                _ => {
                    let c = self.source(&i.operands[3], twice, false)?;
                    self.alu(map_wide(d, [a, b, c], move |[a, b, c]| {
                        int::mad_wide(int, a, b, c)
                    }));
                }
            }
            return Ok(InstructionClass::Integer);
        }
        match (op, high, bits) {
            ("mul", false, 32) => {
                let (d, [a, b]) = self.same32::<2>(i, ty)?;
                self.alu(map2(d, a, b, u32::wrapping_mul));
            }
            ("mul", true, 32) => {
                let (d, [a, b]) = self.same32::<2>(i, ty)?;
                self.alu(if ty.is_signed() {
                    map2(d, a, b, int::mul_hi_s32)
                } else {
                    map2(d, a, b, int::mul_hi_u32)
                });
            }
            ("mul", false, _) => {
                let (d, s) = self.same::<2>(i, ty)?;
                self.alu(map_wide(d, s, move |[a, b]| a.wrapping_mul(b) & mask));
            }
            ("mul", true, _) => {
                let (d, s) = self.same::<2>(i, ty)?;
                self.alu(map_wide(d, s, move |[a, b]| int::mul_hi(int, a, b) & mask));
            }
            (_, true, 32) if sat => {
                if ty != Type::S32 {
                    return self.bad_type(i, ty);
                }
                let (d, [a, b, c]) = self.same32::<3>(i, ty)?;
                self.alu(map3(d, a, b, c, int::mad_hi_sat_s32));
            }
            _ if sat => return self.bad_type(i, ty),
            (_, false, 32) => {
                let (d, [a, b, c]) = self.same32::<3>(i, ty)?;
                self.alu(map3(d, a, b, c, |a: u32, b, c| {
                    a.wrapping_mul(b).wrapping_add(c)
                }));
            }
            (_, false, _) => {
                let (d, s) = self.same::<3>(i, ty)?;
                self.alu(map_wide(d, s, move |[a, b, c]| {
                    a.wrapping_mul(b).wrapping_add(c) & mask
                }));
            }
            (_, true, _) => {
                let (d, s) = self.same::<3>(i, ty)?;
                self.alu(map_wide(d, s, move |[a, b, c]| {
                    int::mad_hi(int, a, b, c) & mask
                }));
            }
        }
        Ok(InstructionClass::Integer)
    }
}
