//! Why images cannot be made.

use thiserror::Error;

use super::autoencoder::AutoencoderError;
use super::overflow::WeightOverflow;
use crate::checkpoint::UnknownClass;
use crate::compile::Precision;
use crate::device::{DeviceError, MemoryReport};
use crate::diffusion::DiffusionError;
use crate::graph::GraphError;
use crate::tensor::DType;

/// Why images cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SampleError {
    /// The model lacks a part that sampling takes.
    #[error("the model has no {0}; only a whole pipeline can make images")]
    Incomplete(&'static str),
    /// The model has no such class.
    #[error(transparent)]
    UnknownClass(#[from] UnknownClass),
    /// A class or guidance was asked of a model that knows no classes.
    #[error("the model is unconditional: it takes no class and no guidance")]
    Unconditional,
    /// The count is 0.
    #[error("asked for 0 images")]
    NoImages,
    /// Images are numbered with 32 bits; holds how many were asked for.
    #[error("{0} images are more than one run can number")]
    TooMany(u128),
    /// The batch is 0.
    #[error("batch 0 makes no images")]
    NoBatch,
    /// Neither the model nor the caller says how large images are.
    #[error("the model does not say how large its images are")]
    SizeUnknown,
    /// The model does not make images of that size.
    #[error(
        "an image of {height}x{width} does not fit the model: both sides have to be multiples of {factor}"
    )]
    Size {
        /// In pixels.
        height: usize,
        /// In pixels.
        width: usize,
        /// What both sides have to be multiples of.
        factor: usize,
    },
    /// Memory does not hold the plans for one batch.
    #[error(
        "batch {batch} needs {needed}, the machine has {:.1} MiB free; the largest batch that fits is {fits}",
        crate::bytes::mib(*available_bytes)
    )]
    Memory {
        /// Images at once that were asked for.
        batch: usize,
        /// Memory of sampling step and decoder.
        needed: MemoryReport,
        /// What the device has free.
        available_bytes: usize,
        /// The largest batch that fits.
        fits: usize,
    },
    /// An image is no image.
    #[error(
        "image {index} came out as NaN or infinity in {precision}: {}",
        match precision.storage() {
            DType::F16 => "a number beyond 65504 overflowed on the way, or the guidance scale is too large",
            _ => "the weights are damaged or the guidance scale is too large",
        }
    )]
    NotFinite {
        /// Its index under the seed.
        index: u64,
        /// What the device computed in.
        precision: Precision,
    },
    /// A weight is infinite in the device's precision.
    #[error(transparent)]
    WeightOverflow(#[from] WeightOverflow),
    /// The observer stopped the run.
    #[error("interrupted")]
    Interrupted,
    /// Steps, eta or guidance are out of range.
    #[error(transparent)]
    Diffusion(#[from] DiffusionError),
    /// The network cannot be built.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The decoder cannot be planned or run.
    #[error(transparent)]
    Autoencoder(#[from] AutoencoderError),
}
