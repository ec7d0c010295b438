//! What can go wrong on a device.

use thiserror::Error;

use crate::compile::{DeviceKind, MemoryReport, Precision};
use crate::tensor::DType;

/// What can go wrong when a plan is loaded or its buffers are accessed.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// A parameter of the plan has no tensor among the weights.
    #[error("the model has no tensor '{0}', which the network needs")]
    MissingParameter(String),
    /// A tensor has another shape than its parameter.
    #[error("tensor '{name}' has shape {found:?}, the network needs {expected:?}")]
    ParameterShape {
        /// Full name of the parameter.
        name: String,
        /// Shape of the parameter.
        expected: Vec<usize>,
        /// Shape of the tensor.
        found: Vec<usize>,
    },
    /// A tensor cannot be read as `f32`.
    #[error("tensor '{name}': {source}")]
    ParameterType {
        /// Full name of the parameter.
        name: String,
        /// What is wrong with its element type.
        source: crate::tensor::TensorError,
    },
    /// The plan has no buffer of this kind and name.
    #[error("the plan has no {kind} '{name}'")]
    NoSuchBuffer {
        /// What was looked for: `output`, or `input, state or parameter`.
        kind: &'static str,
        /// The name that was asked for.
        name: String,
    },
    /// The host reads or writes another number of elements than a buffer has.
    #[error("'{name}' takes {expected} elements of {dtype}, found {found}")]
    Length {
        /// Name of the buffer.
        name: String,
        /// Element type of the buffer.
        dtype: DType,
        /// Elements of the buffer.
        expected: usize,
        /// Elements that the host gave.
        found: usize,
    },
    /// The operating system refuses the threads.
    #[error("cannot start {threads} threads: {source}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// Its reason.
        source: rayon::ThreadPoolBuildError,
    },
    /// The plan does not fit into the memory that is free.
    #[error(
        "the plan needs {needed}, the machine has {available:.1} MiB free",
        available = crate::bytes::mib(*available_bytes)
    )]
    OutOfMemory {
        /// What the plan takes.
        needed: MemoryReport,
        /// What is free, in bytes.
        available_bytes: usize,
    },
    /// No device has this name.
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
    /// A kernel does not take these operands.
    #[error(transparent)]
    Unsupported(#[from] crate::kernel::Unsupported),
    /// The CUDA driver, NVRTC or a GPU failed.
    #[error(transparent)]
    Cuda(#[from] super::cuda::CudaError),
}
