//! The front end: PTX text to a syntax tree with lines.

pub mod ast;
mod error;
pub mod lexer;
mod parser;

pub use error::{LoadError, LoadErrorKind};
pub use parser::parse;
