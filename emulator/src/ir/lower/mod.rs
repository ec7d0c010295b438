//! From the syntax tree to executable code: module variables, functions, statements, control flow.

mod alu;
mod link;
mod memory;
mod names;
mod strict;
mod warp;

use std::collections::HashMap;

use link::finish_kernel;
use names::{Binding, Lowering, Modifiers, ModuleNames, RegisterSlot, Result, error};

use super::code::{Builtin, Call, CallTarget, Function, InstructionClass, Op, PassedIn, Site};
use super::items::{Global, GlobalSpace, Kernel, Parameter, Relocation, SharedVariable};
use super::layout::{self, Flat};
use super::regs::{Reg, map1};
use crate::limits;
use crate::ptx::LoadErrorKind;
use crate::ptx::ast::{
    Init, Instruction, Linkage, Number, Operand, PtxFunction, StateSpace, Statement, SyntaxTree,
    Type, Variable,
};

/// The largest parameter buffer of a kernel (PTX ISA 8.1 and later on sm_70 and newer).
const MAX_PARAMETER_BYTES: u64 = 32764;
/// The most virtual registers of a function, in 32-bit words; every warp takes host memory for them.
const MAX_REGISTERS: u32 = 1 << 17;

/// What lowering a module yields.
pub(super) struct Lowered {
    pub kernels: Vec<Kernel>,
    pub globals: Vec<Global>,
    pub shared: Vec<SharedVariable>,
    pub functions: Vec<Function>,
    pub files: HashMap<u32, String>,
}

/// Bytes of a declared variable; `None` if it doesn't fit in 64 bits.
fn variable_bytes(v: &Variable) -> Option<u64> {
    let mut bytes = u64::from(v.ty.bytes()) * u64::from(v.vector);
    for dim in &v.dims {
        bytes = bytes.checked_mul(*dim)?;
    }
    (bytes < 1 << 40).then_some(bytes)
}

fn variable_align(v: &Variable) -> u64 {
    u64::from(v.align.unwrap_or(0).max(v.ty.bytes() * v.vector))
}

