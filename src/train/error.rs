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
    /// The folder to resume from has no run in it.
    #[error("`{}` holds no run to resume: {why}", path.display())]
    NothingToResume {
        /// The run's folder.
        path: PathBuf,
        /// What is missing in it.
        why: String,
    },
    /// The saved state belongs to a run with other data or settings.
    #[error("the run cannot go on: {0}")]
    OtherRun(String),
    /// A setting of the run file that the run cannot have; the sentence names it.
    #[error("{0}")]
    Setting(String),
    /// The operating system refused.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as in "cannot read".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The run file is wrong.
    #[error(transparent)]
    Run(#[from] RunFileError),
    /// A checkpoint of the run cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The training step cannot be built.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The images cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The shapes of network and loss do not fit.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The step does not fit the memory budget.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// The run file's precision is none.
    #[error(transparent)]
    Precision(#[from] crate::compile::UnknownPrecision),
    /// The architecture describes no network.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The noise schedule or the sampling settings are wrong.
    #[error(transparent)]
    Diffusion(#[from] DiffusionError),
    /// A model file cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The classifier cannot be measured or exported.
    #[error(transparent)]
    Classifier(#[from] ClassifierError),
    /// The preview images cannot be sampled.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The autoencoder cannot encode or decode.
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
