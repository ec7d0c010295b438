//! What can be wrong with a graph.

use thiserror::Error;

use super::TensorType;

/// Why an op refuses its inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    pub expected: String,
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
    #[error("{op} at '{path}' expects {expected}, found {found}")]
    Op {
        op: &'static str,
        path: String,
        expected: String,
        found: String,
    },
    #[error("'{name}' is used as {asked} but was first used as {known}")]
    Leaf {
        name: String,
        known: TensorType,
        asked: TensorType,
    },
    #[error("{op} at '{path}' has no gradient, but one is needed for '{wanted}'")]
    NoGradient {
        op: &'static str,
        path: String,
        wanted: String,
    },
    #[error("gradients need a scalar loss, found {0}")]
    LossNotScalar(TensorType),
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
