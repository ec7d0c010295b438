//! The executable form of a module: kernels, variables, register-resolved code.

pub mod code;
pub mod layout;
mod lower;
pub mod regs;

use std::collections::HashMap;

use crate::ptx::LoadError;
use code::{Builtin, CallTarget, Function, Op};

/// A kernel's parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// The name in the PTX.
    pub name: String,
    /// Byte offset in the parameter buffer.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
    /// Alignment in bytes.
    pub align: u32,
}

/// The state space of a module variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlobalSpace {
    /// `.global`
    Global,
    /// `.const`
    Const,
}

/// A module variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Global {
    /// The name in the PTX.
    pub name: String,
    /// Where it lives.
    pub space: GlobalSpace,
    /// Bytes.
    pub size: u64,
    /// Alignment in bytes.
    pub align: u64,
    /// Initial bytes; shorter than `size` means zeros follow. Empty and `initialised == false`
    /// means that the variable has no initialiser (it starts as zeros, as the CUDA C++ rules say).
    pub bytes: Vec<u8>,
    /// Whether the PTX gives an initialiser.
    pub initialised: bool,
    /// Addresses to be written into `bytes` when the module is placed.
    pub relocations: Vec<Relocation>,
}

/// An address inside an initialiser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// Byte offset in the variable.
    pub offset: u64,
    /// Bytes of the field: 4 or 8, or 1 for one byte of an address.
    pub width: u32,
    /// The address is shifted right by so many bits first.
    pub shift: u32,
    /// What is pointed to.
    pub symbol: String,
    /// Added to the symbol's address.
    pub addend: i64,
}

/// What a host program can ask about a kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The entry's name.
    pub name: String,
    /// Parameters in order.
    pub parameters: Vec<Parameter>,
    /// Bytes of the parameter buffer.
    pub parameter_bytes: u32,
    /// Static shared memory in bytes.
    pub static_shared_bytes: u32,
    /// Local memory per thread in bytes.
    pub local_bytes: u32,
    /// `.const` bytes of the module.
    pub const_bytes: u32,
    /// `.maxntid`, where given.
    pub max_threads: Option<[u32; 3]>,
    /// `.reqntid`, where given.
    pub required_threads: Option<[u32; 3]>,
    /// `.minnctapersm`, where given.
    pub min_blocks_per_sm: Option<u32>,
    /// An estimate of the registers per thread, from the live ranges of virtual registers.
    pub registers: u32,
    /// The module's `.version`, e.g. 88 for 8.8.
    pub ptx_version: u32,
    pub(crate) function: u32,
    /// Where the module's shared variables lie in a block of this kernel.
    pub(crate) shared_offsets: Vec<u32>,
    pub(crate) narrowest_shared: u32,
    pub(crate) narrowest_global: u32,
    pub(crate) general_sync: bool,
}

/// A `.shared` variable of the module.
#[derive(Clone, Debug)]
pub(crate) struct SharedVariable {
    pub name: String,
    pub size: u64,
    pub align: u64,
    /// `.extern`: starts where the static ones end, its size is given by the launch.
    pub dynamic: bool,
}

/// The place of a shared variable that a kernel doesn't use.
pub(crate) const UNUSED: u32 = u32::MAX;

