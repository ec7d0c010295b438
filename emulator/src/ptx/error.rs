//! Why PTX text could not be loaded.

/// Why a module couldn't be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}:{line}:{column}: {message}")]
pub struct LoadError {
    /// The module's name, as given to `compile`.
    pub name: String,
    /// Line in the PTX text, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// What class of error.
    pub kind: LoadErrorKind,
    /// What was expected, what was found.
    pub message: String,
}

/// The classes of load error, for the driver's error codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadErrorKind {
    /// The text isn't PTX.
    Syntax,
    /// An instruction, modifier, type or directive that isn't known or that sm_86 doesn't have.
    Unsupported,
    /// A name that isn't declared.
    Unresolved,
    /// An operand whose kind or type doesn't fit.
    Operand,
    /// A limit of the target is exceeded (shared memory, parameters).
    Limit,
}
