//! Types, roundings and operands, as all classes of instructions read them.

use super::super::names::{Lowering, Modifiers, Result};
use crate::arith::float::{FloatType, IntType, Round};
use crate::ir::code::Op;
use crate::ir::regs::{AluFn, Reg, S32, S64};
use crate::ptx::LoadErrorKind;
use crate::ptx::ast::{Instruction, Type};

/// The integer type of a PTX type: bits count as unsigned.
pub(in crate::ir::lower) fn int_type(ty: Type) -> Option<IntType> {
    Some(match ty {
        Type::U8 | Type::B8 => IntType::U8,
        Type::S8 => IntType::S8,
        Type::U16 | Type::B16 => IntType::U16,
        Type::S16 => IntType::S16,
        Type::U32 | Type::B32 => IntType::U32,
        Type::S32 => IntType::S32,
        Type::U64 | Type::B64 => IntType::U64,
        Type::S64 => IntType::S64,
        _ => return None,
    })
}

/// The floating-point type of a PTX type that isn't packed.
pub(super) fn float_type(ty: Type) -> Option<FloatType> {
    Some(match ty {
        Type::F16 => FloatType::F16,
        Type::BF16 => FloatType::Bf16,
        Type::F32 => FloatType::F32,
        Type::F64 => FloatType::F64,
        _ => return None,
    })
}

/// Whether numbers of a type are 16-bit floats, packed or not.
pub(super) fn is_half(ty: Type) -> bool {
    matches!(ty, Type::F16 | Type::F16x2 | Type::BF16 | Type::BF16x2)
}

/// Takes the rounding modifier.
pub(super) fn round(m: &mut Modifiers<'_>) -> Option<Round> {
    m.pick(|m| {
        Some(match m {
            "rn" | "rni" => Round::Nearest,
            "rz" | "rzi" => Round::Zero,
            "rm" | "rmi" => Round::NegInf,
            "rp" | "rpi" => Round::PosInf,
            "rna" => Round::NearestAway,
            _ => return None,
        })
    })
}

impl Lowering<'_> {
    /// Adds an instruction that only touches registers.
    pub(super) fn alu(&mut self, f: AluFn) {
        self.push(Op::Alu(f));
    }

    /// Checks the number of operands.
    pub(super) fn operands(&self, i: &Instruction, count: usize) -> Result<()> {
        if i.operands.len() == count {
            Ok(())
        } else {
            self.operand_error(format!(
                "`{}` takes {count} operands, found {}",
                i.text(),
                i.operands.len()
            ))
        }
    }

    /// Takes the only type modifier.
    pub(super) fn one_type(&self, m: &mut Modifiers<'_>, i: &Instruction) -> Result<Type> {
        let types = m.types();
        match types[..] {
            [ty] => Ok(ty),
            _ => self.operand_error(format!(
                "`{}` takes one type, found {}",
                i.text(),
                types.len()
            )),
        }
    }

    /// The error for a type that the instruction has not.
    pub(super) fn bad_type<T>(&self, i: &Instruction, ty: Type) -> Result<T> {
        self.fail(
            LoadErrorKind::Unsupported,
            format!("`{}`: `{}` has no type {ty:?} on sm_86", i.text(), i.opcode),
        )
    }

    /// The destination and `N` sources, all of the destination's type.
    pub(super) fn same<const N: usize>(
        &mut self,
        i: &Instruction,
        ty: Type,
    ) -> Result<(Reg, [Reg; N])> {
        self.operands(i, N + 1)?;
        let d = self.dest(&i.operands[0], ty, false)?.0;
        let mut sources = [d; N];
        for (slot, operand) in sources.iter_mut().zip(&i.operands[1..]) {
            *slot = self.source(operand, ty, false)?;
        }
        Ok((d, sources))
    }

    /// [`Lowering::same`] for types of at most 32 bits.
    pub(super) fn same32<const N: usize>(
        &mut self,
        i: &Instruction,
        ty: Type,
    ) -> Result<(S32, [S32; N])> {
        self.operands(i, N + 1)?;
        let d = self.d32(&i.operands[0], ty)?;
        let mut sources = [d; N];
        for (slot, operand) in sources.iter_mut().zip(&i.operands[1..]) {
            *slot = self.s32(operand, ty)?;
        }
        Ok((d, sources))
    }

    /// [`Lowering::same`] for types of 64 bits.
    pub(super) fn same64<const N: usize>(
        &mut self,
        i: &Instruction,
        ty: Type,
    ) -> Result<(S64, [S64; N])> {
        self.operands(i, N + 1)?;
        let d = self.d64(&i.operands[0], ty)?;
        let mut sources = [d; N];
        for (slot, operand) in sources.iter_mut().zip(&i.operands[1..]) {
            *slot = self.s64(operand, ty)?;
        }
        Ok((d, sources))
    }
}
