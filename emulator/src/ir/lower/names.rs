//! Name resolution while a function is lowered: registers, variables, labels, constants.

use std::collections::HashMap;

use crate::ir::code::{CallTarget, Constant, Function, Inst, Op, PassedIn, Site, Special};
use crate::ir::layout::Flat;
use crate::ir::regs::{Reg, S32, S64, SP, map1};
use crate::ptx::ast::{Instruction, Location, Number, Operand, Type};
use crate::ptx::lexer::Pos;
use crate::ptx::{LoadError, LoadErrorKind};

pub(super) type Result<T> = std::result::Result<T, LoadError>;

/// Names of the whole module.
pub(super) struct ModuleNames {
    pub name: String,
    /// `.global` and `.const` variables, by index.
    pub globals: HashMap<String, u32>,
    pub global_is_const: Vec<bool>,
    /// `.shared` variables of the module, by index.
    pub shared: HashMap<String, u32>,
    /// Functions, by index.
    pub functions: HashMap<String, CallTarget>,
    /// Whether each function is a kernel, by index.
    pub function_kinds: Vec<bool>,
}

/// The slot of a register or predicate.
#[derive(Clone, Copy, Debug)]
pub(super) enum RegisterSlot {
    Reg(Reg),
    Pred(SP),
    /// A `.b128`: this slot holds its low half, the next one its high half.
    Quad(S64),
}

#[derive(Clone, Debug)]
pub(super) enum Binding {
    /// A register of a type.
    Register(Type, RegisterSlot),
    /// Registers with a common prefix.
    Bank(Type, u32, RegisterSlot),
    /// Components of a vector register.
    Vector(Type, Vec<RegisterSlot>),
    /// A variable in the frame's local memory.
    Frame { offset: u32, size: u32 },
    /// A shared variable of the function.
    Shared(u32),
    /// A module variable declared in the function.
    Global(u32),
    /// A kernel parameter, by offset in the parameter buffer.
    Param { offset: u32 },
    /// A label.
    Label(u32),
    /// Targets of `brx.idx`.
    Targets(Vec<String>),
    /// A call prototype or a list of call targets.
    Prototype,
}

/// The state of lowering one function.
pub(super) struct Lowering<'m> {
    pub names: &'m ModuleNames,
    pub scopes: Vec<HashMap<String, Binding>>,
    pub out: Vec<Flat>,
    pub labels: u32,
    pub f: Function,
    pub pos: Pos,
    pub location: Option<Location>,
    /// The site of the instruction being lowered.
    pub site: u32,
    pub guard: Option<(SP, bool)>,
    bits32: HashMap<u32, S32>,
    bits64: HashMap<u64, S64>,
    preds: HashMap<bool, SP>,
    /// `.shared` variables declared in functions, to be added to the module's: size, alignment, name.
    pub new_shared: Vec<(u64, u64, String)>,
    pub shared_base: u32,
    /// The predicate that holds the carry flag, if the function uses one.
    pub carry: Option<SP>,
    /// Uses of registers as operands: instruction, register, 32-bit words.
    pub uses: Vec<(u32, u64, u32)>,
}

pub(super) fn error(
    names: &ModuleNames,
    pos: Pos,
    kind: LoadErrorKind,
    message: impl Into<String>,
) -> LoadError {
    LoadError {
        name: names.name.clone(),
        line: pos.line,
        column: pos.column,
        kind,
        message: message.into(),
    }
}

impl<'m> Lowering<'m> {
    pub fn new(
        names: &'m ModuleNames,
        name: &str,
        is_kernel: bool,
        pos: Pos,
        shared_base: u32,
    ) -> Self {
        Lowering {
            names,
            scopes: vec![HashMap::new()],
            out: Vec::new(),
            labels: 0,
            f: Function {
                name: name.to_owned(),
                is_kernel,
                insts: Vec::new(),
                sites: Vec::new(),
                n32: 0,
                n64: 0,
                npred: 0,
                constants32: Vec::new(),
                constants64: Vec::new(),
                constants_pred: Vec::new(),
                frame_bytes: 0,
                params: Vec::new(),
                returns: Vec::new(),
                shared_used: Vec::new(),
                calls: Vec::new(),
                calls_indirectly: false,
                narrowest_shared: 16,
                narrowest_global: 16,
                general_sync: false,
                registers: 0,
            },
            pos,
            location: None,
            site: 0,
            guard: None,
            bits32: HashMap::new(),
            bits64: HashMap::new(),
            preds: HashMap::new(),
            new_shared: Vec::new(),
            shared_base,
            carry: None,
            uses: Vec::new(),
        }
    }