/// What depends on all functions that a kernel may call: the layout of shared memory, the narrowest
/// accesses, the stack.
fn finish_kernel(
    k: &mut Kernel,
    functions: &[Function],
    shared: &[SharedVariable],
) -> Result<(), String> {
    let mut seen = vec![false; functions.len()];
    let mut work = vec![k.function];
    let mut used = vec![false; shared.len()];
    while let Some(at) = work.pop() {
        let Some(f) = functions.get(at as usize) else {
            continue;
        };
        if std::mem::replace(&mut seen[at as usize], true) {
            continue;
        }
        for v in &f.shared_used {
            used[*v as usize] = true;
        }
        k.narrowest_shared = k.narrowest_shared.min(f.narrowest_shared);
        k.narrowest_global = k.narrowest_global.min(f.narrowest_global);
        k.general_sync |= f.general_sync;
        work.extend(&f.calls);
        if f.calls_indirectly {
            work.extend(
                functions
                    .iter()
                    .enumerate()
                    .filter(|(_, f)| !f.is_kernel)
                    .map(|(i, _)| i as u32),
            );
        }
    }
    let mut end = 0u64;
    k.shared_offsets = vec![UNUSED; shared.len()];
    let mut dynamic_align = 16u64;
    for (n, v) in shared.iter().enumerate() {
        if !used[n] {
            continue;
        }
        if v.dynamic {
            dynamic_align = dynamic_align.max(v.align);
            continue;
        }
        end = end.next_multiple_of(v.align.max(1));
        k.shared_offsets[n] = end as u32;
        end += v.size;
        if end > u64::from(crate::limits::STATIC_SHARED_PER_BLOCK) {
            return Err(format!(
                "kernel `{}` has more than {} bytes of static shared memory (at `{}`); use dynamic shared memory",
                k.name,
                crate::limits::STATIC_SHARED_PER_BLOCK,
                v.name
            ));
        }
    }
    k.static_shared_bytes = end as u32;
    let dynamic_start = end.next_multiple_of(dynamic_align) as u32;
    for (n, v) in shared.iter().enumerate() {
        if v.dynamic {
            k.shared_offsets[n] = dynamic_start;
        }
    }
    if shared.iter().enumerate().any(|(n, v)| v.dynamic && used[n]) {
        k.static_shared_bytes = dynamic_start.max(end as u32);
    }
    Ok(())
}

/// A compiled module.
pub struct Module {
    name: String,
    kernels: Vec<Kernel>,
    globals: Vec<Global>,
    shared: Vec<SharedVariable>,
    functions: Vec<Function>,
    files: HashMap<u32, String>,
}

impl Module {
    /// Parses and lowers PTX text. `name` is used in errors.
    ///
    /// # Errors
    /// [`LoadError`] with line and column: the text isn't PTX, or uses what sm_86 doesn't have.
    pub fn compile(ptx: &str, name: &str) -> Result<Module, LoadError> {
        let tree = crate::ptx::parse(ptx, name)?;
        let lower::Lowered {
            kernels,
            globals,
            shared,
            functions,
            files,
        } = lower::lower(&tree, name)?;
        Ok(Module {
            name: name.to_owned(),
            kernels,
            globals,
            shared,
            functions,
            files,
        })
    }

    /// The name given to [`Module::compile`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The module's entries in the order of the text.
    pub fn kernels(&self) -> &[Kernel] {
        &self.kernels
    }

    /// The entry with this name.
    pub fn kernel(&self, name: &str) -> Option<&Kernel> {
        self.kernels.iter().find(|k| k.name == name)
    }

    /// Whether a kernel may call `malloc`.
    pub(crate) fn uses_heap(&self) -> bool {
        let calls_malloc = |op: &Op| matches!(op, Op::Call(call) if call.target == CallTarget::Builtin(Builtin::Malloc));
        self.functions
            .iter()
            .any(|f| f.insts.iter().any(|inst| calls_malloc(&inst.op)))
    }

    /// The module's `.global` and `.const` variables.
    pub fn globals(&self) -> &[Global] {
        &self.globals
    }

    pub(crate) fn functions(&self) -> &[Function] {
        &self.functions
    }

    pub(crate) fn shared(&self) -> &[SharedVariable] {
        &self.shared
    }

    pub(crate) fn function_index(&self, name: &str) -> Option<u32> {
        self.functions
            .iter()
            .position(|f| f.name == name)
            .map(|i| i as u32)
    }

    /// Source file and line of a `.loc`.
    pub(crate) fn source(&self, at: Option<crate::ptx::ast::Location>) -> Option<(String, u32)> {
        let at = at?;
        Some((self.files.get(&at.file)?.clone(), at.line))
    }
}
