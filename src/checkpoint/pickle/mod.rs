//! Python pickles as data: a machine that builds values and never runs anything.
//!
//! A pickle is a program for a stack machine that may call any importable function. [`Pickle::parse`] executes the
//! stack part only. Lists, dicts, tuples, numbers and strings become [`PickleNode`]s; a class or function is a name
//! ([`PickleNode::Global`]), and calling one gives a [`PickleNode::Call`] that remembers who would have been called with what.
//! What it stands for stays opaque, except for NumPy's numbers, which are read. Names that no checkpoint has a reason to
//! mention, such as `posix.system`, stop the reader.

mod error;
mod numpy;
mod policy;
mod render;
mod value;
mod vm;

pub use error::PickleError;
pub(super) use numpy::NumpyArray;
pub use value::{Call, Id, Pickle, PickleNode};

impl Pickle {
    /// Reads one pickle (protocols 0 to 5) at the start of `bytes`; returns it and its length in bytes.
    ///
    /// # Errors
    /// If the pickle is truncated, malformed, too large, or names something dangerous.
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), PickleError> {
        vm::run(bytes)
    }
}
