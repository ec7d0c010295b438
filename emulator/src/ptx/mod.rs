//! The front end: PTX text to a syntax tree with lines.

pub(crate) mod ast;
mod error;
pub(crate) mod lexer;
mod parser;

pub use error::{LoadError, LoadErrorKind};
pub(crate) use parser::parse;
