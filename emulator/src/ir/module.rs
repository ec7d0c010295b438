//! A compiled module.

use std::collections::HashMap;

use super::code::{Builtin, CallTarget, Function, Op};
use super::items::{Global, Kernel, SharedVariable};
use super::lower;
use crate::ptx::ast::Location;
use crate::ptx::{LoadError, parse};

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
        let tree = parse(ptx, name)?;
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
    pub(crate) fn source(&self, at: Option<Location>) -> Option<(String, u32)> {
        let at = at?;
        Some((self.files.get(&at.file)?.clone(), at.line))
    }
}