/// Lowers a whole module.
pub(super) fn lower(tree: &SyntaxTree, name: &str) -> Result<Lowered> {
    let mut names = ModuleNames {
        name: name.to_owned(),
        globals: HashMap::new(),
        global_is_const: Vec::new(),
        shared: HashMap::new(),
        functions: HashMap::new(),
        function_kinds: Vec::new(),
    };
    check_target(tree, &names)?;
    let mut globals: Vec<Global> = Vec::new();
    let mut shared: Vec<SharedVariable> = Vec::new();
    for v in &tree.variables {
        declare_global(v, &mut names, &mut globals, &mut shared)?;
    }
    // Functions are numbered by name. A definition replaces its declarations.
    let mut definitions: Vec<&PtxFunction> = Vec::new();
    for f in &tree.functions {
        if f.body.is_some() {
            if names.functions.contains_key(&f.name) {
                return Err(error(
                    &names,
                    f.pos,
                    LoadErrorKind::Syntax,
                    format!("`{}` is defined twice", f.name),
                ));
            }
            names
                .functions
                .insert(f.name.clone(), CallTarget::Direct(definitions.len() as u32));
            names.function_kinds.push(f.is_kernel);
            definitions.push(f);
        }
    }
    for (new, old) in &tree.aliases {
        match names.functions.get(old) {
            Some(target) => {
                let target = *target;
                names.functions.insert(new.clone(), target);
            }
            None => {
                let pos = crate::ptx::lexer::Pos { line: 1, column: 1 };
                return Err(error(
                    &names,
                    pos,
                    LoadErrorKind::Unresolved,
                    format!("alias of `{old}`, which isn't defined"),
                ));
            }
        }
    }
    for f in &tree.functions {
        if f.body.is_none() && !names.functions.contains_key(&f.name) {
            let builtin = match f.name.as_str() {
                "vprintf" => Builtin::Vprintf,
                "__assertfail" => Builtin::AssertFail,
                "malloc" => Builtin::Malloc,
                "free" => Builtin::Free,
                // Declared but not defined: an error only where it is called.
                _ => continue,
            };
            names
                .functions
                .insert(f.name.clone(), CallTarget::Builtin(builtin));
        }
    }
    let mut functions = Vec::new();
    let mut kernels = Vec::new();
    for f in &definitions {
        let (lowered, parameters, new_shared) =
            function(f, &names, shared.len() as u32, &mut globals)?;
        for (size, align, name) in new_shared {
            shared.push(SharedVariable {
                name,
                size,
                align,
                dynamic: false,
            });
        }
        if f.is_kernel {
            kernels.push(kernel(
                f,
                &lowered,
                parameters,
                functions.len() as u32,
                tree,
                &names,
            )?);
        }
        functions.push(lowered);
    }
    let const_bytes: u64 = globals
        .iter()
        .filter(|g| g.space == GlobalSpace::Const)
        .map(|g| g.size.next_multiple_of(g.align.max(1)))
        .sum();
    if const_bytes > u64::from(limits::CONSTANT_MEMORY) {
        let pos = crate::ptx::lexer::Pos { line: 1, column: 1 };
        return Err(error(
            &names,
            pos,
            LoadErrorKind::Limit,
            format!(
                "{const_bytes} bytes of constant memory, there are {}",
                limits::CONSTANT_MEMORY
            ),
        ));
    }
    for k in &mut kernels {
        k.const_bytes = const_bytes as u32;
        finish_kernel(k, &functions, &shared).map_err(|message| {
            let pos = definitions
                .iter()
                .find(|f| f.name == k.name)
                .map(|f| f.pos)
                .unwrap_or_default();
            error(&names, pos, LoadErrorKind::Limit, message)
        })?;
    }
    let known: std::collections::HashSet<&str> = globals.iter().map(|g| g.name.as_str()).collect();
    for g in &globals {
        for r in &g.relocations {
            if !known.contains(r.symbol.as_str())
                && !matches!(names.functions.get(&r.symbol), Some(CallTarget::Direct(_)))
            {
                let pos = tree
                    .variables
                    .iter()
                    .find(|v| v.name == g.name)
                    .map(|v| v.pos)
                    .unwrap_or_default();
                let message = format!(
                    "the initialiser of `{}` points to `{}`, which isn't defined",
                    g.name, r.symbol
                );
                return Err(error(&names, pos, LoadErrorKind::Unresolved, message));
            }
        }
    }
    Ok(Lowered {
        kernels,
        globals,
        shared,
        functions,
        files: tree.files.iter().cloned().collect(),
    })
}

fn check_target(tree: &SyntaxTree, names: &ModuleNames) -> Result<()> {
    let digits: String = tree
        .target
        .trim_start_matches("sm_")
        .trim_start_matches("compute_")
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    let specific = tree.target.ends_with('a') || tree.target.ends_with('f');
    match digits.parse::<u32>() {
        // Text for sm_89 is accepted; what sm_86 lacks is refused instruction by instruction.
        Ok(sm) if sm <= 89 && !specific => Ok(()),
        _ => {
            let pos = crate::ptx::lexer::Pos { line: 1, column: 1 };
            let message = format!(
                "the module is for `{}`, this device is sm_86: compile for compute_86 or older",
                tree.target
            );
            Err(error(names, pos, LoadErrorKind::Unsupported, message))
        }
    }
}

fn declare_global(
    v: &Variable,
    names: &mut ModuleNames,
    globals: &mut Vec<Global>,
    shared: &mut Vec<SharedVariable>,
) -> Result<()> {
    let too_large = || {
        error(
            names,
            v.pos,
            LoadErrorKind::Limit,
            format!("`{}` is too large", v.name),
        )
    };
    match v.space {
        StateSpace::Shared => {
            let dynamic = v.linkage == Linkage::Extern;
            let size = if dynamic {
                0
            } else {
                variable_bytes(v).ok_or_else(too_large)?
            };
            names.shared.insert(v.name.clone(), shared.len() as u32);
            shared.push(SharedVariable {
                name: v.name.clone(),
                size,
                align: variable_align(v),
                dynamic,
            });
        }
        StateSpace::Global | StateSpace::Const => {
            if v.linkage == Linkage::Extern {
                let message = format!(
                    "`{}` is `.extern`: it is defined in no module that is linked here",
                    v.name
                );
                return Err(error(names, v.pos, LoadErrorKind::Unresolved, message));
            }
            let index = globals.len() as u32;
            let g = global(v, names)?;
            names.globals.insert(v.name.clone(), index);
            names.global_is_const.push(v.space == StateSpace::Const);
            globals.push(g);
        }
        StateSpace::Reg | StateSpace::Param | StateSpace::Local => {
            let message = format!(
                "`{}`: this state space doesn't exist at module level",
                v.name
            );
            return Err(error(names, v.pos, LoadErrorKind::Unsupported, message));
        }
    }
    Ok(())
}

