//! Instructions that only touch registers, by class.
//!
//! | module | instructions |
//! |---|---|
//! | `operands`, `predicate` | what the classes share: types, operands, lane bits |
//! | `integer`, `logic` | integer arithmetic; logic, shifts, permutations |
//! | `float`, `half` | f32 and f64; f16 and bf16 |
//! | `compare`, `convert`, `moves` | comparisons and selections; conversions; moves |
//! | `video` | scalar and SIMD video instructions |

mod compare;
mod convert;
mod float;
mod half;
mod integer;
mod logic;
mod moves;
mod operands;
mod predicate;
mod video;

use super::names::{Lowering, Modifiers, Result};
use crate::ir::code::InstructionClass;
use crate::ptx::ast::{Instruction, Type};
pub(super) use operands::int_type;
use operands::is_half;

impl Lowering<'_> {
    /// Lowers an instruction that only touches registers; `None` if the opcode isn't one.
    pub(super) fn lower_alu(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
    ) -> Result<Option<InstructionClass>> {
        let class = match i.opcode.as_str() {
            "add" | "sub" | "mul" | "mad" | "fma" | "div" | "rem" | "abs" | "neg" | "min"
            | "max" | "rcp" | "sqrt" | "rsqrt" | "sin" | "cos" | "lg2" | "ex2" | "tanh"
            | "addc" | "subc" | "madc" | "sad" | "mul24" | "mad24" | "popc" | "clz" | "bfind"
            | "brev" | "bfe" | "bfi" | "fns" | "szext" | "bmsk" | "copysign" => {
                let ty = match m.types()[..] {
                    [ty] => ty,
                    // mul.wide and its kin have one type too; two only here:
                    _ => return self.operand_error(format!("`{}` takes one type", i.text())),
                };
                self.arithmetic(i, m, ty)?
            }
            "dp4a" | "dp2a" => self.dot_product(i, m)?,
            "testp" => self.test_class(i, m)?,
            "setp" => self.setp(i, m)?,
            "set" => self.set(i, m)?,
            "selp" => self.selp(i, m)?,
            "slct" => self.slct(i, m)?,
            "and" | "or" | "xor" => self.logic(i, m)?,
            "not" | "cnot" => self.complement(i, m)?,
            "shl" | "shr" => self.shift(i, m)?,
            "shf" => self.funnel_shift(i, m)?,
            "lop3" => self.lop3(i, m)?,
            "prmt" => self.permute(i, m)?,
            "mov" => self.mov(i, m)?,
            "cvt" => self.cvt(i, m)?,
            "cvta" => self.cvta(i, m)?,
            op if op.starts_with('v') => return self.video(i, m),
            _ => return Ok(None),
        };
        Ok(Some(class))
    }

    fn arithmetic(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
        ty: Type,
    ) -> Result<InstructionClass> {
        if is_half(ty) {
            return self.half(i, m, ty);
        }
        match ty {
            Type::F32 => self.f32(i, m),
            Type::F64 => self.f64(i, m),
            _ => match int_type(ty) {
                Some(int) => self.integer(i, m, ty, int),
                None => self.bad_type(i, ty),
            },
        }
    }
}
