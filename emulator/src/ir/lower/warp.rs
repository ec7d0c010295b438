//! Instructions that a warp executes together: shuffles, votes, matrix loads and products.

use super::names::{Lowering, Modifiers, Result};
use crate::arith::float::Round;
use crate::arith::matrix::{BitOp, Element, Fragment, Mma, QuadPairMma, Role, SparseMma};
use crate::ir::code::{
    AccessSpace, AtomicOp, Collective, FragmentMove, InstructionClass, LoadMatrix, MatrixMultiply,
    MmaKind, Op, ShuffleMode, VoteMode,
};
use crate::ir::regs::Reg;
use crate::ptx::LoadErrorKind;
use crate::ptx::ast::{Instruction, Number, Operand, Type};

fn element(text: &str) -> Option<Element> {
    Some(match text {
        "f16" => Element::F16,
        "bf16" => Element::Bf16,
        "tf32" => Element::Tf32,
        "f32" => Element::F32,
        "f64" => Element::F64,
        "s8" => Element::S8,
        "u8" => Element::U8,
        "s4" => Element::S4,
        "u4" => Element::U4,
        "b1" => Element::B1,
        "s32" => Element::S32,
        _ => return None,
    })
}

fn elements(m: &mut Modifiers<'_>) -> Vec<Element> {
    let mut out = Vec::new();
    while let Some(e) = m.pick(element) {
        out.push(e);
    }
    out
}

/// `m16n8k16`
fn shape(m: &mut Modifiers<'_>) -> Option<(u32, u32, u32)> {
    m.pick(|m| {
        let (rows, rest) = m.strip_prefix('m')?.split_once('n')?;
        let (cols, depth) = rest.split_once('k')?;
        Some((rows.parse().ok()?, cols.parse().ok()?, depth.parse().ok()?))
    })
}

fn layout(m: &mut Modifiers<'_>) -> Option<bool> {
    m.pick(|m| match m {
        "row" => Some(false),
        "col" => Some(true),
        _ => None,
    })
}

fn rounding(m: &mut Modifiers<'_>) -> Round {
    m.pick(|m| {
        Some(match m {
            "rn" => Round::Nearest,
            "rz" => Round::Zero,
            "rm" => Round::NegInf,
            "rp" => Round::PosInf,
            _ => return None,
        })
    })
    .unwrap_or_default()
}

/// The type of the registers that hold a fragment.
fn register_type(e: Element) -> Type {
    if e == Element::F64 {
        Type::F64
    } else {
        Type::B32
    }
}

