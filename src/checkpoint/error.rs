//! What can go wrong with a model file, and the sentence a person reads about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::config::ModelConfigError;
use super::facts::Fact;
use super::names::ParameterMismatch;
use super::notes::{LeftOut, listed};
use super::pickle::PickleError;
use super::sharded::FolderKind;
use crate::bytes::readable;
use crate::model::config::ConfigError;

/// A problem with the file or folder at `path`.
#[derive(Debug, Error)]
#[error("{}: {problem}", path.display())]
pub struct CheckpointError {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub problem: Box<Problem>,
}

/// What is wrong with a model file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Problem {
    /// The operating system said no.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried, as in "cannot read".
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The file is something else altogether.
    #[error(
        "{found}; expected a model folder, a safetensors file or a PyTorch checkpoint (.ckpt, .pt, .pth)"
    )]
    Foreign {
        /// What it looks like.
        found: String,
    },
    /// It is a folder of another kind, or a part of one.
    #[error("{kind}; expected a model folder or one file that holds the model")]
    Folder {
        /// The outermost folder of it.
        folder: PathBuf,
        /// Its kind.
        kind: FolderKind,
    },
    /// The file is of a known kind, but broken.
    #[error("{what}; the file is damaged or incomplete, fetch or copy it again")]
    Damaged {
        /// What was expected and what was found.
        what: String,
    },
    /// The file is sound, but holds something this reader does not take.
    #[error("{what}")]
    Unsupported {
        /// What it is, and what to do.
        what: String,
    },
    /// The pickle inside is broken or hostile.
    #[error(transparent)]
    Pickle(#[from] PickleError),
    /// One tensor cannot be read.
    #[error("tensor `{name}`: {problem}")]
    Tensor {
        /// Its name in the state dict.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A value that is not a finite number.
    #[error(
        "tensor `{name}` holds {value} at {index:?}; the weights are unusable (did training diverge?)"
    )]
    NotFinite {
        /// Its name in the state dict.
        name: String,
        /// Row-major index of the first such element.
        index: Vec<usize>,
        /// NaN or an infinity.
        value: f64,
    },
    /// Tensors and configuration disagree.
    #[error(transparent)]
    Mismatch(#[from] ParameterMismatch),
    /// Most of the file is something else than a model.
    #[error(
        "most of the file ({} of {}) is no part of a Medfusion model: {}; save the model's own state dict",
        readable(*bytes),
        readable(*file_bytes),
        listed(groups)
    )]
    MostlyForeign {
        /// What there is beside the model.
        groups: Vec<LeftOut>,
        /// Size of it, without what measures or trains a model.
        bytes: usize,
        /// Size of all tensors.
        file_bytes: usize,
    },
    /// The file holds no averaged weights (`ema_model.averaged_model.*`), and the caller wants them.
    #[error("the checkpoint holds no averaged weights (`ema_model.averaged_model.*`)")]
    NoAverage,
    /// The architecture cannot be told from the file.
    #[error(transparent)]
    Undetermined(#[from] Undetermined),
    /// The configuration describes no network.
    #[error("the model's configuration is invalid: {0}")]
    Config(#[from] ModelConfigError),
    /// `model.json` is not what it should be.
    #[error("not a valid model.json: {0}")]
    Json(serde_json::Error),
    /// Writing would destroy something that is not ours.
    #[error("{why}; nothing was written")]
    Refused {
        /// What stands in the way, and what to do.
        why: String,
    },
}

impl From<ConfigError> for Problem {
    fn from(error: ConfigError) -> Self {
        Problem::Config(error.into())
    }
}

impl Problem {
    /// The problem as one of the file at `path`.
    pub fn at(self, path: impl AsRef<Path>) -> CheckpointError {
        CheckpointError {
            path: path.as_ref().to_owned(),
            problem: Box::new(self),
        }
    }

    pub(super) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Problem::Io { action, source }
    }

    pub(super) fn damaged(what: impl Into<String>) -> Self {
        Problem::Damaged { what: what.into() }
    }

    pub(super) fn unsupported(what: impl Into<String>) -> Self {
        Problem::Unsupported { what: what.into() }
    }

    pub(super) fn tensor(name: &str, problem: impl fmt::Display) -> Self {
        Problem::Tensor {
            name: name.to_owned(),
            problem: problem.to_string(),
        }
    }
}

/// The facts that the caller has to give.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct Undetermined {
    /// What is missing.
    pub missing: Vec<Fact>,
}

impl fmt::Display for Undetermined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the file does not say everything about the architecture; missing are:"
        )?;
        for fact in &self.missing {
            write!(f, "\n  {fact}")?;
        }
        Ok(())
    }
}
