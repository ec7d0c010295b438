//! Video instructions: scalar ones on parts of registers, and SIMD ones.

use super::super::names::{Lowering, Modifiers, RegisterSlot, Result, describe};
use super::compare::int_cmp;
use crate::arith::video::{
    Secondary, SimdOp, Video, VideoMad, VideoOp, VideoOperand, VideoPart, VideoSimd,
};
use crate::ir::code::InstructionClass;
use crate::ir::regs::{Reg, S32, map3};
use crate::ptx::ast::{Instruction, Operand, Type};

impl Lowering<'_> {
    /// An operand of a scalar video instruction: a register with `.b0`…`.b3` or `.h0`, `.h1`.
    fn part(&mut self, operand: &Operand, signed: bool) -> Result<(S32, VideoOperand)> {
        let Operand::Name { name, offset: 0 } = operand else {
            let s = self.s32(operand, Type::B32)?;
            return Ok((
                s,
                VideoOperand {
                    signed,
                    part: VideoPart::Word,
                },
            ));
        };
        let (stem, part) = match name.rsplit_once('.') {
            Some((stem, p)) => {
                let part = match p {
                    "b0" => VideoPart::Byte(0),
                    "b1" => VideoPart::Byte(1),
                    "b2" => VideoPart::Byte(2),
                    "b3" => VideoPart::Byte(3),
                    "h0" => VideoPart::Half(0),
                    "h1" => VideoPart::Half(1),
                    _ => {
                        return self.operand_error(format!("`.{p}` selects no part of a register"));
                    }
                };
                (stem, part)
            }
            None => (name.as_str(), VideoPart::Word),
        };
        match self.register(stem) {
            Some((_, RegisterSlot::Reg(Reg::W(s)))) => Ok((s, VideoOperand { signed, part })),
            _ => self.operand_error(format!(
                "expected a 32-bit register, found {}",
                describe(operand)
            )),
        }
    }

    /// Lowers a video instruction; `None` if the opcode isn't one.
    pub(super) fn video(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
    ) -> Result<Option<InstructionClass>> {
        let (stem, elements) = match i.opcode.strip_suffix('2') {
            Some(s) => (s, 2),
            None => match i.opcode.strip_suffix('4') {
                Some(s) => (s, 4),
                None => (i.opcode.as_str(), 1),
            },
        };
        if !matches!(
            stem,
            "vadd"
                | "vsub"
                | "vabsdiff"
                | "vmin"
                | "vmax"
                | "vshl"
                | "vshr"
                | "vmad"
                | "vset"
                | "vavrg"
        ) {
            return Ok(None);
        }
        let sat = m.flag("sat");
        let cmp = if stem == "vset" {
            m.pick(int_cmp)
        } else {
            None
        };
        let wrap = m.flag("wrap");
        m.flag("clamp");
        let shift = m.pick(|m| match m {
            "shr7" => Some(7),
            "shr15" => Some(15),
            _ => None,
        });
        let plus_one = m.flag("po");
        let second = m.pick(|m| match m {
            "add" => Some("add"),
            "min" => Some("min"),
            "max" => Some("max"),
            _ => None,
        });
        let types = m.types();
        let types = match (stem, types.len()) {
            ("vset", 2) if elements == 1 => vec![Type::U32, types[0], types[1]],
            ("vset", 2) => vec![Type::U32, types[0], types[1]],
            (_, 3) => types,
            _ => return self.operand_error(format!("`{}` takes three types", i.text())),
        };
        let [dt, at, bt] = types[..] else {
            return self.operand_error("a video instruction takes three types");
        };
        if i.operands.len() < 3 {
            return self.operand_error(format!("`{}` takes at least three operands", i.text()));
        }
        if elements > 1 {
            let accumulate = second == Some("add");
            let op = match (stem, cmp) {
                ("vadd", _) => SimdOp::Add,
                ("vsub", _) => SimdOp::Sub,
                ("vavrg", _) => SimdOp::Average,
                ("vabsdiff", _) => SimdOp::AbsDiff,
                ("vmin", _) => SimdOp::Min,
                ("vmax", _) => SimdOp::Max,
                ("vset", Some(c)) => SimdOp::Set(c),
                _ => return Ok(None),
            };
            let (d_operand, mask) = self.video_mask(&i.operands[0], elements)?;
            let d = self.d32(&d_operand, Type::B32)?;
            let (a, a_select) = self.video_select(&i.operands[1], elements, 0)?;
            let (b, b_select) = self.video_select(&i.operands[2], elements, elements as u8)?;
            let c = match i.operands.get(3) {
                Some(c) => self.s32(c, Type::B32)?,
                None => self.bits32(0),
            };
            let simd = VideoSimd {
                op,
                elements,
                signed: dt.is_signed(),
                a_signed: at.is_signed(),
                b_signed: bt.is_signed(),
                a_select,
                b_select,
                mask,
                sat,
                accumulate,
            };
            self.alu(map3(d, a, b, c, move |a, b, c| simd.apply(a, b, c)));
            return Ok(Some(InstructionClass::Integer));
        }
        if stem == "vmad" {
            self.operands(i, 4)?;
            let split = |o: &Operand| match o {
                Operand::Negated(name) => (
                    Operand::Name {
                        name: name.clone(),
                        offset: 0,
                    },
                    true,
                ),
                other => (other.clone(), false),
            };
            let [(a, negate_a), (b, negate_b), (c, negate_c)] =
                [&i.operands[1], &i.operands[2], &i.operands[3]].map(split);
            let negate_product = negate_a != negate_b;
            if (negate_product && negate_c) || (plus_one && (negate_a || negate_b || negate_c)) {
                return self.operand_error(
                    "`vmad` negates the product or the addend, and neither with `.po`",
                );
            }
            let d = self.d32(&i.operands[0], Type::B32)?;
            let (a, oa) = self.part(&a, at.is_signed())?;
            let (b, ob) = self.part(&b, bt.is_signed())?;
            let c = self.s32(&c, Type::B32)?;
            let mad = VideoMad {
                a: oa,
                b: ob,
                negate_product,
                negate_c,
                plus_one,
                scale: shift.unwrap_or(0),
                sat,
            };
            self.alu(map3(d, a, b, c, move |a, b, c| mad.apply(a, b, c)));
            return Ok(Some(InstructionClass::Integer));
        }
        let op = match (stem, cmp) {
            ("vadd", _) => VideoOp::Add,
            ("vsub", _) => VideoOp::Sub,
            ("vabsdiff", _) => VideoOp::AbsDiff,
            ("vmin", _) => VideoOp::Min,
            ("vmax", _) => VideoOp::Max,
            ("vshl", _) => VideoOp::ShiftLeft { wrap },
            ("vshr", _) => VideoOp::ShiftRight { wrap },
            ("vset", Some(c)) => VideoOp::Set(c),
            _ => return self.operand_error(format!("`{}` needs a comparison", i.text())),
        };
        let (d_name, merge) = match &i.operands[0] {
            Operand::Name { name, offset: 0 } if name.contains('.') => {
                let (stem, _) = name.rsplit_once('.').unwrap_or((name, ""));
                let (_, o) = self.part(&i.operands[0], false)?;
                (
                    Operand::Name {
                        name: stem.to_owned(),
                        offset: 0,
                    },
                    Some(o.part),
                )
            }
            other => (other.clone(), None),
        };
        let d = self.d32(&d_name, Type::B32)?;
        let (a, oa) = self.part(&i.operands[1], at.is_signed())?;
        let (b, ob) = self.part(&i.operands[2], bt.is_signed())?;
        let c = match i.operands.get(3) {
            Some(c) => self.s32(c, Type::B32)?,
            None => self.bits32(0),
        };
        let secondary = match (merge, second) {
            (Some(part), _) => Secondary::Merge(part),
            (None, Some("add")) => Secondary::Add,
            (None, Some("min")) => Secondary::Min,
            (None, Some(_)) => Secondary::Max,
            (None, None) => Secondary::None,
        };
        let video = Video {
            op,
            signed: dt.is_signed(),
            a: oa,
            b: ob,
            sat,
            secondary,
        };
        self.alu(map3(d, a, b, c, move |a, b, c| video.apply(a, b, c)));
        Ok(Some(InstructionClass::Integer))
    }

    /// The `.b3210` or `.h10` of a SIMD video source: which elements of `b:a` it takes.
    fn video_select(
        &mut self,
        operand: &Operand,
        elements: u32,
        first: u8,
    ) -> Result<(S32, [u8; 4])> {
        let default = [first, first + 1, first + 2, first + 3];
        let Operand::Name { name, offset: 0 } = operand else {
            return Ok((self.s32(operand, Type::B32)?, default));
        };
        let Some((stem, suffix)) = name.rsplit_once('.') else {
            return Ok((self.s32(operand, Type::B32)?, default));
        };
        let mut select = default;
        let digits = suffix.get(1..).unwrap_or("");
        if digits.len() != elements as usize {
            return self.operand_error(format!("`.{suffix}` doesn't select {elements} elements"));
        }
        for (slot, digit) in select.iter_mut().zip(digits.bytes().rev()) {
            if !digit.is_ascii_digit() || u32::from(digit - b'0') >= 2 * elements {
                return self
                    .operand_error(format!("`.{suffix}` selects an element that doesn't exist"));
            }
            *slot = digit - b'0';
        }
        Ok((
            self.s32(
                &Operand::Name {
                    name: stem.to_owned(),
                    offset: 0,
                },
                Type::B32,
            )?,
            select,
        ))
    }

    /// The `.b310` or `.h1` of a SIMD video destination: which elements it writes.
    fn video_mask(&mut self, operand: &Operand, elements: u32) -> Result<(Operand, u8)> {
        let all = ((1u32 << elements) - 1) as u8;
        let Operand::Name { name, offset: 0 } = operand else {
            return Ok((operand.clone(), all));
        };
        let Some((stem, suffix)) = name.rsplit_once('.') else {
            return Ok((operand.clone(), all));
        };
        let mut mask = 0;
        for digit in suffix.bytes().skip(1) {
            if !digit.is_ascii_digit() || u32::from(digit - b'0') >= elements {
                return self
                    .operand_error(format!("`.{suffix}` selects an element that doesn't exist"));
            }
            mask |= 1 << (digit - b'0');
        }
        Ok((
            Operand::Name {
                name: stem.to_owned(),
                offset: 0,
            },
            mask,
        ))
    }
}