fn global(v: &Variable, names: &ModuleNames) -> Result<Global> {
    let mut dims = v.dims.clone();
    let element = v.ty.bytes();
    let mut flat = Flattened {
        bytes: Vec::new(),
        relocations: Vec::new(),
    };
    if let Some(init) = &v.init {
        let inner = dims
            .iter()
            .skip(1)
            .try_fold(u64::from(v.vector), |bytes, dim| bytes.checked_mul(*dim))
            .map_or(u64::MAX, |bytes| bytes.max(1));
        if inner > 1 << 32 {
            return Err(error(
                names,
                v.pos,
                LoadErrorKind::Limit,
                format!("`{}` is too large", v.name),
            ));
        }
        let strides: Vec<u64> = {
            let mut shape: Vec<u64> = dims.iter().skip(1).copied().collect();
            if v.vector > 1 {
                shape.push(u64::from(v.vector));
            }
            (0..=shape.len())
                .map(|i| shape[i..].iter().product::<u64>() * u64::from(element))
                .collect()
        };
        flatten(init, v, &strides, 0, &mut flat, names)?;
        if dims.first() == Some(&0) {
            let row = u64::from(element) * inner;
            dims[0] = (flat.bytes.len() as u64).div_ceil(row);
        }
    }
    let sized = Variable { dims, ..v.clone() };
    let size = variable_bytes(&sized).ok_or_else(|| {
        error(
            names,
            v.pos,
            LoadErrorKind::Limit,
            format!("`{}` is too large", v.name),
        )
    })?;
    if flat.bytes.len() as u64 > size {
        let message = format!(
            "the initialiser of `{}` has {} bytes, the variable {size}",
            v.name,
            flat.bytes.len()
        );
        return Err(error(names, v.pos, LoadErrorKind::Operand, message));
    }
    Ok(Global {
        name: v.name.clone(),
        space: if v.space == StateSpace::Const {
            GlobalSpace::Const
        } else {
            GlobalSpace::Global
        },
        size,
        align: variable_align(v),
        bytes: flat.bytes,
        initialised: v.init.is_some(),
        relocations: flat.relocations,
    })
}

struct Flattened {
    bytes: Vec<u8>,
    relocations: Vec<Relocation>,
}

