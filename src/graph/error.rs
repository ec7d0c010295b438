//! What can be wrong with a graph.

use thiserror::Error;

use super::TensorType;

/// Why an op refuses its inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What the op takes.
    pub expected: String,
    /// What it was given.
    pub found: String,
}

impl Mismatch {
    /// From what the op takes and what it was given.
    pub fn new(expected: impl ToString, found: impl ToString) -> Self {
        Self {
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    /// `found` is the list of input types.
    pub fn inputs(expected: impl ToString, found: &[TensorType]) -> Self {
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        Self::new(expected, found.join(", "))
    }
}

/// An error while a graph is built, differentiated or planned.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GraphError {
    /// An op refuses its inputs.
    #[error("{op} at '{path}' expects {expected}, found {found}")]
    Op {
        /// Name of the op.
        op: &'static str,
        /// Module path at which it was added.
        path: String,
        /// What the op takes.
        expected: String,
        /// What it was given.
        found: String,
    },
    /// A name stands for two leaves that differ.
    #[error("'{name}' is used as {asked} but was first used as {known}")]
    Leaf {
        /// Full name of the leaf.
        name: String,
        /// Type under which it was declared.
        known: TensorType,
        /// Type that was asked for now.
        asked: TensorType,
    },
    /// A loss depends on a value through an op that has no gradient.
    #[error("{op} at '{path}' has no gradient, but one is needed for '{wanted}'")]
    NoGradient {
        /// Name of the op.
        op: &'static str,
        /// Module path of the op.
        path: String,
        /// Module path of what the gradient was needed for.
        wanted: String,
    },
    /// The value to be differentiated has more than one element; its type.
    #[error("gradients need a scalar loss, found {0}")]
    LossNotScalar(TensorType),
    /// A network cannot be built as it is described; the reason.
    #[error("{0}")]
    Model(String),
}

impl GraphError {
    pub(crate) fn op(op: &'static str, path: String, mismatch: Mismatch) -> Self {
        Self::Op {
            op,
            path,
            expected: mismatch.expected,
            found: mismatch.found,
        }
    }
}