    pub fn fail<T>(&self, kind: LoadErrorKind, message: impl Into<String>) -> Result<T> {
        Err(error(self.names, self.pos, kind, message))
    }

    pub fn operand_error<T>(&self, message: impl Into<String>) -> Result<T> {
        self.fail(LoadErrorKind::Operand, message)
    }

    pub fn note_use(&mut self, reg: Reg) {
        let (key, words) = match reg {
            Reg::W(s) => (u64::from(s.0), 1),
            Reg::D(s) => (1 << 32 | u64::from(s.0), 2),
        };
        self.uses.push((self.site, key, words));
    }

    pub fn temp32(&mut self) -> S32 {
        self.f.n32 += 1;
        S32(self.f.n32 - 1)
    }

    pub fn temp64(&mut self) -> S64 {
        self.f.n64 += 1;
        S64(self.f.n64 - 1)
    }

    pub fn temp_pred(&mut self) -> SP {
        self.f.npred += 1;
        SP(self.f.npred - 1)
    }

    pub fn place(&mut self, ty: Type) -> Result<RegisterSlot> {
        Ok(match ty {
            Type::Pred => RegisterSlot::Pred(self.temp_pred()),
            Type::B128 => {
                let low = self.temp64();
                self.temp64();
                RegisterSlot::Quad(low)
            }
            _ if ty.bytes() == 8 => RegisterSlot::Reg(Reg::D(self.temp64())),
            _ => RegisterSlot::Reg(Reg::W(self.temp32())),
        })
    }

    pub fn allocate_bank(&mut self, ty: Type, count: u32) -> Result<RegisterSlot> {
        let first = self.place(ty)?;
        let more = count.saturating_sub(1);
        match first {
            RegisterSlot::Reg(Reg::W(_)) => self.f.n32 += more,
            RegisterSlot::Reg(Reg::D(_)) => self.f.n64 += more,
            RegisterSlot::Pred(_) => self.f.npred += more,
            RegisterSlot::Quad(_) => self.f.n64 += 2 * more,
        }
        Ok(first)
    }

    pub fn lookup(&self, name: &str) -> Option<&Binding> {
        self.scopes.iter().rev().find_map(|s| s.get(name))
    }

