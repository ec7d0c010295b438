//! Why a training run stops.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::run_file::RunFileError;
use super::state::StateError;
use super::step::StepError;
use crate::checkpoint::CheckpointError;
use crate::data::DataError;
use crate::device::{DeviceError, OverBudget};
use crate::diffusion::DiffusionError;
use crate::graph::GraphError;
use crate::metrics::ClassifierError;
use crate::model::config::ConfigError;
use crate::pipeline::{AutoencoderError, SampleError};

/// Why a training run stops before its last step.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The loss or a gradient is no number. The weights are those of the step before.
    #[error(
        "step {step}: {what} is not finite (loss {loss}, gradient norm {grad_norm}). The weights are still those of \
         the step before"
    )]
    NotFinite {
        /// The step that failed; the first is 1.
        step: u64,
        /// The loss or the tensor whose gradient it is.
        what: String,
        /// The loss of the step.
        loss: f32,
        /// The norm of the whole gradient.
        grad_norm: f32,
    },
    /// The watcher stopped the run; its state is saved.
    #[error("interrupted at step {step}")]
    Interrupted {
        /// Steps done.
        step: u64,
    },
    /// The folder holds a run already.
    #[error("`{}` already holds a run", .0.display())]
    Exists(PathBuf),
    /// The model that should encode the images has no autoencoder.
    #[error("`{}` has no autoencoder", .0.display())]
    NoAutoencoder(PathBuf),
    /// The images do not have the channels that the autoencoder takes.
    #[error(
        "the autoencoder takes images of {autoencoder} channels, the run loads them with {images}"
    )]
    Channels {
        /// Channels that the autoencoder takes.
        autoencoder: usize,
        /// Channels that the run's images have.
        images: usize,
    },
    #[error("`{}` holds no run to resume: {why}", path.display())]
    NothingToResume { path: PathBuf, why: String },
    #[error("the run cannot go on: {0}")]
    OtherRun(String),
    #[error("{0}")]
    Setting(String),
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(transparent)]
    Run(#[from] RunFileError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Step(#[from] StepError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Graph(#[from] GraphError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// The run file's precision is none.
    #[error(transparent)]
    Precision(#[from] crate::compile::UnknownPrecision),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Diffusion(#[from] DiffusionError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Classifier(#[from] ClassifierError),
    #[error(transparent)]
    Sample(#[from] SampleError),
    #[error(transparent)]
    Autoencoder(#[from] AutoencoderError),
}

impl TrainError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
