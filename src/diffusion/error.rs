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
    /// β of the first step is not positive.
    #[error("the first beta of a noise schedule must be positive: with 0 no noise is ever removed")]
    FirstBeta,
    /// A trajectory has too few or too many steps.
    #[error("the number of sampling steps must be 1 to {most}, found {found}")]
    Steps {
        /// Steps asked for.
        found: usize,
        /// The most that the schedule has.
        most: usize,
    },
    /// η is not within [0, 1].
    #[error(
        "eta must be 0 (deterministic) to 1 (as much noise as the ancestral sampler), found {0}"
    )]
    Eta(f64),
    /// The guidance scale is not a finite number.
    #[error("the guidance scale must be a finite number, found {0}")]
    Guidance(f64),
    /// A table has another length than the schedule.
    #[error("'{name}' takes {expected} values, found {found}")]
    Length {
        /// What the table holds.
        name: &'static str,
        /// Its length by the schedule.
        expected: usize,
        /// Its length.
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