    /// The register of a name, `%r<…>` banks and vector components included.
    pub fn register(&self, name: &str) -> Option<(Type, RegisterSlot)> {
        if let Some((stem, component)) = name.split_once('.') {
            let index = match component {
                "x" | "r" => 0,
                "y" | "g" => 1,
                "z" | "b" => 2,
                "w" | "a" => 3,
                _ => return None,
            };
            return match self.lookup(stem)? {
                Binding::Vector(ty, places) => places.get(index).map(|p| (*ty, *p)),
                _ => None,
            };
        }
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = &name[stem.len()..];
        for scope in self.scopes.iter().rev() {
            match scope.get(name) {
                Some(Binding::Register(ty, place)) => return Some((*ty, *place)),
                Some(_) => return None,
                None => {}
            }
            if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
                continue;
            }
            // A prefix may itself end in digits (`%f1<4>` declares `%f10` … `%f13`).
            for cut in 0..digits.len() {
                let prefix = &name[..stem.len() + cut];
                if let Some(Binding::Bank(ty, count, first)) = scope.get(&format!("{prefix}<"))
                    && let Ok(index) = name[prefix.len()..].parse::<u32>()
                    && index < *count
                {
                    let place = match *first {
                        RegisterSlot::Reg(Reg::W(s)) => RegisterSlot::Reg(Reg::W(S32(s.0 + index))),
                        RegisterSlot::Reg(Reg::D(s)) => RegisterSlot::Reg(Reg::D(S64(s.0 + index))),
                        RegisterSlot::Pred(s) => RegisterSlot::Pred(SP(s.0 + index)),
                        RegisterSlot::Quad(s) => RegisterSlot::Quad(S64(s.0 + 2 * index)),
                    };
                    return Some((*ty, place));
                }
            }
        }
        None
    }

    pub fn bits32(&mut self, bits: u32) -> S32 {
        if let Some(s) = self.bits32.get(&bits) {
            return *s;
        }
        let s = self.temp32();
        self.f
            .constants32
            .push((s, Constant::Bits(u64::from(bits))));
        self.bits32.insert(bits, s);
        s
    }

    pub fn bits64(&mut self, bits: u64) -> S64 {
        if let Some(s) = self.bits64.get(&bits) {
            return *s;
        }
        let s = self.temp64();
        self.f.constants64.push((s, Constant::Bits(bits)));
        self.bits64.insert(bits, s);
        s
    }

    pub fn const_pred(&mut self, value: bool) -> SP {
        if let Some(s) = self.preds.get(&value) {
            return *s;
        }
        let s = self.temp_pred();
        self.f.constants_pred.push((s, value));
        self.preds.insert(value, s);
        s
    }

    pub fn symbol32(&mut self, constant: Constant) -> S32 {
        if let Some((s, _)) = self.f.constants32.iter().find(|(_, c)| *c == constant) {
            return *s;
        }
        let s = self.temp32();
        self.f.constants32.push((s, constant));
        s
    }

    pub fn symbol64(&mut self, constant: Constant) -> S64 {
        if let Some((s, _)) = self.f.constants64.iter().find(|(_, c)| *c == constant) {
            return *s;
        }
        let s = self.temp64();
        self.f.constants64.push((s, constant));
        s
    }

    /// The address of a variable or function.
    pub fn symbol(&mut self, name: &str, offset: i64) -> Result<Option<Constant>> {
        let shared = |this: &mut Self, index: u32| {
            if !this.f.shared_used.contains(&index) {
                this.f.shared_used.push(index);
            }
            Constant::Shared(index, offset)
        };
        match self.lookup(name) {
            Some(Binding::Frame { offset: at, .. }) => {
                return Ok(Some(Constant::Frame(*at, offset)));
            }
            Some(Binding::Shared(index)) => {
                let index = *index;
                return Ok(Some(shared(self, index)));
            }
            Some(Binding::Global(index)) => return Ok(Some(Constant::Global(*index, offset))),
            Some(Binding::Param { offset: at }) => {
                return Ok(Some(Constant::Bits((i64::from(*at) + offset) as u64)));
            }
            Some(_) => return Ok(None),
            None => {}
        }
        if let Some(index) = self.names.shared.get(name).copied() {
            return Ok(Some(shared(self, index)));
        }
        if let Some(index) = self.names.globals.get(name) {
            return Ok(Some(Constant::Global(*index, offset)));
        }
        match self.names.functions.get(name) {
            Some(CallTarget::Direct(index)) => {
                let index = *index;
                if !self.f.calls.contains(&index) {
                    self.f.calls.push(index);
                }
                Ok(Some(Constant::Function(index)))
            }
            Some(_) => self.fail(
                LoadErrorKind::Unsupported,
                format!("the address of the built-in function `{name}`"),
            ),
            None => Ok(None),
        }
    }

    pub fn special(name: &str) -> Option<(Special, Type)> {
        let axis = |prefix: &str| -> Option<u8> {
            match name.strip_prefix(prefix)? {
                ".x" => Some(0),
                ".y" => Some(1),
                ".z" => Some(2),
                ".w" => Some(3),
                _ => None,
            }
        };
        type OfAxis = fn(u8) -> Special;
        let make: [(&str, OfAxis); 4] = [
            ("%tid", Special::Tid),
            ("%ntid", Special::Ntid),
            ("%ctaid", Special::Ctaid),
            ("%nctaid", Special::Nctaid),
        ];
        for (prefix, special) in make {
            if let Some(axis) = axis(prefix) {
                return Some((special(axis), Type::U32));
            }
        }
        if let Some(number) = name.strip_prefix("%envreg") {
            let number = number.parse().ok().filter(|number| *number < 32)?;
            return Some((Special::EnvReg(number), Type::U32));
        }
        Some(match name {
            "%laneid" => (Special::LaneId, Type::U32),
            "%warpid" => (Special::WarpId, Type::U32),
            "%nwarpid" => (Special::NWarpId, Type::U32),
            "%smid" => (Special::SmId, Type::U32),
            "%nsmid" => (Special::NSmId, Type::U32),
            "%gridid" => (Special::GridId, Type::U64),
            "%lanemask_eq" => (Special::LaneMaskEq, Type::U32),
            "%lanemask_lt" => (Special::LaneMaskLt, Type::U32),
            "%lanemask_le" => (Special::LaneMaskLe, Type::U32),
            "%lanemask_gt" => (Special::LaneMaskGt, Type::U32),
            "%lanemask_ge" => (Special::LaneMaskGe, Type::U32),
            "%clock" => (Special::Clock, Type::U32),
            "%clock_hi" => (Special::ClockHi, Type::U32),
            "%clock64" => (Special::Clock64, Type::U64),
            "%globaltimer" => (Special::GlobalTimer, Type::U64),
            "%globaltimer_lo" => (Special::GlobalTimerLo, Type::U32),
            "%globaltimer_hi" => (Special::GlobalTimerHi, Type::U32),
            "%dynamic_smem_size" => (Special::DynamicSharedSize, Type::U32),
            "%total_smem_size" => (Special::TotalSharedSize, Type::U32),
            "%reserved_smem_offset_begin"
            | "%reserved_smem_offset_end"
            | "%reserved_smem_offset_cap"
            | "%reserved_smem_offset_0"
            | "%reserved_smem_offset_1" => (Special::Zero, Type::U32),
            // There are no graph launches from the device and no performance monitors.
            "%current_graph_exec" => (Special::Zero, Type::U64),
            _ => {
                let number = name.strip_prefix("%pm")?;
                let (number, ty) = match number.strip_suffix("_64") {
                    Some(number) => (number, Type::U64),
                    None => (number, Type::U32),
                };
                matches!(number.as_bytes(), [b'0'..=b'7']).then_some(())?;
                (Special::Zero, ty)
            }
        })
    }

    /// Refuses special registers as operands: only `mov` and `cvt` read them.
    pub fn no_special_registers(&self, i: &Instruction) -> Result<()> {
        for operand in &i.operands {
            if let Operand::Name { name, .. } = operand
                && name.starts_with('%')
                && Self::special(name).is_some()
                && self.register(name).is_none()
            {
                return self.operand_error(format!(
                    "`{}`: special registers such as `{name}` are read by `mov` and `cvt` alone",
                    i.text()
                ));
            }
        }
        Ok(())
    }

    pub fn push(&mut self, op: Op) {
        let (guard, site) = (self.guard, self.site);
        self.out.push(Flat::Inst(Inst { op, guard, site }));
    }

    /// Emits without the guard of the instruction being lowered.
    pub fn push_unguarded(&mut self, op: Op) {
        let site = self.site;
        self.out.push(Flat::Inst(Inst {
            op,
            guard: None,
            site,
        }));
    }

    pub fn new_site(&mut self, site: Site) {
        self.f.sites.push(site);
        self.site = self.f.sites.len() as u32 - 1;
    }

    /// A literal's bits as a value of a type.
    pub fn number_bits(&self, number: Number, ty: Type) -> Result<u64> {
        let bits = match (number, ty) {
            (Number::Int(v), Type::F64) => (v as f64).to_bits(),
            (Number::Int(v), Type::F32) => u64::from((v as f32).to_bits()),
            (Number::Int(v), _) => v as u64,
            (Number::F32(v), Type::F64) => f64::from(f32::from_bits(v)).to_bits(),
            (Number::F32(v), _) => u64::from(v),
            (Number::F64(v), Type::F32 | Type::TF32) => u64::from((v as f32).to_bits()),
            (Number::F64(v), Type::F64 | Type::B64) => v.to_bits(),
            (Number::F64(_), _) => {
                return self.operand_error("a floating-point literal where an integer is expected");
            }
        };
        Ok(if ty.bytes() >= 8 {
            bits
        } else {
            bits & ((1u64 << (8 * ty.bytes())) - 1)
        })
    }

    /// A source operand read as a value of `ty`; `wider` allows a register wider than the type.
    pub fn source(&mut self, operand: &Operand, ty: Type, wider: bool) -> Result<Reg> {
        match operand {
            Operand::Number(n) => {
                let bits = self.number_bits(*n, ty)?;
                Ok(if ty.bytes() == 8 {
                    Reg::D(self.bits64(bits))
                } else {
                    Reg::W(self.bits32(bits as u32))
                })
            }
            Operand::Name { name, offset } => {
                if let Some((have, place)) = self.register(name) {
                    let RegisterSlot::Reg(reg) = place else {
                        return self.operand_error(format!(
                            "`{name}` is a {have:?}, a `{ty:?}` value is expected"
                        ));
                    };
                    let fits = if wider {
                        have.bytes() >= ty.bytes()
                    } else {
                        have.bytes() == ty.bytes()
                    };
                    if !fits {
                        return self.operand_error(format!(
                            "register `{name}` has {} bytes, the instruction's type {ty:?} has {}",
                            have.bytes(),
                            ty.bytes()
                        ));
                    }
                    if *offset != 0 {
                        return self.operand_error(format!(
                            "an offset can't be added to register `{name}` here"
                        ));
                    }
                    self.note_use(reg);
                    return Ok(reg);
                }
                if let Some((special, special_ty)) = Self::special(name) {
                    let wide = special_ty.bytes() == 8 || ty.bytes() == 8;
                    let reg = if wide {
                        Reg::D(self.temp64())
                    } else {
                        Reg::W(self.temp32())
                    };
                    self.push_unguarded(Op::Special(reg, special));
                    if let (Reg::D(whole), true) = (reg, ty.bytes() < 8) {
                        // The low half, as the assembler reads it.
                        let low = self.temp32();
                        self.push_unguarded(Op::Alu(map1(low, whole, |v: u64| v as u32)));
                        return Ok(Reg::W(low));
                    }
                    return Ok(reg);
                }
                if let Some(constant) = self.symbol(name, *offset)? {
                    return Ok(if ty.bytes() == 8 {
                        Reg::D(self.symbol64(constant))
                    } else {
                        Reg::W(self.symbol32(constant))
                    });
                }
                self.fail(
                    LoadErrorKind::Unresolved,
                    format!("`{name}` is not declared"),
                )
            }
            other => self.operand_error(format!(
                "expected a register or a constant, found {}",
                describe(other)
            )),
        }
    }

    pub fn s32(&mut self, operand: &Operand, ty: Type) -> Result<S32> {
        match self.source(operand, ty, false)? {
            Reg::W(s) => Ok(s),
            Reg::D(_) => self.operand_error("expected a 32-bit operand, found a 64-bit one"),
        }
    }

    pub fn s64(&mut self, operand: &Operand, ty: Type) -> Result<S64> {
        match self.source(operand, ty, false)? {
            Reg::D(s) => Ok(s),
            Reg::W(_) => self.operand_error("expected a 64-bit operand, found a narrower one"),
        }
    }

    /// A predicate operand and whether it is negated.
    pub fn pred(&mut self, operand: &Operand) -> Result<(SP, bool)> {
        let (name, negated) = match operand {
            Operand::Name { name, offset: 0 } => (name, false),
            Operand::Not(name) => (name, true),
            Operand::Number(Number::Int(v)) => return Ok((self.const_pred(*v != 0), false)),
            other => {
                return self
                    .operand_error(format!("expected a predicate, found {}", describe(other)));
            }
        };
        match self.register(name) {
            Some((_, RegisterSlot::Pred(p))) => Ok((p, negated)),
            Some(_) => self.operand_error(format!("`{name}` is not a predicate")),
            None => self.fail(
                LoadErrorKind::Unresolved,
                format!("predicate `{name}` is not declared"),
            ),
        }
    }

    /// A destination of `ty`, and its declared width in bits; `wider` allows a wider register.
    pub fn dest(&mut self, operand: &Operand, ty: Type, wider: bool) -> Result<(Reg, u32)> {
        match operand {
            Operand::Sink => {
                let reg = if ty.bytes() == 8 {
                    Reg::D(self.temp64())
                } else {
                    Reg::W(self.temp32())
                };
                Ok((reg, 8 * ty.bytes()))
            }
            Operand::Name { name, offset: 0 } => match self.register(name) {
                Some((have, RegisterSlot::Reg(reg))) => {
                    let fits = if wider {
                        have.bytes() >= ty.bytes()
                    } else {
                        have.bytes() == ty.bytes()
                    };
                    if fits {
                        self.note_use(reg);
                        Ok((reg, 8 * have.bytes()))
                    } else {
                        self.operand_error(format!(
                            "register `{name}` has {} bytes, the instruction's type {ty:?} has {}",
                            have.bytes(),
                            ty.bytes()
                        ))
                    }
                }
                Some((have, _)) => self.operand_error(format!(
                    "`{name}` is a {have:?}, a `{ty:?}` register is expected"
                )),
                None => self.fail(
                    LoadErrorKind::Unresolved,
                    format!("register `{name}` is not declared"),
                ),
            },
            other => self.operand_error(format!(
                "expected a register to write, found {}",
                describe(other)
            )),
        }
    }

    pub fn d32(&mut self, operand: &Operand, ty: Type) -> Result<S32> {
        match self.dest(operand, ty, false)?.0 {
            Reg::W(s) => Ok(s),
            Reg::D(_) => self.operand_error("expected a 32-bit destination, found a 64-bit one"),
        }
    }

    pub fn d64(&mut self, operand: &Operand, ty: Type) -> Result<S64> {
        match self.dest(operand, ty, false)?.0 {
            Reg::D(s) => Ok(s),
            Reg::W(_) => self.operand_error("expected a 64-bit destination, found a narrower one"),
        }
    }

    pub fn dpred(&mut self, operand: &Operand) -> Result<SP> {
        match operand {
            Operand::Sink => Ok(self.temp_pred()),
            Operand::Name { name, offset: 0 } => match self.register(name) {
                Some((_, RegisterSlot::Pred(p))) => Ok(p),
                Some(_) => self.operand_error(format!("`{name}` is not a predicate")),
                None => self.fail(
                    LoadErrorKind::Unresolved,
                    format!("predicate `{name}` is not declared"),
                ),
            },
            other => self.operand_error(format!(
                "expected a predicate to write, found {}",
                describe(other)
            )),
        }
    }

    /// Room in the frame's local memory.
    pub fn frame(&mut self, size: u64, align: u64) -> Result<u32> {
        let align = align.max(1);
        let at = u64::from(self.f.frame_bytes).next_multiple_of(align);
        let end = at + size;
        if end > 512 << 10 {
            return self.fail(
                LoadErrorKind::Limit,
                "more than 512 KiB of local memory per thread",
            );
        }
        self.f.frame_bytes = end as u32;
        Ok(at as u32)
    }

    pub fn passed_frame(&mut self, size: u64, align: u64) -> Result<PassedIn> {
        Ok(PassedIn::Memory(
            self.frame(size, align.max(8))?,
            size as u32,
        ))
    }
}

