//! What can be wrong with a request to sample.

use thiserror::Error;

use crate::model::config::ConfigError;

/// An error in a noise schedule or a sampler's settings.
#[derive(Debug, Error)]
pub enum DiffusionError {
    #[error(transparent)]
    Config(#[from] ConfigError),
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