impl Lowering<'_> {
    fn no_such<T>(&self, i: &Instruction) -> Result<T> {
        self.fail(
            LoadErrorKind::Unsupported,
            format!("`{}` doesn't exist on sm_86", i.text()),
        )
    }

    fn fragment_registers(
        &mut self,
        i: &Instruction,
        operand: &Operand,
        e: Element,
        count: u32,
        write: bool,
    ) -> Result<Vec<Reg>> {
        let list = match operand {
            Operand::Vector(list) => list.as_slice(),
            other => std::slice::from_ref(other),
        };
        if list.len() != count as usize {
            return self.operand_error(format!(
                "`{}`: this operand has {count} registers, found {}",
                i.text(),
                list.len()
            ));
        }
        let ty = register_type(e);
        let mut out = Vec::with_capacity(list.len());
        for o in list {
            out.push(if write {
                self.dest(o, ty, false)?.0
            } else {
                self.source(o, ty, false)?
            });
        }
        Ok(out)
    }

    pub(super) fn lower_warp(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
    ) -> Result<Option<InstructionClass>> {
        Ok(Some(match i.opcode.as_str() {
            "shfl" => self.shuffle(i, m)?,
            "vote" => self.vote(i, m)?,
            "match" => {
                m.flag("sync");
                let all = m.flag("all");
                if !all && !m.flag("any") {
                    return self.operand_error("`match.sync` needs `.any` or `.all`");
                }
                let types = m.types();
                let [ty @ (Type::B32 | Type::B64)] = types[..] else {
                    return self.no_such(i);
                };
                let [d, a, mask] = &i.operands[..] else {
                    return self.operand_error("`match.sync` takes three operands");
                };
                let (d, p) = match d {
                    Operand::Pair(d, p) if all => (self.d32(d, Type::B32)?, Some(self.dpred(p)?)),
                    d => (self.d32(d, Type::B32)?, None),
                };
                let a = self.source(a, ty, false)?;
                let mask = self.s32(mask, Type::B32)?;
                self.push(Op::Collective(
                    mask,
                    Box::new(Collective::Match { all, d, p, a }),
                ));
                InstructionClass::Warp
            }
            "redux" => {
                m.flag("sync");
                let op = m.pick(|m| {
                    Some(match m {
                        "add" => AtomicOp::Add,
                        "min" => AtomicOp::Min,
                        "max" => AtomicOp::Max,
                        "and" => AtomicOp::And,
                        "or" => AtomicOp::Or,
                        "xor" => AtomicOp::Xor,
                        _ => return None,
                    })
                });
                let types = m.types();
                let [ty] = types[..] else {
                    return self.no_such(i);
                };
                let arithmetic = matches!(op, Some(AtomicOp::Add | AtomicOp::Min | AtomicOp::Max));
                let fits = if arithmetic {
                    matches!(ty, Type::U32 | Type::S32)
                } else {
                    ty == Type::B32
                };
                let (Some(op), true, [d, a, mask]) = (op, fits, &i.operands[..]) else {
                    return self.no_such(i);
                };
                let (d, a, mask) = (
                    self.d32(d, ty)?,
                    self.s32(a, ty)?,
                    self.s32(mask, Type::B32)?,
                );
                let signed = ty == Type::S32;
                self.push(Op::Collective(
                    mask,
                    Box::new(Collective::Reduce { op, signed, d, a }),
                ));
                InstructionClass::Warp
            }
            // The assembler asks for sm_90, but sm_86 has everything that the instruction needs.
            "elect" => {
                m.flag("sync");
                let [Operand::Pair(d, p), mask] = &i.operands[..] else {
                    return self.operand_error("`elect.sync` takes `d|p` and a member mask");
                };
                let d = match &**d {
                    Operand::Sink => None,
                    d => Some(self.d32(d, Type::B32)?),
                };
                let p = self.dpred(p)?;
                let mask = self.s32(mask, Type::B32)?;
                self.push(Op::Collective(mask, Box::new(Collective::Elect { d, p })));
                InstructionClass::Warp
            }
            "activemask" => {
                m.types();
                let [d] = &i.operands[..] else {
                    return self.operand_error("`activemask` takes one operand");
                };
                let d = self.d32(d, Type::B32)?;
                self.push(Op::ActiveMask(d));
                InstructionClass::Warp
            }
            "ldmatrix" => {
                let aligned = m.flag("sync") && m.flag("aligned") && m.flag("m8n8");
                let count = m.pick(|m| match m {
                    "x1" => Some(1),
                    "x2" => Some(2),
                    "x4" => Some(4),
                    _ => None,
                });
                let transpose = m.flag("trans");
                let space = if m.flag("shared") || m.flag("shared::cta") {
                    AccessSpace::Shared
                } else {
                    AccessSpace::Generic
                };
                let sixteen = m.flag("b16");
                let (Some(count), true, true, [d, a]) = (count, aligned, sixteen, &i.operands[..])
                else {
                    return self.no_such(i);
                };
                let regs = self.fragment_registers(i, d, Element::F16, count, true)?;
                let d = regs
                    .into_iter()
                    .filter_map(|r| if let Reg::W(s) = r { Some(s) } else { None })
                    .collect();
                let (address, space) = self.address(a, space)?;
                self.push(Op::LoadMatrix(Box::new(LoadMatrix {
                    d,
                    transpose,
                    space,
                    address,
                })));
                InstructionClass::LoadMatrix
            }
            "movmatrix" => {
                let form = m.flag("sync")
                    && m.flag("aligned")
                    && m.flag("m8n8")
                    && m.flag("trans")
                    && m.flag("b16");
                let (true, [d, a]) = (form, &i.operands[..]) else {
                    return self.no_such(i);
                };
                let (d, a) = (self.d32(d, Type::B32)?, self.s32(a, Type::B32)?);
                self.push(Op::MoveMatrix(d, a));
                InstructionClass::Warp
            }
            "mma" => self.mma(i, m)?,
            "wmma" => self.wmma(i, m)?,
            _ => return Ok(None),
        }))
    }

    fn shuffle(&mut self, i: &Instruction, m: &mut Modifiers<'_>) -> Result<InstructionClass> {
        if !m.flag("sync") {
            return self.no_such(i);
        }
        let mode = m.pick(|m| {
            Some(match m {
                "up" => ShuffleMode::Up,
                "down" => ShuffleMode::Down,
                "bfly" => ShuffleMode::Bfly,
                "idx" => ShuffleMode::Idx,
                _ => return None,
            })
        });
        let types = m.types();
        let (Some(mode), [Type::B32], [d, a, b, c, mask]) = (mode, &types[..], &i.operands[..])
        else {
            return self.no_such(i);
        };
        let (d, p) = match d {
            Operand::Pair(d, p) => (self.d32(d, Type::B32)?, Some(self.dpred(p)?)),
            d => (self.d32(d, Type::B32)?, None),
        };
        let a = self.s32(a, Type::B32)?;
        let b = self.s32(b, Type::B32)?;
        let c = self.s32(c, Type::B32)?;
        let mask = self.s32(mask, Type::B32)?;
        self.push(Op::Collective(
            mask,
            Box::new(Collective::Shuffle {
                mode,
                d,
                p,
                a,
                b,
                c,
            }),
        ));
        Ok(InstructionClass::Warp)
    }

    fn vote(&mut self, i: &Instruction, m: &mut Modifiers<'_>) -> Result<InstructionClass> {
        if !m.flag("sync") {
            return self.no_such(i);
        }
        let mode = m.pick(|m| {
            Some(match m {
                "all" => VoteMode::All,
                "any" => VoteMode::Any,
                "uni" => VoteMode::Uni,
                "ballot" => VoteMode::Ballot,
                _ => return None,
            })
        });
        m.types();
        let (Some(mode), [d, a, mask]) = (mode, &i.operands[..]) else {
            return self.no_such(i);
        };
        let (mut pred, mut ballot) = (None, None);
        if mode == VoteMode::Ballot {
            ballot = Some(self.d32(d, Type::B32)?);
        } else {
            pred = Some(self.dpred(d)?);
        }
        let (source, negated) = self.pred(a)?;
        let mask = self.s32(mask, Type::B32)?;
        self.push(Op::Collective(
            mask,
            Box::new(Collective::Vote {
                mode,
                source,
                negated,
                pred,
                ballot,
            }),
        ));
        Ok(InstructionClass::Warp)
    }

    fn mma(&mut self, i: &Instruction, m: &mut Modifiers<'_>) -> Result<InstructionClass> {
        let sparse = m.flag("sp") || m.flag("sp::ordered_metadata");
        if !(m.flag("sync") && m.flag("aligned")) {
            return self.no_such(i);
        }
        let Some((rows, cols, depth)) = shape(m) else {
            return self.no_such(i);
        };
        let (Some(a_col), Some(b_col)) = (layout(m), layout(m)) else {
            return self.no_such(i);
        };
        let satfinite = m.flag("satfinite");
        let bit_op = if m.flag("and") {
            BitOp::And
        } else {
            BitOp::Xor
        };
        m.flag("xor");
        let popc = m.flag("popc");
        let round = rounding(m);
        let types = elements(m);
        let ([d, a, b, c], [od, oa, ob, oc, more @ ..]) = (&types[..], &i.operands[..]) else {
            return self.no_such(i);
        };
        let (d, a, b, c) = (*d, *a, *b, *c);
        if more.len() != if sparse { 2 } else { 0 } {
            return self.operand_error(format!("`{}`: the wrong number of operands", i.text()));
        }
        if popc != (a == Element::B1) {
            return self.no_such(i);
        }
        let mma = Mma {
            m: rows,
            n: cols,
            k: depth,
            a,
            b,
            c,
            d,
            satfinite,
            bit_op,
        };
        if let [metadata, selector] = more {
            let Operand::Number(Number::Int(selector)) = selector else {
                return self.operand_error("the sparsity selector is a constant");
            };
            let sparse = SparseMma {
                mma,
                selector: *selector as u32,
            };
            if a_col || !b_col || popc || round != Round::Nearest || !sparse.exists() {
                return self.no_such(i);
            }
            let counts = [
                mma.d_fragment().registers(),
                sparse.packed_a().registers(),
                mma.fragment(Role::B).registers(),
                mma.fragment(Role::C).registers(),
            ];
            let metadata = self.s32(metadata, Type::B32)?;
            let fma = u64::from(rows * cols * depth / 2);
            let kind = MmaKind::Sparse(sparse, metadata);
            return self.product(i, kind, fma, [od, oa, ob, oc], [d, a, b, c], counts);
        }
        let kind = if (rows, cols, depth) == (8, 8, 4) && (a, b) == (Element::F16, Element::F16) {
            let ok = |e| matches!(e, Element::F16 | Element::F32);
            if !ok(c) || !ok(d) || satfinite {
                return self.no_such(i);
            }
            MmaKind::QuadPair(QuadPairMma { a_col, b_col, c, d })
        } else if a_col || !b_col {
            return self.no_such(i);
        } else if (rows, cols, depth) == (8, 8, 4) && [a, b, c, d] == [Element::F64; 4] {
            MmaKind::F64(round)
        } else if mma.is_mma() {
            MmaKind::Plain(mma)
        } else {
            return self.no_such(i);
        };
        let counts = match kind {
            MmaKind::QuadPair(_) => {
                let wide = |e| if e == Element::F32 { 8 } else { 4 };
                [wide(d), 2, 2, wide(c)]
            }
            _ => [
                mma.d_fragment().registers(),
                mma.fragment(Role::A).registers(),
                mma.fragment(Role::B).registers(),
                mma.fragment(Role::C).registers(),
            ],
        };
        let mut fma = u64::from(rows * cols * depth);
        if matches!(kind, MmaKind::QuadPair(_)) {
            fma *= 4;
        }
        self.product(i, kind, fma, [od, oa, ob, oc], [d, a, b, c], counts)
    }

    fn product(
        &mut self,
        i: &Instruction,
        kind: MmaKind,
        fma: u64,
        operands: [&Operand; 4],
        types: [Element; 4],
        counts: [u32; 4],
    ) -> Result<InstructionClass> {
        let a = self.fragment_registers(i, operands[1], types[1], counts[1], false)?;
        let b = self.fragment_registers(i, operands[2], types[2], counts[2], false)?;
        let c = self.fragment_registers(i, operands[3], types[3], counts[3], false)?;
        let d = self.fragment_registers(i, operands[0], types[0], counts[0], true)?;
        let mut name = i.opcode.clone();
        for m in i
            .modifiers
            .iter()
            .filter(|m| !matches!(m.as_str(), "sync" | "aligned" | "row" | "col" | "mma"))
        {
            name.push('.');
            name.push_str(m);
        }
        self.push(Op::MatrixMultiply(Box::new(MatrixMultiply {
            kind,
            fma,
            d,
            a,
            b,
            c,
            name,
        })));
        Ok(InstructionClass::Mma)
    }

    fn wmma(&mut self, i: &Instruction, m: &mut Modifiers<'_>) -> Result<InstructionClass> {
        let what = m.pick(|m| match m {
            "load" => Some(0),
            "store" => Some(1),
            "mma" => Some(2),
            _ => None,
        });
        let role = m.pick(|m| match m {
            "a" => Some(Role::A),
            "b" => Some(Role::B),
            "c" | "d" => Some(Role::C),
            _ => None,
        });
        if !(m.flag("sync") && m.flag("aligned")) {
            return self.no_such(i);
        }
        let Some((rows, cols, depth)) = shape(m) else {
            return self.no_such(i);
        };
        let Some(col) = layout(m) else {
            return self.no_such(i);
        };
        let full = |c: Element, a: Element| Mma {
            m: rows,
            n: cols,
            k: depth,
            a,
            b: a,
            c,
            d: c,
            satfinite: false,
            bit_op: BitOp::Xor,
        };
        let f64_shape = (rows, cols, depth) == (8, 8, 4);
        if what == Some(2) {
            layout(m);
            let satfinite = m.flag("satfinite");
            let bit_op = if m.flag("and") {
                BitOp::And
            } else {
                BitOp::Xor
            };
            m.flag("xor");
            m.flag("popc");
            let round = rounding(m);
            let types = elements(m);
            let (d, a, b, c) = match types[..] {
                [d, c] => (d, Element::F16, Element::F16, c),
                [d, a, b, c] => (d, a, b, c),
                _ => return self.no_such(i),
            };
            // A second name of m8n8k32 that the assembler takes: the same operands, the same machine instruction.
            let four_bits = matches!(a, Element::S4 | Element::U4);
            let depth = if f64_shape && four_bits { 32 } else { depth };
            let mma = Mma {
                m: rows,
                n: cols,
                k: depth,
                a,
                b,
                c,
                d,
                satfinite,
                bit_op,
            };
            let kind = if f64_shape && [a, b, c, d] == [Element::F64; 4] {
                MmaKind::F64(round)
            } else if mma.is_wmma() {
                MmaKind::Plain(mma)
            } else {
                return self.no_such(i);
            };
            let [od, oa, ob, oc] = &i.operands[..] else {
                return self.no_such(i);
            };
            let counts = [
                mma.d_fragment().wmma_registers(),
                mma.fragment(Role::A).wmma_registers(),
                mma.fragment(Role::B).wmma_registers(),
                mma.fragment(Role::C).wmma_registers(),
            ];
            let fma = u64::from(rows * cols * depth);
            return self.product(i, kind, fma, [od, oa, ob, oc], [d, a, b, c], counts);
        }
        let (Some(role), Some(store)) = (role, what.map(|w| w == 1)) else {
            return self.no_such(i);
        };
        let space = m
            .pick(|m| match m {
                "global" => Some(AccessSpace::Global),
                "shared" | "shared::cta" => Some(AccessSpace::Shared),
                _ => None,
            })
            .unwrap_or(AccessSpace::Generic);
        let types = elements(m);
        let [e] = types[..] else {
            return self.no_such(i);
        };
        let exists = match (role, e) {
            (_, Element::F64) => f64_shape,
            // For the assembler, f32 is any four bytes in the shapes of 4-bit and 1-bit products.
            (Role::C, Element::F32) if full(Element::S32, Element::S4).is_wmma() => true,
            (Role::C, Element::F32) if full(Element::S32, Element::B1).is_wmma() => true,
            (Role::C, Element::F16 | Element::F32 | Element::S32) => [
                Element::F16,
                Element::Tf32,
                Element::S8,
                Element::S4,
                Element::B1,
            ]
            .iter()
            .any(|a| full(e, *a).is_wmma()),
            (Role::C, _) => false,
            (_, a) => {
                let c = match a {
                    Element::F16 | Element::Bf16 | Element::Tf32 => Element::F32,
                    _ => Element::S32,
                };
                full(c, a).is_wmma()
            }
        };
        if !exists || (store && role != Role::C) {
            return self.no_such(i);
        }
        let fragment = match role {
            Role::A => Fragment {
                role,
                rows,
                cols: depth,
                element: e,
            },
            Role::B => Fragment {
                role,
                rows: depth,
                cols,
                element: e,
            },
            Role::C => Fragment {
                role,
                rows,
                cols,
                element: e,
            },
        };
        let (regs, place, stride) = match (&i.operands[..], store) {
            ([r, a], false) | ([a, r], true) => (r, a, None),
            ([r, a, s], false) | ([a, r, s], true) => (r, a, Some(s)),
            _ => return self.operand_error(format!("`{}` takes two or three operands", i.text())),
        };
        let regs = self.fragment_registers(i, regs, e, fragment.wmma_registers(), !store)?;
        let (address, space) = self.address(place, space)?;
        let stride = match stride {
            Some(s) => Some(self.s32(s, Type::U32)?),
            None => None,
        };
        self.note_width(space, (e.bits() / 8).max(1));
        self.push(Op::FragmentMove(Box::new(FragmentMove {
            fragment,
            col,
            regs,
            space,
            address,
            stride,
            store,
        })));
        Ok(match (space, store) {
            (AccessSpace::Global, false) => InstructionClass::LoadGlobal,
            (AccessSpace::Global, true) => InstructionClass::StoreGlobal,
            (AccessSpace::Shared, false) => InstructionClass::LoadShared,
            (AccessSpace::Shared, true) => InstructionClass::StoreShared,
            (_, false) => InstructionClass::LoadGeneric,
            (_, true) => InstructionClass::StoreGeneric,
        })
    }
}
