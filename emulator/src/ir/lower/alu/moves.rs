//! Moves between registers, and addresses between state spaces.

use super::super::names::{Lowering, Modifiers, Result};
use crate::arith::WARP;
use crate::ir::code::{InstructionClass, Op};
use crate::ir::regs::{Reg, Regs, map1, map2};
use crate::memory::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW};
use crate::ptx::ast::{Instruction, Operand, Type};

impl Lowering<'_> {
    /// `mov`
    pub(super) fn mov(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
    ) -> Result<InstructionClass> {
        let vector = m.flag("v4");
        let ty = self.one_type(m, i)?;
        self.operands(i, 2)?;
        if ty == Type::Pred {
            let d = self.dpred(&i.operands[0])?;
            let (a, negated) = self.pred(&i.operands[1])?;
            let flip = if negated { u32::MAX } else { 0 };
            self.alu(Box::new(move |r: &mut Regs, mask| {
                let v = r.get_pred(a) ^ flip;
                r.put_pred(d, v, mask);
            }));
            return Ok(InstructionClass::Predicate);
        }
        if ty == Type::B128 {
            return self.mov128(i);
        }
        match (&i.operands[0], &i.operands[1]) {
            (Operand::Vector(d), Operand::Name { name, offset: 0 }) if vector => {
                if d.len() != 4 || ty.bytes() != 4 {
                    return self.operand_error("`mov.v4` reads the four 32-bit parts of a name");
                }
                for (target, axis) in d.iter().zip(["x", "y", "z", "w"]) {
                    let d = self.d32(target, ty)?;
                    let part = Operand::Name {
                        name: format!("{name}.{axis}"),
                        offset: 0,
                    };
                    let a = self.s32(&part, ty)?;
                    self.alu(map1(d, a, |a: u32| a));
                }
            }
            (Operand::Vector(d), source) => {
                let part = self.element(ty, d.len())?;
                let a = self.source(source, ty, false)?;
                let bits = 8 * part.bytes();
                let targets = d
                    .iter()
                    .map(|o| Ok(self.dest(o, part, false)?.0))
                    .collect::<Result<Vec<_>>>()?;
                let mask_bits = u64::MAX >> (64 - bits);
                self.alu(Box::new(move |r: &mut Regs, mask| {
                    let value = a.fetch_wide(r);
                    for (n, d) in targets.iter().enumerate() {
                        let out =
                            std::array::from_fn(|l| value[l] >> (bits * n as u32) & mask_bits);
                        d.store_wide(r, &out, mask);
                    }
                }));
            }
            (d, Operand::Vector(parts)) => {
                let part = self.element(ty, parts.len())?;
                let bits = 8 * part.bytes();
                let d = self.dest(d, ty, false)?.0;
                let sources = parts
                    .iter()
                    .map(|o| self.source(o, part, false))
                    .collect::<Result<Vec<_>>>()?;
                match (sources[..].as_ref(), d) {
                    (&[Reg::W(lo), Reg::W(hi)], Reg::W(d)) if bits == 16 => {
                        self.alu(map2(d, lo, hi, |lo: u32, hi: u32| lo & 0xffff | hi << 16));
                    }
                    _ => self.alu(Box::new(move |r: &mut Regs, mask| {
                        let mut out = [0u64; WARP];
                        for (n, s) in sources.iter().enumerate() {
                            let v = s.fetch_wide(r);
                            for l in 0..WARP {
                                out[l] |= v[l] << (bits * n as u32);
                            }
                        }
                        d.store_wide(r, &out, mask);
                    })),
                }
            }
            (d, a) => {
                if ty.bytes() == 8 {
                    let d = self.d64(d, ty)?;
                    if let Operand::Name { name, offset: 0 } = a
                        && self.register(name).is_none()
                        && let Some((special, _)) = Self::special(name)
                    {
                        self.push(Op::Special(Reg::D(d), special));
                        return Ok(InstructionClass::Move);
                    }
                    let a = self.s64(a, ty)?;
                    self.alu(map1(d, a, |a: u64| a));
                } else {
                    if ty.bytes() == 1 {
                        return self.bad_type(i, ty);
                    }
                    let d = self.d32(d, ty)?;
                    if let Operand::Name { name, offset: 0 } = a
                        && self.register(name).is_none()
                        && let Some((special, wide)) = Self::special(name)
                        && wide.bytes() == 4
                    {
                        self.push(Op::Special(Reg::W(d), special));
                        return Ok(InstructionClass::Move);
                    }
                    let a = self.s32(a, ty)?;
                    self.alu(map1(d, a, |a: u32| a));
                }
            }
        }
        Ok(InstructionClass::Move)
    }

    /// `mov.b128` between `.b128` registers and vectors of two or four narrower ones.
    fn mov128(&mut self, i: &Instruction) -> Result<InstructionClass> {
        let a = match &i.operands[1] {
            Operand::Vector(parts) if parts.len() == 2 => [
                self.s64(&parts[0], Type::B64)?,
                self.s64(&parts[1], Type::B64)?,
            ],
            Operand::Vector(parts) if parts.len() == 4 => {
                let mut halves = [self.temp64(), self.temp64()];
                for (half, pair) in halves.iter_mut().zip(parts.chunks_exact(2)) {
                    let (low, high) = (
                        self.s32(&pair[0], Type::B32)?,
                        self.s32(&pair[1], Type::B32)?,
                    );
                    self.alu(map2(*half, low, high, |low: u32, high: u32| {
                        u64::from(high) << 32 | u64::from(low)
                    }));
                }
                halves
            }
            // An address: its upper half is zero.
            Operand::Name { name, .. } if self.register(name).is_none() => {
                [self.s64(&i.operands[1], Type::B64)?, self.bits64(0)]
            }
            whole => self.quad(whole)?,
        };
        let d = match &i.operands[0] {
            Operand::Vector(parts) if parts.len() == 2 => [
                self.d64(&parts[0], Type::B64)?,
                self.d64(&parts[1], Type::B64)?,
            ],
            Operand::Vector(parts) if parts.len() == 4 => {
                // Sources are read whole before the first part is written.
                let halves = [self.temp64(), self.temp64()];
                for (copy, half) in halves.iter().zip(a) {
                    self.alu(map1(*copy, half, |v: u64| v));
                }
                for (n, part) in parts.iter().enumerate() {
                    let d = self.d32(part, Type::B32)?;
                    let shift = 32 * (n % 2);
                    self.alu(map1(d, halves[n / 2], move |v: u64| (v >> shift) as u32));
                }
                return Ok(InstructionClass::Move);
            }
            Operand::Number(_) => return self.operand_error("a number can't be written"),
            whole => self.quad(whole)?,
        };
        self.alu(Box::new(move |r: &mut Regs, mask| {
            let v = a.map(|s| *r.get64(s));
            r.put64(d[0], &v[0], mask);
            r.put64(d[1], &v[1], mask);
        }));
        Ok(InstructionClass::Move)
    }

    /// The type of `count` equal parts of a type.
    fn element(&self, ty: Type, count: usize) -> Result<Type> {
        match (ty.bytes() as usize).checked_div(count) {
            Some(1) if ty.bytes() as usize == count => Ok(Type::B8),
            Some(2) if ty.bytes() as usize == 2 * count => Ok(Type::B16),
            Some(4) if ty.bytes() as usize == 4 * count => Ok(Type::B32),
            _ => self.operand_error(format!("a {ty:?} has no {count} equal parts")),
        }
    }

    /// `cvta`
    pub(super) fn cvta(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
    ) -> Result<InstructionClass> {
        let to = m.flag("to");
        let space = m.pick(|m| {
            Some(match m {
                "global" | "const" => 0,
                "shared" | "shared::cta" => SHARED_WINDOW,
                "local" => LOCAL_WINDOW,
                "param" | "param::entry" => PARAM_WINDOW,
                _ => return None,
            })
        });
        let Some(window) = space else {
            return self.operand_error("`cvta` needs a state space");
        };
        let ty = self.one_type(m, i)?;
        if ty != Type::U64 {
            return self.bad_type(i, ty);
        }
        let (d, [a]) = self.same64::<1>(i, ty)?;
        self.alu(match (window, to) {
            (0, _) => map1(d, a, |a: u64| a),
            (w, true) => map1(d, a, move |a: u64| a.wrapping_sub(w)),
            (w, false) => map1(d, a, move |a: u64| a.wrapping_add(w)),
        });
        Ok(InstructionClass::Move)
    }
}
