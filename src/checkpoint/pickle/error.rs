//! Why a pickle is not read.

use thiserror::Error;

/// Why a pickle was not read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PickleError {
    /// The stream ends in the middle.
    #[error("the pickle ends at byte {at} in the middle of an instruction; the file is incomplete")]
    Truncated {
        /// Offset in the pickle.
        at: usize,
    },
    /// The stream is no well-formed pickle.
    #[error("the pickle is damaged at byte {at}: {what}")]
    Malformed {
        /// Offset in the pickle.
        at: usize,
        /// What was expected and what was found.
        what: String,
    },
    /// The stream names something that can harm.
    #[error(
        "the pickle names `{name}`, which a checkpoint has no business calling; refusing to read it"
    )]
    Forbidden {
        /// `module.name`.
        name: String,
    },
    /// The stream is larger than any checkpoint.
    #[error("the pickle builds more than {limit} {what}; no checkpoint does, refusing to read it")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}
