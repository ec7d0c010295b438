//! The executable form of a module: kernels, variables, register-resolved code.
//!
//! | module | what |
//! |---|---|
//! | `regs`, `code` | registers and the closures over them; instructions |
//! | `items`, `module` | kernels and variables; a compiled module |
//! | `layout` | control flow: the order of basic blocks |
//! | `lower` | from the syntax tree to all of them |

pub(crate) mod code;
mod items;
pub(crate) mod layout;
mod lower;
mod module;
pub(crate) mod regs;

pub(crate) use items::UNUSED;
pub use items::{Global, GlobalSpace, Kernel, Parameter, Relocation};
pub use module::Module;
