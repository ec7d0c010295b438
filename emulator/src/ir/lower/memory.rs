//! Instructions that touch memory or synchronise: loads, stores, atomics, copies, barriers, fences.

use super::names::{Binding, Lowering, Modifiers, RegisterSlot, Result, describe};
use crate::ir::code::{
    AccessSpace, Address, Atomic, AtomicOp, Barrier, BarrierKind, CopyAsync, InstructionClass,
    Load, Mbarrier, Op, Order, Store, Target,
};
use crate::ir::regs::{Reg, S64};
use crate::ptx::LoadErrorKind;
use crate::ptx::ast::{Instruction, Number, Operand, Type};

fn space(m: &mut Modifiers<'_>) -> Option<AccessSpace> {
    m.pick(|m| {
        Some(match m {
            "global" => AccessSpace::Global,
            "shared" | "shared::cta" => AccessSpace::Shared,
            "local" => AccessSpace::Local,
            "const" => AccessSpace::Const,
            "param" | "param::entry" | "param::func" => AccessSpace::Param,
            _ => return None,
        })
    })
}

/// Consumes cache operators, eviction priorities and prefetch sizes: hints without effect on values.
/// Returns whether a cache policy operand follows.
fn hints(m: &mut Modifiers<'_>) -> bool {
    while m
        .pick(|m| {
            let hint = matches!(
                m,
                "ca" | "cg"
                    | "cs"
                    | "lu"
                    | "cv"
                    | "wb"
                    | "wt"
                    | "nc"
                    | "L2::64B"
                    | "L2::128B"
                    | "L2::256B"
            ) || m.starts_with("L1::")
                || (m.starts_with("L2::evict_"));
            hint.then_some(())
        })
        .is_some()
    {}
    m.flag("L2::cache_hint")
}

/// `.cluster` came with sm_90.
fn scope(m: &mut Modifiers<'_>) -> bool {
    m.pick(|m| matches!(m, "cta" | "gpu" | "sys").then_some(()))
        .is_some()
}

fn order(m: &mut Modifiers<'_>) -> Order {
    let strong = m
        .pick(|m| {
            Some(match m {
                "volatile" | "relaxed" => Order {
                    strong: true,
                    ..Order::default()
                },
                "acquire" => Order {
                    strong: true,
                    acquire: true,
                    release: false,
                },
                "release" => Order {
                    strong: true,
                    acquire: false,
                    release: true,
                },
                "acq_rel" => Order {
                    strong: true,
                    acquire: true,
                    release: true,
                },
                "weak" => Order::default(),
                _ => return None,
            })
        })
        .unwrap_or_default();
    m.flag("mmio");
    scope(m);
    strong
}