fn flatten(
    init: &Init,
    v: &Variable,
    strides: &[u64],
    at: u64,
    out: &mut Flattened,
    names: &ModuleNames,
) -> Result<()> {
    let width = v.ty.bytes() as usize;
    let end = at as usize + width;
    if end > 1 << 32 {
        return Err(error(
            names,
            v.pos,
            LoadErrorKind::Limit,
            format!("`{}` is too large", v.name),
        ));
    }
    match init {
        Init::List(list) => {
            // A flat list fills element by element, a nested one row by row.
            let nested = list.iter().any(|i| matches!(i, Init::List(_)));
            let stride = if nested {
                strides.first().copied().unwrap_or(width as u64)
            } else {
                width as u64
            };
            let deeper = if nested {
                strides.get(1..).unwrap_or(&[])
            } else {
                &[]
            };
            for (n, item) in list.iter().enumerate() {
                flatten(item, v, deeper, at + stride * n as u64, out, names)?;
            }
        }
        Init::Number(number) => {
            let bits: u128 = match (*number, v.ty) {
                (Number::Int(x), Type::F32) => u128::from((x as f32).to_bits()),
                (Number::Int(x), Type::F64) => u128::from((x as f64).to_bits()),
                (Number::Int(x), _) => x as u128,
                (Number::F32(x), Type::F64) => u128::from(f64::from(f32::from_bits(x)).to_bits()),
                (Number::F32(x), _) => u128::from(x),
                (Number::F64(x), Type::F32) => u128::from((x as f32).to_bits()),
                (Number::F64(x), _) => u128::from(x.to_bits()),
            };
            if out.bytes.len() < end {
                out.bytes.resize(end, 0);
            }
            out.bytes[at as usize..end].copy_from_slice(&bits.to_le_bytes()[..width]);
        }
        Init::Address {
            symbol,
            addend,
            mask,
            pos,
        } => {
            if out.bytes.len() < end {
                out.bytes.resize(end, 0);
            }
            let shift = match mask {
                None if width >= 4 => 0,
                Some(mask) if width == 1 && mask.count_ones() == 8 => mask.trailing_zeros(),
                _ => {
                    let message = format!(
                        "an address doesn't fit the {width}-byte elements of `{}`",
                        v.name
                    );
                    return Err(error(names, *pos, LoadErrorKind::Operand, message));
                }
            };
            out.relocations.push(Relocation {
                offset: at,
                width: width as u32,
                shift,
                symbol: symbol.clone(),
                addend: *addend,
            });
        }
    }
    Ok(())
}

fn kernel(
    f: &PtxFunction,
    lowered: &Function,
    parameters: Vec<Parameter>,
    index: u32,
    tree: &SyntaxTree,
    names: &ModuleNames,
) -> Result<Kernel> {
    let bytes = parameters
        .last()
        .map_or(0, |p| u64::from(p.offset) + u64::from(p.size));
    if bytes > MAX_PARAMETER_BYTES {
        let message = format!(
            "`{}` takes {bytes} bytes of parameters, the limit is {MAX_PARAMETER_BYTES}",
            f.name
        );
        return Err(error(names, f.pos, LoadErrorKind::Limit, message));
    }
    if !f.returns.is_empty() {
        return Err(error(
            names,
            f.pos,
            LoadErrorKind::Syntax,
            "an `.entry` returns nothing",
        ));
    }
    Ok(Kernel {
        name: f.name.clone(),
        parameters,
        parameter_bytes: bytes as u32,
        static_shared_bytes: 0,
        local_bytes: lowered.frame_bytes,
        const_bytes: 0,
        max_threads: f.max_threads,
        required_threads: f.required_threads,
        min_blocks_per_sm: f.min_blocks_per_sm,
        registers: f.max_registers.unwrap_or(255).min(lowered.registers),
        ptx_version: tree.version,
        function: index,
        shared_offsets: Vec::new(),
        narrowest_shared: 16,
        narrowest_global: 16,
        general_sync: false,
    })
}

type NewShared = Vec<(u64, u64, String)>;

