//! Why a command failed.

use std::fmt;

use super::advice;

/// Why a command failed, in one message.
#[derive(Debug)]
pub(crate) enum CliError {
    Message(String),
    /// Ctrl-C or SIGTERM: what was done so far, in words.
    Interrupted(String),
}

impl CliError {
    pub fn new(message: impl Into<String>) -> Self {
        Self::Message(message.into())
    }
}

/// An error of the library, with what helps against it.
impl<E: std::error::Error + 'static> From<E> for CliError {
    fn from(error: E) -> Self {
        Self::Message(advice::message(&error))
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(message) => f.write_str(message),
            Self::Interrupted(done) => write!(f, "interrupted: {done}"),
        }
    }
}