pub(super) fn describe(operand: &Operand) -> String {
    match operand {
        Operand::Name { name, .. } => format!("`{name}`"),
        Operand::Not(name) => format!("`!{name}`"),
        Operand::Negated(name) => format!("`-{name}`"),
        Operand::Number(_) => "a number".into(),
        Operand::Sink => "`_`".into(),
        Operand::Vector(_) => "a vector `{…}`".into(),
        Operand::Address { .. } => "an address `[…]`".into(),
        Operand::Pair(..) => "a pair `a|b`".into(),
        Operand::List(_) => "a list `(…)`".into(),
    }
}

/// The modifiers of an instruction, each to be consumed exactly once.
pub(super) struct Modifiers<'a> {
    left: Vec<&'a str>,
}

impl<'a> Modifiers<'a> {
    pub fn new(all: &'a [String]) -> Self {
        Modifiers {
            left: all.iter().map(String::as_str).collect(),
        }
    }

    /// Consumes a modifier if it is there.
    pub fn flag(&mut self, name: &str) -> bool {
        match self.left.iter().position(|m| *m == name) {
            Some(at) => {
                self.left.remove(at);
                true
            }
            None => false,
        }
    }

    /// Consumes the first modifier that `pick` knows.
    pub fn pick<T>(&mut self, pick: impl Fn(&str) -> Option<T>) -> Option<T> {
        let (at, value) = self
            .left
            .iter()
            .enumerate()
            .find_map(|(i, m)| pick(m).map(|v| (i, v)))?;
        self.left.remove(at);
        Some(value)
    }

    /// Consumes every type, in order.
    pub fn types(&mut self) -> Vec<Type> {
        let mut out = Vec::new();
        self.left.retain(|m| match Type::parse(m) {
            Some(t) => {
                out.push(t);
                false
            }
            None => true,
        });
        out
    }

    /// The modifiers that nothing has consumed.
    pub fn rest(&self) -> &[&'a str] {
        &self.left
    }
}