fn function(
    f: &PtxFunction,
    names: &ModuleNames,
    shared_base: u32,
    globals: &mut Vec<Global>,
) -> Result<(Function, Vec<Parameter>, NewShared)> {
    let mut l = Lowering::new(names, &f.name, f.is_kernel, f.pos, shared_base);
    let mut parameters = Vec::new();
    for p in &f.params {
        l.pos = p.pos;
        let Some(size) = variable_bytes(p).filter(|s| *s <= MAX_PARAMETER_BYTES) else {
            return l.fail(
                LoadErrorKind::Limit,
                format!("parameter `{}` is too large", p.name),
            );
        };
        let align = variable_align(p);
        if f.is_kernel {
            let end = parameters
                .last()
                .map_or(0, |p: &Parameter| u64::from(p.offset) + u64::from(p.size));
            let offset = end.next_multiple_of(align.max(1));
            if offset + size > MAX_PARAMETER_BYTES {
                let message = format!("more than {MAX_PARAMETER_BYTES} bytes of parameters");
                return l.fail(LoadErrorKind::Limit, message);
            }
            let offset = offset as u32;
            l.scopes[0].insert(p.name.clone(), Binding::Param { offset });
            parameters.push(Parameter {
                name: p.name.clone(),
                offset,
                size: size as u32,
                align: align as u32,
            });
        } else {
            let passed = formal(&mut l, p, size, align)?;
            l.f.params.push(passed);
        }
    }
    for p in &f.returns {
        l.pos = p.pos;
        let Some(size) = variable_bytes(p).filter(|s| *s <= MAX_PARAMETER_BYTES) else {
            return l.fail(
                LoadErrorKind::Limit,
                format!("return value `{}` is too large", p.name),
            );
        };
        let passed = formal(&mut l, p, size, variable_align(p))?;
        l.f.returns.push(passed);
    }
    let body = f.body.as_deref().unwrap_or(&[]);
    statements(&mut l, body, globals)?;
    // A body may end without `ret`.
    l.guard = None;
    l.new_site(Site {
        line: f.pos.line,
        location: l.location,
        text: String::from("ret"),
        class: InstructionClass::Control,
    });
    l.push(if f.is_kernel { Op::Exit } else { Op::Return });
    if l.f.n32 + 2 * l.f.n64 > MAX_REGISTERS {
        l.pos = f.pos;
        return l.fail(
            LoadErrorKind::Limit,
            format!(
                "`{}` has more than {MAX_REGISTERS} virtual registers",
                f.name
            ),
        );
    }
    let new_shared = std::mem::take(&mut l.new_shared);
    l.f.frame_bytes = l.f.frame_bytes.next_multiple_of(16);
    let Lowering {
        out,
        mut f,
        labels,
        uses,
        ..
    } = l;
    let loops = text_loops(&out, labels);
    f.registers = layout::register_estimate(&uses, &loops);
    layout::order(out, labels, &mut f).map_err(|message| {
        error(
            names,
            crate::ptx::lexer::Pos::default(),
            LoadErrorKind::Unresolved,
            message,
        )
    })?;
    Ok((f, parameters, new_shared))
}

/// The loops of the flat code as (first, last) instruction: from a label to a later branch to it.
fn text_loops(flat: &[Flat], labels: u32) -> Vec<(u32, u32)> {
    let mut place = vec![None; labels as usize];
    let (mut site, mut loops) = (0, Vec::new());
    for item in flat {
        match item {
            Flat::Label(id) => place[*id as usize] = Some(site + 1),
            Flat::Inst(inst) => {
                site = inst.site;
                if let Op::Branch(t) = inst.op
                    && let Some(Some(start)) = place.get(t as usize)
                {
                    loops.push((*start, site));
                }
            }
        }
    }
    loops
}

fn formal(l: &mut Lowering<'_>, p: &Variable, size: u64, align: u64) -> Result<PassedIn> {
    if p.space == StateSpace::Reg {
        let place = l.place(p.ty)?;
        l.scopes[0].insert(p.name.clone(), Binding::Register(p.ty, place));
        return match place {
            RegisterSlot::Reg(reg) => Ok(PassedIn::Register(reg, p.ty.bytes())),
            RegisterSlot::Pred(_) | RegisterSlot::Quad(_) => {
                l.operand_error(format!("a {:?} can't be a parameter in a register", p.ty))
            }
        };
    }
    let passed = l.passed_frame(size, align)?;
    if let PassedIn::Memory(offset, size) = passed {
        l.scopes[0].insert(p.name.clone(), Binding::Frame { offset, size });
    }
    Ok(passed)
}

fn statements(l: &mut Lowering<'_>, body: &[Statement], globals: &mut Vec<Global>) -> Result<()> {
    // A label is visible in its whole block, also before it appears.
    for s in body {
        let (name, binding) = match s {
            Statement::Label(name) => {
                l.labels += 1;
                (name, Binding::Label(l.labels - 1))
            }
            Statement::BranchTargets(name, targets) => (name, Binding::Targets(targets.clone())),
            Statement::Prototype(name) => (name, Binding::Prototype),
            _ => continue,
        };
        if let Some(scope) = l.scopes.last_mut() {
            scope.insert(name.clone(), binding);
        }
    }
    for s in body {
        match s {
            Statement::Variable(v) => declare(l, v, globals)?,
            Statement::Label(name) => {
                if let Some(Binding::Label(id)) = l.scopes.last().and_then(|s| s.get(name)) {
                    l.out.push(Flat::Label(*id));
                }
            }
            Statement::Block(inner) => {
                l.scopes.push(HashMap::new());
                statements(l, inner, globals)?;
                l.scopes.pop();
            }
            Statement::Loc(location) => l.location = Some(*location),
            Statement::Instruction(i) => instruction(l, i)?,
            Statement::BranchTargets(..) | Statement::Prototype(_) => {}
        }
    }
    Ok(())
}

