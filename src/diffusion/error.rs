//! What can be wrong with a request to sample.

use thiserror::Error;

/// An error in a noise schedule or a sampler's settings.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum DiffusionError {
    /// A field of a configuration is wrong.
    #[error("{field}: {problem}")]
    Config {
        /// The field, with its part: `noise.timesteps`.
        field: String,
        /// What was expected and what was found.
        problem: String,
    },
    #[error("the first beta of a noise schedule must be positive: with 0 no noise is ever removed")]
    FirstBeta,
    #[error("the number of sampling steps must be 1 to {most}, found {found}")]
    Steps { found: usize, most: usize },
    #[error(
        "eta must be 0 (deterministic) to 1 (as much noise as the ancestral sampler), found {0}"
    )]
    Eta(f64),
    #[error("the guidance scale must be a finite number, found {0}")]
    Guidance(f64),
    #[error("'{name}' takes {expected} values, found {found}")]
    Length {
        name: &'static str,
        expected: usize,
        found: usize,
    },
}

impl DiffusionError {
    pub(super) fn config(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Config {
            field: field.into(),
            problem: problem.into(),
        }
    }
}
