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
use crate::model::config::ConfigError;
use crate::pipeline::{ReconstructError, SampleError};

/// Why a training run stops before its last step.
#[derive(Debug, Error)]
pub enum TrainError {
    #[error(
        "step {step}: {what} is not finite (loss {loss}, gradient norm {grad_norm}). The weights are still those of \
         the step before. Go on from the last checkpoint with --resume and a smaller --set optimizer.lr=…, with \
         --set optimizer.grad_clip=1, or with --set optimizer.warmup_steps=…; if it happens at the first step, look at \
         the data with `medfusion data`"
    )]
    NotFinite {
        step: u64,
        /// The loss or the tensor whose gradient it is.
        what: String,
        loss: f32,
        grad_norm: f32,
    },
    #[error("interrupted at step {step}; --resume goes on from there")]
    Interrupted { step: u64 },
    #[error(
        "`{}` already holds a run; go on with --resume or choose another --out",
        .0.display()
    )]
    Exists(PathBuf),
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
    Sample(#[from] SampleError),
    #[error(transparent)]
    Reconstruct(#[from] ReconstructError),
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