fn declare(l: &mut Lowering<'_>, v: &Variable, globals: &mut Vec<Global>) -> Result<()> {
    l.pos = v.pos;
    let binding = match v.space {
        StateSpace::Reg => match (v.bank, v.vector) {
            (Some(count), 1) => {
                if count > MAX_REGISTERS || l.f.n32.max(l.f.n64).max(l.f.npred) > MAX_REGISTERS {
                    return l.fail(
                        LoadErrorKind::Limit,
                        format!("{count} registers in one declaration"),
                    );
                }
                let first = l.allocate_bank(v.ty, count)?;
                if let Some(scope) = l.scopes.last_mut() {
                    scope.insert(format!("{}<", v.name), Binding::Bank(v.ty, count, first));
                }
                return Ok(());
            }
            (None, 1) => Binding::Register(v.ty, l.place(v.ty)?),
            (None, n) => {
                Binding::Vector(v.ty, (0..n).map(|_| l.place(v.ty)).collect::<Result<_>>()?)
            }
            _ => return l.fail(LoadErrorKind::Unsupported, "a bank of vector registers"),
        },
        StateSpace::Local | StateSpace::Param => {
            let Some(size) = variable_bytes(v).filter(|s| *s <= 512 << 10) else {
                return l.fail(
                    LoadErrorKind::Limit,
                    format!("`{}` is too large for local memory", v.name),
                );
            };
            let offset = l.frame(size, variable_align(v))?;
            Binding::Frame {
                offset,
                size: size as u32,
            }
        }
        StateSpace::Shared => {
            if v.linkage == Linkage::Extern {
                match l.names.shared.get(&v.name) {
                    Some(index) => Binding::Shared(*index),
                    None => {
                        return l.fail(
                            LoadErrorKind::Unsupported,
                            "`.extern .shared` stands at module level",
                        );
                    }
                }
            } else {
                let Some(size) = variable_bytes(v) else {
                    return l.fail(LoadErrorKind::Limit, format!("`{}` is too large", v.name));
                };
                l.new_shared.push((size, variable_align(v), v.name.clone()));
                Binding::Shared(l.shared_base + l.new_shared.len() as u32 - 1)
            }
        }
        StateSpace::Global | StateSpace::Const => {
            let g = global(v, l.names)?;
            globals.push(g);
            Binding::Global(globals.len() as u32 - 1)
        }
    };
    if let Some(scope) = l.scopes.last_mut() {
        scope.insert(v.name.clone(), binding);
    }
    Ok(())
}

fn instruction(l: &mut Lowering<'_>, i: &Instruction) -> Result<()> {
    l.pos = i.pos;
    l.guard = None;
    l.new_site(Site {
        line: i.pos.line,
        location: l.location,
        text: i.text(),
        class: InstructionClass::Other,
    });
    if let Some(g) = &i.guard {
        l.guard = Some(l.pred(&if g.negated {
            Operand::Not(g.name.clone())
        } else {
            Operand::Name {
                name: g.name.clone(),
                offset: 0,
            }
        })?);
    }
    if let Some(why) = strict::objection(i) {
        return l.fail(LoadErrorKind::Unsupported, why);
    }
    if !strict::takes_special_registers(&i.opcode) {
        l.no_special_registers(i)?;
    }
    let mut m = Modifiers::new(&i.modifiers);
    let class = match control(l, i, &mut m)? {
        Some(class) => class,
        None => match l.lower_memory(i, &mut m)? {
            Some(class) => class,
            None => match l.lower_warp(i, &mut m)? {
                Some(class) => class,
                None => match l.lower_alu(i, &mut m)? {
                    Some(class) => class,
                    None => {
                        return l.fail(
                            LoadErrorKind::Unsupported,
                            format!("unknown instruction `{}`", i.text()),
                        );
                    }
                },
            },
        },
    };
    if let Some(left) = m.rest().first() {
        return l.fail(
            LoadErrorKind::Unsupported,
            format!("`{}`: the modifier `.{left}` is not known here", i.text()),
        );
    }
    let site = l.site as usize;
    l.f.sites[site].class = class;
    Ok(())
}

