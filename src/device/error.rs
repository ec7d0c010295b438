//! What can go wrong on a device.

use thiserror::Error;

use crate::compile::{DeviceKind, MemoryReport, Precision};
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
    #[error("unknown device '{0}': the devices are auto, cuda, cuda:N, cpu and emulated")]
    UnknownDevice(String),
    /// A device does not compute in a precision.
    #[error("{device} does not compute in {asked}")]
    Precision {
        /// The kind of device.
        device: DeviceKind,
        /// What was asked of it.
        asked: Precision,
    },
    #[error(transparent)]
    Unsupported(#[from] crate::kernel::Unsupported),
    #[error(transparent)]
    Cuda(#[from] super::cuda::CudaError),
}
