//! Instructions that only touch registers: integer, floating point, logic, comparison, moves.

use super::names::{Lowering, Modifiers, Place, Result, describe};
use crate::arith::float::{
    self, Convert, FloatClass, FloatCmp, FloatType, HalfMode, IntType, MinMax, Mode, Round,
};
use crate::arith::int::{self, IntCmp, PermuteMode};
use crate::arith::video::{
    Operand as VideoOperand, Part, Secondary, SimdOp, Video, VideoMad, VideoOp, VideoSimd,
};
use crate::arith::{Lanes, WARP, approx, warp};
use crate::ir::code::{Class, Op, Reg};
use crate::ir::regs::{AluFn, Regs, S32, S64, SP, hot, map_wide, map1, map2, map3};
use crate::memory::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW};
use crate::ptx::LoadErrorKind;
use crate::ptx::ast::{Instruction, Number, Operand, Type};

pub(super) fn int_type(ty: Type) -> Option<IntType> {
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

fn float_type(ty: Type) -> Option<FloatType> {
    Some(match ty {
        Type::F16 => FloatType::F16,
        Type::BF16 => FloatType::Bf16,
        Type::F32 => FloatType::F32,
        Type::F64 => FloatType::F64,
        _ => return None,
    })
}

fn is_half(ty: Type) -> bool {
    matches!(ty, Type::F16 | Type::F16x2 | Type::BF16 | Type::BF16x2)
}

fn round(m: &mut Modifiers<'_>) -> Option<Round> {
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

fn int_cmp(text: &str) -> Option<IntCmp> {
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

/// How a comparison's result is combined with another predicate.
#[derive(Clone, Copy)]
enum Combine {
    And,
    Or,
    Xor,
}

fn combine(m: &mut Modifiers<'_>) -> Option<Combine> {
    m.pick(|m| {
        Some(match m {
            "and" => Combine::And,
            "or" => Combine::Or,
            "xor" => Combine::Xor,
            _ => return None,
        })
    })
}

impl Combine {
    fn apply(self, a: u32, b: u32) -> u32 {
        match self {
            Combine::And => a & b,
            Combine::Or => a | b,
            Combine::Xor => a ^ b,
        }
    }
}

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

macro_rules! by_type32 {
    ($ty:expr, $signed:expr, $unsigned:expr) => {
        if $ty.is_signed() { $signed } else { $unsigned }
    };
}

fn reduce_bits(test: impl Fn(usize) -> bool) -> u32 {
    let mut bits = 0;
    for lane in 0..WARP {
        bits |= u32::from(test(lane)) << lane;
    }
    bits
}

impl Lowering<'_> {
    fn alu(&mut self, f: AluFn) {
        self.push(Op::Alu(f));
    }

    fn operands(&self, i: &Instruction, count: usize) -> Result<()> {
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

    fn one_type(&self, m: &mut Modifiers<'_>, i: &Instruction) -> Result<Type> {
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

    fn bad_type<T>(&self, i: &Instruction, ty: Type) -> Result<T> {
        self.fail(
            LoadErrorKind::Unsupported,
            format!("`{}`: `{}` has no type {ty:?} on sm_86", i.text(), i.opcode),
        )
    }

    /// Operands `1..` of the destination's type.
    fn same<const N: usize>(&mut self, i: &Instruction, ty: Type) -> Result<(Reg, [Reg; N])> {
        self.operands(i, N + 1)?;
        let d = self.dest(&i.operands[0], ty, false)?.0;
        let mut sources = [d; N];
        for (slot, operand) in sources.iter_mut().zip(&i.operands[1..]) {
            *slot = self.source(operand, ty, false)?;
        }
        Ok((d, sources))
    }

    fn same32<const N: usize>(&mut self, i: &Instruction, ty: Type) -> Result<(S32, [S32; N])> {
        self.operands(i, N + 1)?;
        let d = self.d32(&i.operands[0], ty)?;
        let mut sources = [d; N];
        for (slot, operand) in sources.iter_mut().zip(&i.operands[1..]) {
            *slot = self.s32(operand, ty)?;
        }
        Ok((d, sources))
    }

    fn same64<const N: usize>(&mut self, i: &Instruction, ty: Type) -> Result<(S64, [S64; N])> {
        self.operands(i, N + 1)?;
        let d = self.d64(&i.operands[0], ty)?;
        let mut sources = [d; N];
        for (slot, operand) in sources.iter_mut().zip(&i.operands[1..]) {
            *slot = self.s64(operand, ty)?;
        }
        Ok((d, sources))
    }

    fn carry(&mut self) -> SP {
        if let Some(c) = self.carry {
            return c;
        }
        let c = self.temp_pred();
        self.carry = Some(c);
        c
    }

    /// Lowers an instruction of this room; `None` if the opcode isn't one.
    pub(super) fn lower_alu(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
    ) -> Result<Option<Class>> {
        let op = i.opcode.as_str();
        let class = match op {
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
            "dp4a" | "dp2a" => {
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
                Class::Integer
            }
            "testp" => {
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
                Class::Predicate
            }
            "setp" => self.setp(i, m)?,
            "set" => self.set(i, m)?,
            "selp" => {
                let ty = self.one_type(m, i)?;
                self.operands(i, 4)?;
                let (p, negated) = self.pred(&i.operands[3])?;
                if ty.bytes() == 8 {
                    let d = self.d64(&i.operands[0], ty)?;
                    let (mut a, mut b) =
                        (self.s64(&i.operands[1], ty)?, self.s64(&i.operands[2], ty)?);
                    if negated {
                        std::mem::swap(&mut a, &mut b);
                    }
                    self.alu(map3(d, a, b, p, |a, b, p| if p { a } else { b }));
                } else {
                    if ty.bytes() == 1 {
                        return self.bad_type(i, ty);
                    }
                    let d = self.d32(&i.operands[0], ty)?;
                    let (mut a, mut b) =
                        (self.s32(&i.operands[1], ty)?, self.s32(&i.operands[2], ty)?);
                    if negated {
                        std::mem::swap(&mut a, &mut b);
                    }
                    self.alu(map3(d, a, b, p, |a, b, p| if p { a } else { b }));
                }
                Class::Move
            }
            "slct" => {
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
                    Type::S32 => {
                        self.alu(map_wide(
                            d,
                            [a, b, c],
                            |[a, b, c]| if c as i32 >= 0 { a } else { b },
                        ))
                    }
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
                Class::Move
            }
            "and" | "or" | "xor" => {
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
                        Class::Predicate
                    }
                    Type::B16 | Type::B32 => {
                        let (d, [a, b]) = self.same32::<2>(i, ty)?;
                        self.alu(match op {
                            "and" => map2(d, a, b, |a, b| a & b),
                            "or" => map2(d, a, b, |a, b| a | b),
                            _ => map2(d, a, b, |a, b| a ^ b),
                        });
                        Class::Integer
                    }
                    Type::B64 => {
                        let (d, [a, b]) = self.same64::<2>(i, ty)?;
                        self.alu(match op {
                            "and" => map2(d, a, b, |a, b| a & b),
                            "or" => map2(d, a, b, |a, b| a | b),
                            _ => map2(d, a, b, |a, b| a ^ b),
                        });
                        Class::Integer
                    }
                    _ => return self.bad_type(i, ty),
                }
            }
            "not" | "cnot" => {
                let ty = self.one_type(m, i)?;
                let not = op == "not";
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
                        Class::Predicate
                    }
                    Type::B16 => {
                        let (d, [a]) = self.same32::<1>(i, ty)?;
                        self.alu(if not {
                            map1(d, a, |a| a ^ 0xffff)
                        } else {
                            map1(d, a, |a| u32::from(a == 0))
                        });
                        Class::Integer
                    }
                    Type::B32 => {
                        let (d, [a]) = self.same32::<1>(i, ty)?;
                        self.alu(if not {
                            map1(d, a, |a: u32| !a)
                        } else {
                            map1(d, a, |a| u32::from(a == 0))
                        });
                        Class::Integer
                    }
                    Type::B64 => {
                        let (d, [a]) = self.same64::<1>(i, ty)?;
                        self.alu(if not {
                            map1(d, a, |a: u64| !a)
                        } else {
                            map1(d, a, |a| u64::from(a == 0))
                        });
                        Class::Integer
                    }
                    _ => return self.bad_type(i, ty),
                }
            }
            "shl" | "shr" => {
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
                    ("shr", Reg::W(d), Reg::W(a)) if bits == 32 => self.alu(by_type32!(
                        ty,
                        map2(d, a, n, |a: u32, n: u32| (a as i32 >> n.min(31)) as u32),
                        map2(d, a, n, |a: u32, n| if n >= 32 { 0 } else { a >> (n & 31) })
                    )),
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
                Class::Integer
            }
            "shf" => {
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
                Class::Integer
            }
            "lop3" => {
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
                            let bits =
                                how.apply(reduce_bits(|l| out[l] != 0), r.get_pred(q) ^ flip);
                            r.put32(d, &out, mask);
                            r.put_pred(p, bits, mask);
                        }));
                    }
                    _ => self.alu(map3(d, a, b, c, move |a, b, c| int::lop3(a, b, c, table))),
                }
                Class::Integer
            }
            "prmt" => {
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
                Class::Integer
            }
            "mov" => self.mov(i, m)?,
            "cvt" => self.cvt(i, m)?,
            "cvta" => {
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
                Class::Move
            }
            _ if op.starts_with('v') => match self.video(i, m)? {
                Some(class) => class,
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        Ok(Some(class))
    }

    fn arithmetic(&mut self, i: &Instruction, m: &mut Modifiers<'_>, ty: Type) -> Result<Class> {
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

    fn integer(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
        ty: Type,
        int: IntType,
    ) -> Result<Class> {
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
                    return Ok(Class::Integer);
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
        Ok(Class::Integer)
    }

    fn multiply(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
        ty: Type,
        int: IntType,
    ) -> Result<Class> {
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
            return Ok(Class::Integer);
        }
        if wide {
            self.operands(i, if op == "mul" { 3 } else { 4 })?;
            let d = self.dest(&i.operands[0], twice, false)?.0;
            let a = self.source(&i.operands[1], ty, false)?;
            let b = self.source(&i.operands[2], ty, false)?;
            match (op, d, a, b) {
                ("mul", Reg::D(d), Reg::W(a), Reg::W(b)) => self.alu(by_type32!(
                    ty,
                    map2(
                        d,
                        a,
                        b,
                        |a: u32, b: u32| (i64::from(a as i32) * i64::from(b as i32)) as u64
                    ),
                    map2(d, a, b, |a: u32, b: u32| u64::from(a) * u64::from(b))
                )),
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
            return Ok(Class::Integer);
        }
        match (op, high, bits) {
            ("mul", false, 32) => {
                let (d, [a, b]) = self.same32::<2>(i, ty)?;
                self.alu(map2(d, a, b, u32::wrapping_mul));
            }
            ("mul", true, 32) => {
                let (d, [a, b]) = self.same32::<2>(i, ty)?;
                self.alu(by_type32!(
                    ty,
                    map2(d, a, b, int::mul_hi_s32),
                    map2(d, a, b, int::mul_hi_u32)
                ));
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
        Ok(Class::Integer)
    }

    fn min_max(m: &mut Modifiers<'_>) -> MinMax {
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

    fn f32(&mut self, i: &Instruction, m: &mut Modifiers<'_>) -> Result<Class> {
        let ty = Type::F32;
        let op = i.opcode.as_str();
        let approximate = m.flag("approx");
        match op {
            "min" | "max" => {
                let how = Self::min_max(m);
                let (d, [a, b]) = self.same32::<2>(i, ty)?;
                let plain = how == MinMax::default();
                self.alu(match (op, plain) {
                    ("min", true) => hot!(d; x: S32 = a, y: S32 = b; float::min_f32(x, y, PLAIN)),
                    ("max", true) => hot!(d; x: S32 = a, y: S32 = b; float::max_f32(x, y, PLAIN)),
                    ("min", false) => map2(d, a, b, move |a, b| float::min_f32(a, b, how)),
                    _ => map2(d, a, b, move |a, b| float::max_f32(a, b, how)),
                });
                return Ok(Class::F32);
            }
            "copysign" => {
                let (d, [a, b]) = self.same32::<2>(i, ty)?;
                self.alu(map2(d, a, b, float::copysign_f32));
                return Ok(Class::F32);
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
                    Class::Special
                } else {
                    Class::F32
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
                    Class::Special
                } else {
                    Class::F32
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
                return Ok(Class::Special);
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
        Ok(Class::F32)
    }

    fn f64(&mut self, i: &Instruction, m: &mut Modifiers<'_>) -> Result<Class> {
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
                    Class::Special
                } else {
                    Class::F64
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
        Ok(Class::F64)
    }

    fn half(&mut self, i: &Instruction, m: &mut Modifiers<'_>, ty: Type) -> Result<Class> {
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
                let how = Self::min_max(m);
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
                return Ok(Class::Half);
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
                return Ok(Class::Special);
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
        Ok(Class::Half)
    }

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

    fn setp(&mut self, i: &Instruction, m: &mut Modifiers<'_>) -> Result<Class> {
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
        Ok(Class::Predicate)
    }

    fn set(&mut self, i: &Instruction, m: &mut Modifiers<'_>) -> Result<Class> {
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
        Ok(Class::Predicate)
    }

    fn mov(&mut self, i: &Instruction, m: &mut Modifiers<'_>) -> Result<Class> {
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
            return Ok(Class::Predicate);
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
                        return Ok(Class::Move);
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
                        return Ok(Class::Move);
                    }
                    let a = self.s32(a, ty)?;
                    self.alu(map1(d, a, |a: u32| a));
                }
            }
        }
        Ok(Class::Move)
    }

    /// `mov.b128` between `.b128` registers and vectors of two or four narrower ones.
    fn mov128(&mut self, i: &Instruction) -> Result<Class> {
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
                return Ok(Class::Move);
            }
            Operand::Number(_) => return self.operand_error("a number can't be written"),
            whole => self.quad(whole)?,
        };
        self.alu(Box::new(move |r: &mut Regs, mask| {
            let v = a.map(|s| *r.get64(s));
            r.put64(d[0], &v[0], mask);
            r.put64(d[1], &v[1], mask);
        }));
        Ok(Class::Move)
    }

    fn element(&self, ty: Type, count: usize) -> Result<Type> {
        match (ty.bytes() as usize).checked_div(count) {
            Some(1) if ty.bytes() as usize == count => Ok(Type::B8),
            Some(2) if ty.bytes() as usize == 2 * count => Ok(Type::B16),
            Some(4) if ty.bytes() as usize == 4 * count => Ok(Type::B32),
            _ => self.operand_error(format!("a {ty:?} has no {count} equal parts")),
        }
    }

    fn cvt(&mut self, i: &Instruction, m: &mut Modifiers<'_>) -> Result<Class> {
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
            return Ok(Class::Convert);
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
            return Ok(Class::Convert);
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
        Ok(Class::Convert)
    }

    fn cvt_pack(&mut self, i: &Instruction, m: &mut Modifiers<'_>) -> Result<Class> {
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
        Ok(Class::Convert)
    }

    /// An operand of a scalar video instruction: a register with `.b0`…`.b3` or `.h0`, `.h1`.
    fn part(&mut self, operand: &Operand, signed: bool) -> Result<(S32, VideoOperand)> {
        let Operand::Name { name, offset: 0 } = operand else {
            let s = self.s32(operand, Type::B32)?;
            return Ok((
                s,
                VideoOperand {
                    signed,
                    part: Part::Word,
                },
            ));
        };
        let (stem, part) = match name.rsplit_once('.') {
            Some((stem, p)) => {
                let part = match p {
                    "b0" => Part::Byte(0),
                    "b1" => Part::Byte(1),
                    "b2" => Part::Byte(2),
                    "b3" => Part::Byte(3),
                    "h0" => Part::Half(0),
                    "h1" => Part::Half(1),
                    _ => {
                        return self.operand_error(format!("`.{p}` selects no part of a register"));
                    }
                };
                (stem, part)
            }
            None => (name.as_str(), Part::Word),
        };
        match self.register(stem) {
            Some((_, Place::Reg(Reg::W(s)))) => Ok((s, VideoOperand { signed, part })),
            _ => self.operand_error(format!(
                "expected a 32-bit register, found {}",
                describe(operand)
            )),
        }
    }

    fn video(&mut self, i: &Instruction, m: &mut Modifiers<'_>) -> Result<Option<Class>> {
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
            return Ok(Some(Class::Integer));
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
            return Ok(Some(Class::Integer));
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
        Ok(Some(Class::Integer))
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