fn label(l: &Lowering<'_>, operand: &Operand) -> Result<u32> {
    match operand {
        Operand::Name { name, offset: 0 } => match l.lookup(name) {
            Some(Binding::Label(id)) => Ok(*id),
            _ => l.fail(
                LoadErrorKind::Unresolved,
                format!("there is no label `{name}`"),
            ),
        },
        _ => l.operand_error("expected a label"),
    }
}

fn control(
    l: &mut Lowering<'_>,
    i: &Instruction,
    m: &mut Modifiers<'_>,
) -> Result<Option<InstructionClass>> {
    match i.opcode.as_str() {
        "bra" => {
            m.flag("uni");
            let [target] = &i.operands[..] else {
                return l.operand_error("`bra` takes one label");
            };
            let target = label(l, target)?;
            l.push(Op::Branch(target));
        }
        "brx" => {
            if !m.flag("idx") {
                return l.fail(LoadErrorKind::Unsupported, "only `brx.idx` exists");
            }
            m.flag("uni");
            let [index, Operand::Name { name, .. }] = &i.operands[..] else {
                return l.operand_error("`brx.idx` takes an index and a list of targets");
            };
            let index = l.s32(index, Type::U32)?;
            let Some(Binding::Targets(targets)) = l.lookup(name) else {
                return l.fail(
                    LoadErrorKind::Unresolved,
                    format!("there are no branch targets `{name}`"),
                );
            };
            let targets = targets
                .clone()
                .into_iter()
                .map(|t| label(l, &Operand::Name { name: t, offset: 0 }))
                .collect::<Result<Vec<_>>>()?;
            l.push(Op::BranchIndex(index, targets));
        }
        "ret" => {
            m.flag("uni");
            l.push(if l.f.is_kernel { Op::Exit } else { Op::Return });
        }
        "exit" => l.push(Op::Exit),
        "trap" | "brkpt" => l.push(Op::Trap),
        "nanosleep" => {
            m.types();
            let [t] = &i.operands[..] else {
                return l.operand_error("`nanosleep` takes one operand");
            };
            l.s32(t, Type::U32)?;
            l.push(Op::Sleep);
        }
        "pmevent" => {
            m.flag("mask");
            l.push(Op::Hint);
        }
        "isspacep" => {
            let space = m.pick(|m| {
                Some(match m {
                    "global" => super::code::AccessSpace::Global,
                    "shared" | "shared::cta" => super::code::AccessSpace::Shared,
                    "local" => super::code::AccessSpace::Local,
                    "const" => super::code::AccessSpace::Const,
                    "param" | "param::entry" => super::code::AccessSpace::Param,
                    _ => return None,
                })
            });
            let (Some(space), [d, a]) = (space, &i.operands[..]) else {
                return l.operand_error("`isspacep` needs a state space and two operands");
            };
            let narrow = matches!(a, Operand::Name { name, .. }
                if matches!(l.register(name), Some((_, RegisterSlot::Reg(Reg::W(_))))));
            let d = l.dpred(d)?;
            let a = if narrow {
                let (low, wide) = (l.s32(a, Type::U32)?, l.temp64());
                l.push(Op::Alu(map1(wide, low, |a: u32| u64::from(a))));
                wide
            } else {
                l.s64(a, Type::U64)?
            };
            l.push(Op::IsSpace { d, a, space });
            return Ok(Some(InstructionClass::Predicate));
        }
        "alloca" => {
            let ty = stack_type(l, i, m)?;
            let (d, size, align) = match &i.operands[..] {
                [d, size] => (d, size, 8),
                [d, size, Operand::Number(Number::Int(align))]
                    if matches!(align, 1..=128) && align.count_ones() == 1 =>
                {
                    (d, size, *align as u32)
                }
                _ => return l.operand_error("`alloca` takes an address, a size and an alignment"),
            };
            let size = l.source(size, ty, false)?;
            let d = l.dest(d, ty, false)?.0;
            l.push(Op::StackAllocate(d, size, align));
        }
        "stacksave" | "stackrestore" => {
            let ty = stack_type(l, i, m)?;
            let [place] = &i.operands[..] else {
                return l.operand_error(format!("`{}` takes one operand", i.opcode));
            };
            if i.opcode == "stacksave" {
                let d = l.dest(place, ty, false)?.0;
                l.push(Op::StackSave(d));
            } else {
                let a = l.source(place, ty, false)?;
                l.push(Op::StackRestore(a));
            }
        }
        "call" => call(l, i, m)?,
        _ => return Ok(None),
    }
    Ok(Some(InstructionClass::Control))
}

