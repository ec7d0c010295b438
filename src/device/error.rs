//! What can go wrong on a device.

use thiserror::Error;

use super::MemoryReport;
use crate::tensor::DType;

/// What can go wrong when a plan is loaded or its buffers are accessed.
#[derive(Debug, Error)]
pub enum DeviceError {
    #[error("the model has no tensor '{0}', which the network needs")]
    MissingParameter(String),
    #[error("tensor '{name}' has shape {found:?}, the network needs {expected:?}")]
    ParameterShape {
        name: String,
        expected: Vec<usize>,
        found: Vec<usize>,
    },
    #[error("tensor '{name}': {source}")]
    ParameterType {
        name: String,
        source: crate::tensor::TensorError,
    },
    #[error("the plan has no {kind} '{name}'")]
    NoSuchBuffer { kind: &'static str, name: String },
    #[error("'{name}' takes {expected} elements of {dtype}, found {found}")]
    Length {
        name: String,
        dtype: DType,
        expected: usize,
        found: usize,
    },
    #[error("cannot start {threads} threads: {source}")]
    Threads {
        threads: usize,
        source: rayon::ThreadPoolBuildError,
    },
    #[error(
        "the plan needs {needed}, the machine has {available:.1} MiB free",
        available = *available_bytes as f64 / f64::from(1 << 20)
    )]
    OutOfMemory {
        needed: MemoryReport,
        available_bytes: usize,
    },
    #[error("unknown device '{0}': use auto, cuda, cuda:N, cpu or emulated")]
    UnknownDevice(String),
    #[error("unknown precision '{0}': use f32, f16, bf16 or f16-fast")]
    UnknownPrecision(String),
    #[error("the CPU computes in f32, not in {0}: leave --precision out, or use --device cuda")]
    CpuPrecision(super::cuda::Precision),
    #[error(transparent)]
    Unsupported(#[from] crate::kernel::Unsupported),
    #[error(transparent)]
    Cuda(#[from] super::cuda::CudaError),
}

/// A step that does not fit its memory budget, however much is computed twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the step needs {needed:.1} MiB even where activations are computed twice, {over:.1} MiB more than the budget of \
     {budget:.1} MiB; give it more with --memory, or make train.batch smaller and train.accumulate larger",
    needed = mib(*needed_bytes),
    over = mib(needed_bytes - budget_bytes),
    budget = mib(*budget_bytes)
)]
pub struct OverBudget {
    /// The smallest plan found.
    pub needed_bytes: usize,
    /// What was allowed.
    pub budget_bytes: usize,
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