impl Lowering<'_> {
    /// An address operand, and its state space: that of the variable that it names, where it names one.
    pub(super) fn address(
        &mut self,
        operand: &Operand,
        space: AccessSpace,
    ) -> Result<(Address, AccessSpace)> {
        let (base, offset) = match operand {
            Operand::Address { base, offset } => (base.as_deref(), *offset),
            other => {
                return self.operand_error(format!(
                    "expected an address `[…]`, found {}",
                    describe(other)
                ));
            }
        };
        let Some(name) = base else {
            return Ok((Address { base: None, offset }, space));
        };
        if let Some((_, place)) = self.register(name) {
            let RegisterSlot::Reg(reg) = place else {
                return self.operand_error(format!("the predicate `{name}` is not an address"));
            };
            self.note_use(reg);
            return Ok((
                Address {
                    base: Some(reg),
                    offset,
                },
                space,
            ));
        }
        match self.lookup(name) {
            Some(Binding::Param { offset: at }) => {
                let offset = offset + i64::from(*at);
                return Ok((Address { base: None, offset }, AccessSpace::Param));
            }
            Some(Binding::Frame { offset: at, size }) => {
                let (at, size) = (*at, *size);
                if offset < 0 || offset > i64::from(size) {
                    return self.operand_error(format!(
                        "offset {offset} is outside of `{name}` ({size} bytes)"
                    ));
                }
                let base = self.symbol32(crate::ir::code::Constant::Frame(at, 0));
                return Ok((
                    Address {
                        base: Some(Reg::W(base)),
                        offset,
                    },
                    AccessSpace::Local,
                ));
            }
            _ => {}
        }
        match self.symbol(name, 0)? {
            Some(constant @ crate::ir::code::Constant::Shared(..)) => {
                if !matches!(space, AccessSpace::Shared | AccessSpace::Generic) {
                    return self
                        .operand_error(format!("`{name}` is in shared memory; the access is not"));
                }
                let base = self.symbol32(constant);
                Ok((
                    Address {
                        base: Some(Reg::W(base)),
                        offset,
                    },
                    AccessSpace::Shared,
                ))
            }
            Some(constant) => {
                if !matches!(
                    space,
                    AccessSpace::Global | AccessSpace::Const | AccessSpace::Generic
                ) {
                    return self
                        .operand_error(format!("`{name}` is in global memory; the access is not"));
                }
                let base = self.symbol64(constant);
                Ok((
                    Address {
                        base: Some(Reg::D(base)),
                        offset,
                    },
                    space,
                ))
            }
            None => self.fail(
                LoadErrorKind::Unresolved,
                format!("`{name}` is not declared"),
            ),
        }
    }

    pub(super) fn note_width(&mut self, space: AccessSpace, bytes: u32) {
        if matches!(space, AccessSpace::Shared | AccessSpace::Generic) {
            self.f.narrowest_shared = self.f.narrowest_shared.min(bytes);
        }
        if matches!(space, AccessSpace::Global | AccessSpace::Generic) {
            self.f.narrowest_global = self.f.narrowest_global.min(bytes);
        }
    }

    fn vector_width(&self, m: &mut Modifiers<'_>) -> usize {
        m.pick(|m| match m {
            "v2" => Some(2),
            "v4" => Some(4),
            "v8" => Some(8),
            _ => None,
        })
        .unwrap_or(1)
    }

    fn elements(&self, operand: &Operand, count: usize, ty: Type) -> Result<Vec<Operand>> {
        let list = match operand {
            Operand::Vector(list) => list.clone(),
            Operand::Name { name, offset: 0 } if count > 1 => match self.lookup(name) {
                Some(Binding::Vector(_, places)) => ["x", "y", "z", "w"][..places.len()]
                    .iter()
                    .map(|c| Operand::Name {
                        name: format!("{name}.{c}"),
                        offset: 0,
                    })
                    .collect(),
                _ => vec![operand.clone()],
            },
            other => vec![other.clone()],
        };
        if list.len() != count {
            return self.operand_error(format!("expected {count} elements, found {}", list.len()));
        }
        if count as u32 * ty.bytes() > 16 {
            return self.fail(
                LoadErrorKind::Unsupported,
                "an access of more than 16 bytes per thread",
            );
        }
        Ok(list)
    }

    /// The two halves of a `.b128` operand.
    pub(super) fn quad(&mut self, operand: &Operand) -> Result<[S64; 2]> {
        match operand {
            Operand::Number(Number::Int(v)) => {
                let bits = *v as u128;
                Ok([self.bits64(bits as u64), self.bits64((bits >> 64) as u64)])
            }
            Operand::Name { name, offset: 0 } => match self.register(name) {
                Some((_, RegisterSlot::Quad(low))) => {
                    let high = S64(low.0 + 1);
                    self.note_use(Reg::D(low));
                    self.note_use(Reg::D(high));
                    Ok([low, high])
                }
                Some((have, _)) => self.operand_error(format!(
                    "`{name}` is a {have:?}, a `.b128` register is expected"
                )),
                None => self.fail(
                    LoadErrorKind::Unresolved,
                    format!("register `{name}` is not declared"),
                ),
            },
            other => self.operand_error(format!(
                "expected a `.b128` register, found {}",
                describe(other)
            )),
        }
    }

    fn policy(&mut self, i: &Instruction, hinted: bool, at: usize) -> Result<()> {
        let expected = at + usize::from(hinted);
        if i.operands.len() != expected {
            return self.operand_error(format!(
                "`{}` takes {expected} operands, found {}",
                i.text(),
                i.operands.len()
            ));
        }
        if hinted {
            self.s64(&i.operands[at], Type::B64)?;
        }
        Ok(())
    }

    pub(super) fn lower_memory(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
    ) -> Result<Option<InstructionClass>> {
        let class = match i.opcode.as_str() {
            "ld" | "ldu" => self.load(i, m)?,
            "st" => self.store(i, m)?,
            "atom" | "red" => self.atomic(i, m)?,
            "cp" => self.copy_async(i, m)?,
            "discard" => self.discard(i, m)?,
            "applypriority" => self.apply_priority(i, m)?,
            "prefetch" | "prefetchu" => self.prefetch(i, m)?,
            "createpolicy" => {
                // A cache policy is opaque and has no effect here.
                while m.pick(|_| Some(())).is_some() {}
                let Some(d) = i.operands.first() else {
                    return self.operand_error("`createpolicy` needs a destination");
                };
                let d = self.d64(d, Type::B64)?;
                self.push(Op::Alu(crate::ir::regs::map0(d, || {
                    0x1000_0000_0000_0000u64
                })));
                InstructionClass::Other
            }
            "membar" | "fence" => {
                while m
                    .pick(|m| {
                        matches!(
                            m,
                            "cta"
                                | "gl"
                                | "sys"
                                | "gpu"
                                | "sc"
                                | "acq_rel"
                                | "acquire"
                                | "release"
                                | "proxy"
                                | "alias"
                        )
                        .then_some(())
                    })
                    .is_some()
                {}
                self.f.general_sync = true;
                self.push(Op::Fence);
                InstructionClass::Fence
            }
            "bar" | "barrier" => return self.barrier(i, m).map(Some),
            "mbarrier" => self.mbarrier(i, m)?,
            _ => return Ok(None),
        };
        Ok(Some(class))
    }

    fn load(&mut self, i: &Instruction, m: &mut Modifiers<'_>) -> Result<InstructionClass> {
        let order = order(m);
        let asked = space(m).unwrap_or(AccessSpace::Generic);
        let hinted = hints(m);
        let count = self.vector_width(m);
        let types = m.types();
        let [ty] = types[..] else {
            return self.operand_error(format!("`{}` takes one type", i.text()));
        };
        if ty == Type::Pred || (ty == Type::B128 && count > 1) {
            return self.fail(
                LoadErrorKind::Unsupported,
                format!("`{}`: loads of type {ty:?}", i.text()),
            );
        }
        self.policy(i, hinted, 2)?;
        let (address, space) = self.address(&i.operands[1], asked)?;
        let mut targets = Vec::new();
        // 128 bits are one access of two halves.
        let (ty, whole) = match ty {
            Type::B128 => match &i.operands[0] {
                Operand::Number(_) => return self.operand_error("a number can't be written"),
                register => (Type::B64, Some(self.quad(register)?)),
            },
            ty => (ty, None),
        };
        if let Some(halves) = whole {
            targets.extend(halves.map(|half| Target::Reg(Reg::D(half), 64)));
        } else {
            for o in self.elements(&i.operands[0], count, ty)? {
                targets.push(match o {
                    Operand::Sink => Target::Sink,
                    o => {
                        let (reg, bits) = self.dest(&o, ty, true)?;
                        Target::Reg(reg, bits)
                    }
                });
            }
        }
        self.note_width(space, ty.bytes());
        self.push(Op::Load(Box::new(Load {
            space,
            ty,
            targets,
            address,
            order,
        })));
        Ok(match space {
            AccessSpace::Global => InstructionClass::LoadGlobal,
            AccessSpace::Shared => InstructionClass::LoadShared,
            AccessSpace::Local => InstructionClass::LoadLocal,
            AccessSpace::Const => InstructionClass::LoadConst,
            AccessSpace::Param => InstructionClass::LoadParam,
            AccessSpace::Generic => InstructionClass::LoadGeneric,
        })
    }

    fn store(&mut self, i: &Instruction, m: &mut Modifiers<'_>) -> Result<InstructionClass> {
        let order = order(m);
        self.f.general_sync |= order.release;
        let asked = space(m).unwrap_or(AccessSpace::Generic);
        let hinted = hints(m);
        let count = self.vector_width(m);
        let types = m.types();
        let [ty] = types[..] else {
            return self.operand_error(format!("`{}` takes one type", i.text()));
        };
        if ty == Type::Pred || (ty == Type::B128 && count > 1) {
            return self.fail(
                LoadErrorKind::Unsupported,
                format!("`{}`: stores of type {ty:?}", i.text()),
            );
        }
        self.policy(i, hinted, 2)?;
        let (address, space) = self.address(&i.operands[0], asked)?;
        if matches!(space, AccessSpace::Const | AccessSpace::Param) {
            return self.operand_error("constant memory and kernel parameters can't be written");
        }
        let mut sources = Vec::new();
        let (ty, whole) = match ty {
            Type::B128 => (Type::B64, Some(self.quad(&i.operands[1])?)),
            ty => (ty, None),
        };
        if let Some(halves) = whole {
            sources.extend(halves.map(Reg::D));
        } else {
            for o in self.elements(&i.operands[1], count, ty)? {
                sources.push(self.source(&o, ty, true)?);
            }
        }
        self.note_width(space, ty.bytes());
        self.push(Op::Store(Box::new(Store {
            space,
            ty,
            sources,
            address,
            order,
        })));
        Ok(match space {
            AccessSpace::Global => InstructionClass::StoreGlobal,
            AccessSpace::Shared => InstructionClass::StoreShared,
            AccessSpace::Local => InstructionClass::StoreLocal,
            _ => InstructionClass::StoreGeneric,
        })
    }

    /// `discard{.global}.L2 [a], 128`
    fn discard(&mut self, i: &Instruction, m: &mut Modifiers<'_>) -> Result<InstructionClass> {
        let asked = space(m).unwrap_or(AccessSpace::Generic);
        let (address, space) =
            self.line(i, asked, m.flag("L2"), "discard{.global}.L2 [address], 128")?;
        self.push(Op::Discard(space, address));
        Ok(InstructionClass::Other)
    }

    /// `applypriority{.global}.L2::evict_normal [a], 128`: a hint, because the cache model has one priority.
    fn apply_priority(
        &mut self,
        i: &Instruction,
        m: &mut Modifiers<'_>,
    ) -> Result<InstructionClass> {
        let asked = space(m).unwrap_or(AccessSpace::Generic);
        let form = "applypriority{.global}.L2::evict_normal [address], 128";
        self.line(i, asked, m.flag("L2::evict_normal"), form)?;
        self.push(Op::Hint);
        Ok(InstructionClass::Other)
    }

    /// The operands of an instruction on a 128-byte line of global memory, whose syntax is `form`.
    fn line(
        &mut self,
        i: &Instruction,
        asked: AccessSpace,
        level: bool,
        form: &str,
    ) -> Result<(Address, AccessSpace)> {
        let whole = matches!(i.operands.get(1), Some(Operand::Number(Number::Int(128))));
        if !level || !whole || i.operands.len() != 2 {
            return self.operand_error(format!("`{}` is `{form}`", i.opcode));
        }
        let (address, space) = self.address(&i.operands[0], asked)?;
        if !matches!(space, AccessSpace::Global | AccessSpace::Generic) {
            let message = format!("`{}` takes an address in global memory", i.opcode);
            return self.operand_error(message);
        }
        Ok((address, space))
    }

    /// `prefetch{.global,.local}.{L1,L2}`, `prefetch{.global}.L2::evict_{last,normal}`, `prefetchu.L1`: hints
    /// that access nothing, so any address is accepted.
    fn prefetch(&mut self, i: &Instruction, m: &mut Modifiers<'_>) -> Result<InstructionClass> {
        let uniform = i.opcode == "prefetchu";
        let asked = space(m);
        let priority = m.flag("L2::evict_last") || m.flag("L2::evict_normal");
        let level = priority || m.flag("L1") || (!uniform && m.flag("L2"));
        let allowed = match asked {
            None => !(uniform && priority),
            Some(AccessSpace::Global) => !uniform,
            Some(AccessSpace::Local) => !uniform && !priority,
            Some(_) => false,
        };
        // If a modifier is left over, the caller's error names it.
        if m.rest().is_empty() && !(level && allowed && i.operands.len() == 1) {
            return self.operand_error(
                "`prefetch` is `prefetch{.global,.local}.{L1,L2} [address]` or \
                 `prefetch{.global}.L2::evict_{last,normal} [address]`, `prefetchu` is `prefetchu.L1 [address]`",
            );
        }
        if let Some(address) = i.operands.first() {
            self.address(address, asked.unwrap_or(AccessSpace::Generic))?;
        }
        self.push(Op::Hint);
        Ok(InstructionClass::Other)
    }

    fn atomic(&mut self, i: &Instruction, m: &mut Modifiers<'_>) -> Result<InstructionClass> {
        let reduction = i.opcode == "red";
        let mut order = order(m);
        self.f.general_sync |= order.release;
        order.strong = true;
        let space = space(m).unwrap_or(AccessSpace::Generic);
        m.flag("noftz");
        let hinted = hints(m);
        let op = m.pick(|m| {
            Some(match m {
                "add" => AtomicOp::Add,
                "min" => AtomicOp::Min,
                "max" => AtomicOp::Max,
                "and" => AtomicOp::And,
                "or" => AtomicOp::Or,
                "xor" => AtomicOp::Xor,
                "exch" => AtomicOp::Exch,
                "cas" => AtomicOp::Cas,
                "inc" => AtomicOp::Inc,
                "dec" => AtomicOp::Dec,
                _ => return None,
            })
        });
        let Some(op) = op else {
            return self.operand_error(format!("`{}` names no operation", i.text()));
        };
        let types = m.types();
        let [ty] = types[..] else {
            return self.operand_error(format!("`{}` takes one type", i.text()));
        };
        let allowed = match op {
            AtomicOp::Add => matches!(
                ty,
                Type::U32
                    | Type::S32
                    | Type::U64
                    | Type::F32
                    | Type::F64
                    | Type::F16
                    | Type::F16x2
                    | Type::BF16
                    | Type::BF16x2
            ),
            AtomicOp::Min | AtomicOp::Max => {
                matches!(ty, Type::U32 | Type::S32 | Type::U64 | Type::S64)
            }
            AtomicOp::And | AtomicOp::Or | AtomicOp::Xor => matches!(ty, Type::B32 | Type::B64),
            AtomicOp::Exch => matches!(ty, Type::B32 | Type::B64) && !reduction,
            AtomicOp::Cas => matches!(ty, Type::B16 | Type::B32 | Type::B64) && !reduction,
            AtomicOp::Inc | AtomicOp::Dec => ty == Type::U32,
        };
        // `add.bf16` came with sm_90.
        if !allowed || matches!((op, ty), (AtomicOp::Add, Type::BF16 | Type::BF16x2)) {
            return self.fail(
                LoadErrorKind::Unsupported,
                format!("`{}` doesn't exist on sm_86", i.text()),
            );
        }
        let first = usize::from(!reduction);
        let count = first + if op == AtomicOp::Cas { 3 } else { 2 };
        self.policy(i, hinted, count)?;
        let target = match (reduction, &i.operands[0]) {
            (true, _) | (false, Operand::Sink) => None,
            (false, d) => Some(self.dest(d, ty, false)?.0),
        };
        let (address, space) = self.address(&i.operands[first], space)?;
        if !matches!(
            space,
            AccessSpace::Generic | AccessSpace::Global | AccessSpace::Shared
        ) {
            return self.operand_error("atomics work on global and shared memory");
        }
        let b = self.source(&i.operands[first + 1], ty, false)?;
        let c = if op == AtomicOp::Cas {
            Some(self.source(&i.operands[first + 2], ty, false)?)
        } else {
            None
        };
        self.note_width(space, ty.bytes());
        self.push(Op::Atomic(Box::new(Atomic {
            space,
            op,
            ty,
            target,
            address,
            b,
            c,
            order,
        })));
        Ok(InstructionClass::Atomic)
    }

    fn copy_async(&mut self, i: &Instruction, m: &mut Modifiers<'_>) -> Result<InstructionClass> {
        if !m.flag("async") {
            return self.fail(
                LoadErrorKind::Unsupported,
                format!("`{}` doesn't exist on sm_86", i.text()),
            );
        }
        if m.flag("commit_group") {
            self.push(Op::CopyCommit);
            return Ok(InstructionClass::CopyAsync);
        }
        if m.flag("wait_all") {
            self.push(Op::CopyWait(None));
            return Ok(InstructionClass::CopyAsync);
        }
        if m.flag("wait_group") {
            let n = match i.operands[..] {
                [Operand::Number(Number::Int(n))] => u32::try_from(n).ok(),
                _ => None,
            };
            let Some(n) = n else {
                return self.operand_error("`cp.async.wait_group` takes a constant");
            };
            self.push(Op::CopyWait(Some(n)));
            return Ok(InstructionClass::CopyAsync);
        }
        if m.flag("mbarrier") {
            if !m.flag("arrive") {
                return self.operand_error("expected `cp.async.mbarrier.arrive`");
            }
            let noinc = m.flag("noinc");
            let space = space(m).unwrap_or(AccessSpace::Generic);
            m.types();
            let [a] = &i.operands[..] else {
                return self.operand_error("expected one address");
            };
            let (address, _) = self.address(a, space)?;
            self.f.general_sync = true;
            self.push(Op::Mbarrier(Box::new(Mbarrier::CopyArrive {
                address,
                noinc,
            })));
            return Ok(InstructionClass::CopyAsync);
        }
        let whole_line = m.flag("cg");
        if !whole_line && !m.flag("ca") {
            return self.fail(
                LoadErrorKind::Unsupported,
                format!(
                    "`{}`: only `cp.async.ca` and `cp.async.cg` exist on sm_86",
                    i.text()
                ),
            );
        }
        let hinted = hints(m);
        if !(m.flag("shared") || m.flag("shared::cta")) || !m.flag("global") {
            return self.fail(
                LoadErrorKind::Unsupported,
                format!("`{}`: copies go from `.global` to `.shared`", i.text()),
            );
        }
        let mut operands: Vec<&Operand> = i.operands.iter().collect();
        if hinted {
            let Some(policy) = operands.pop() else {
                return self.operand_error("a cache policy is missing");
            };
            self.s64(policy, Type::B64)?;
        }
        if operands.len() < 3 || operands.len() > 4 {
            return self.operand_error(format!(
                "`{}` takes 3 or 4 operands, found {}",
                i.text(),
                operands.len()
            ));
        }
        let (to, _) = self.address(operands[0], AccessSpace::Shared)?;
        let (from, _) = self.address(operands[1], AccessSpace::Global)?;
        let bytes = match operands[2] {
            Operand::Number(Number::Int(n @ (4 | 8 | 16))) => *n as u32,
            _ => return self.operand_error("the size of a `cp.async` is 4, 8 or 16"),
        };
        if whole_line && bytes != 16 {
            return self.operand_error("`cp.async.cg` copies 16 bytes");
        }
        let (mut source_bytes, mut ignore) = (None, None);
        if let Some(o) = operands.get(3) {
            match o {
                Operand::Name { name, .. }
                    if matches!(self.register(name), Some((Type::Pred, _))) =>
                {
                    ignore = Some(self.pred(o)?);
                }
                Operand::Not(_) => ignore = Some(self.pred(o)?),
                o => source_bytes = Some(self.s32(o, Type::U32)?),
            }
        }
        self.note_width(AccessSpace::Shared, 4);
        self.note_width(AccessSpace::Global, 4);
        self.push(Op::CopyAsync(Box::new(CopyAsync {
            to,
            from,
            bytes,
            source_bytes,
            ignore,
        })));
        Ok(InstructionClass::CopyAsync)
    }

    fn barrier(&mut self, i: &Instruction, m: &mut Modifiers<'_>) -> Result<InstructionClass> {
        if m.flag("warp") {
            m.flag("sync");
            let [mask] = &i.operands[..] else {
                return self.operand_error("`bar.warp.sync` takes a member mask");
            };
            let mask = self.s32(mask, Type::B32)?;
            self.push(Op::Collective(
                mask,
                Box::new(crate::ir::code::Collective::Sync),
            ));
            return Ok(InstructionClass::Warp);
        }
        if m.flag("cluster") {
            return self.fail(
                LoadErrorKind::Unsupported,
                format!("`{}`: sm_86 has no clusters", i.text()),
            );
        }
        m.flag("cta");
        let aligned = m.flag("aligned") || i.opcode == "bar";
        let mut operands = &i.operands[..];
        let (mut source, kind);
        source = None;
        if m.flag("red") {
            let what = m.pick(|m| match m {
                "popc" => Some(0),
                "and" => Some(1),
                "or" => Some(2),
                _ => None,
            });
            m.types();
            let Some((d, rest)) = operands.split_first() else {
                return self.operand_error("`bar.red` needs operands");
            };
            let Some((p, rest)) = rest.split_last() else {
                return self.operand_error("`bar.red` needs a predicate");
            };
            operands = rest;
            source = Some(self.pred(p)?);
            kind = match what {
                Some(0) => BarrierKind::Popc(self.d32(d, Type::U32)?),
                Some(1) => BarrierKind::And(self.dpred(d)?),
                Some(_) => BarrierKind::Or(self.dpred(d)?),
                None => return self.operand_error("`bar.red` needs `.popc`, `.and` or `.or`"),
            };
        } else if m.flag("arrive") {
            kind = BarrierKind::Arrive;
        } else if m.flag("sync") {
            kind = BarrierKind::Sync;
        } else {
            return self.operand_error(format!("`{}` is no barrier", i.text()));
        }
        let id = match operands.first() {
            Some(o) => self.s32(o, Type::U32)?,
            None => self.bits32(0),
        };
        let count = match operands.get(1) {
            Some(o) => Some(self.s32(o, Type::U32)?),
            None => None,
        };
        if operands.len() > 2 || (kind == BarrierKind::Arrive && count.is_none()) {
            return self.operand_error(format!("`{}` has the wrong number of operands", i.text()));
        }
        if count.is_some() || kind == BarrierKind::Arrive {
            self.f.general_sync = true;
        }
        self.push(Op::Barrier(Box::new(Barrier {
            kind,
            id,
            count,
            source,
            aligned,
        })));
        Ok(InstructionClass::Barrier)
    }

    fn mbarrier(&mut self, i: &Instruction, m: &mut Modifiers<'_>) -> Result<InstructionClass> {
        self.f.general_sync = true;
        self.note_width(AccessSpace::Shared, 8);
        let what = m.pick(|m| {
            [
                "init",
                "inval",
                "arrive",
                "arrive_drop",
                "test_wait",
                "pending_count",
            ]
            .into_iter()
            .find(|w| *w == m)
        });
        let Some(what) = what else {
            return self.fail(
                LoadErrorKind::Unsupported,
                format!("`{}` doesn't exist on sm_86", i.text()),
            );
        };
        let no_complete = m.flag("noComplete");
        let parity = m.flag("parity");
        m.pick(|m| matches!(m, "release" | "acquire").then_some(()));
        scope(m);
        let space = space(m).unwrap_or(AccessSpace::Generic);
        m.types();
        let o = &i.operands;
        let arity = |this: &Self, low: usize, high: usize| -> Result<()> {
            if (low..=high).contains(&o.len()) {
                Ok(())
            } else {
                this.operand_error(format!("`{}` has the wrong number of operands", i.text()))
            }
        };
        let op = match what {
            "init" => {
                arity(self, 2, 2)?;
                Mbarrier::Init {
                    address: self.address(&o[0], space)?.0,
                    count: self.s32(&o[1], Type::U32)?,
                }
            }
            "inval" => {
                arity(self, 1, 1)?;
                Mbarrier::Inval {
                    address: self.address(&o[0], space)?.0,
                }
            }
            "arrive" | "arrive_drop" => {
                arity(self, 2, 3)?;
                let state = match &o[0] {
                    Operand::Sink => None,
                    d => Some(self.d64(d, Type::B64)?),
                };
                let count = match o.get(2) {
                    Some(c) => Some(self.s32(c, Type::U32)?),
                    None => None,
                };
                // Before sm_90 a count operand exists with `.noComplete` only.
                if count.is_some() != no_complete {
                    return self.fail(
                        LoadErrorKind::Unsupported,
                        format!("`{}` with this count doesn't exist on sm_86", i.text()),
                    );
                }
                let drop = what == "arrive_drop";
                Mbarrier::Arrive {
                    address: self.address(&o[1], space)?.0,
                    state,
                    count,
                    drop,
                }
            }
            "test_wait" => {
                arity(self, 3, 3)?;
                let done = self.dpred(&o[0])?;
                let address = self.address(&o[1], space)?.0;
                if parity {
                    Mbarrier::Test {
                        address,
                        done,
                        state: None,
                        parity: Some(self.s32(&o[2], Type::U32)?),
                    }
                } else {
                    Mbarrier::Test {
                        address,
                        done,
                        state: Some(self.s64(&o[2], Type::B64)?),
                        parity: None,
                    }
                }
            }
            _ => {
                arity(self, 2, 2)?;
                Mbarrier::PendingCount {
                    d: self.d32(&o[0], Type::U32)?,
                    state: self.s64(&o[1], Type::B64)?,
                }
            }
        };
        // Addresses of mbarrier objects may be generic or shared: both are told apart at run time.
        self.push(Op::Mbarrier(Box::new(op)));
        Ok(InstructionClass::Barrier)
    }
}