fn stack_type(l: &Lowering<'_>, i: &Instruction, m: &mut Modifiers<'_>) -> Result<Type> {
    match m.types()[..] {
        [ty @ (Type::U32 | Type::U64)] => Ok(ty),
        _ => l.fail(
            LoadErrorKind::Unsupported,
            format!("`{}` has the types `.u32` and `.u64`", i.text()),
        ),
    }
}

fn call(l: &mut Lowering<'_>, i: &Instruction, m: &mut Modifiers<'_>) -> Result<()> {
    m.flag("uni");
    let mut operands = i.operands.iter().peekable();
    let mut lists = [&[][..]; 2];
    if let Some(Operand::List(list)) = operands.peek() {
        lists[0] = list;
        operands.next();
    }
    let Some(Operand::Name { name, offset: 0 }) = operands.next() else {
        return l.operand_error("`call` needs a function");
    };
    if let Some(Operand::List(list)) = operands.peek() {
        lists[1] = list;
        operands.next();
    }
    let target = if let Some((_, place)) = l.register(name) {
        let RegisterSlot::Reg(Reg::D(s)) = place else {
            return l.operand_error(format!(
                "`{name}` is not a 64-bit register with a function's address"
            ));
        };
        if operands.next().is_none() {
            return l.operand_error("an indirect call needs a prototype or a list of targets");
        }
        l.f.calls_indirectly = true;
        CallTarget::Indirect(s)
    } else {
        match l.names.functions.get(name) {
            Some(CallTarget::Direct(index)) => {
                let index = *index;
                if l.names.function_kinds[index as usize] {
                    return l.fail(
                        LoadErrorKind::Unsupported,
                        format!("`{name}` is a kernel and can't be called"),
                    );
                }
                if !l.f.calls.contains(&index) {
                    l.f.calls.push(index);
                }
                CallTarget::Direct(index)
            }
            Some(target) => *target,
            None => {
                return l.fail(
                    LoadErrorKind::Unresolved,
                    format!("the function `{name}` is called but not defined"),
                );
            }
        }
    };
    let mut passed = [Vec::new(), Vec::new()];
    for (n, list) in lists.iter().enumerate() {
        for o in list.iter() {
            let Operand::Name { name, offset: 0 } = o else {
                return l.operand_error(
                    "arguments and return values of a call are `.param` variables or registers",
                );
            };
            let p = match l.lookup(name) {
                Some(Binding::Frame { offset, size }) => PassedIn::Memory(*offset, *size),
                _ => match l.register(name) {
                    Some((ty, RegisterSlot::Reg(reg))) => PassedIn::Register(reg, ty.bytes()),
                    _ => {
                        return l.fail(
                            LoadErrorKind::Unresolved,
                            format!("`{name}` is not declared"),
                        );
                    }
                },
            };
            passed[n].push(p);
        }
    }
    let [returns, arguments] = passed;
    l.push(Op::Call(Box::new(Call {
        target,
        arguments,
        returns,
    })));
    Ok(())
}
