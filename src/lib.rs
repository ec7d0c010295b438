//! Medfusion: class-conditional latent diffusion for medical images.
//!
//! A model is written once as code that builds a static [`graph`]; the graph is differentiated,
//! fused and laid out in memory; a [`device`] then executes the finished plan.
//!
//! Images are made by a [`Sampler`], encoded and decoded by an [`Autoencoder`]; models are trained by a [`Trainer`]. All of
//! them run on a [`Device`].

#![warn(missing_docs)]

mod bytes;
pub mod checkpoint;
pub mod compile;
pub mod data;
pub mod device;
pub mod diffusion;
pub mod files;
pub mod graph;
pub mod image;
mod kernel;
pub mod metrics;
pub mod model;
pub mod ops;
pub mod perf;
pub mod pipeline;
pub mod tensor;
#[cfg(test)]
mod testing;
pub mod train;

#[cfg(feature = "cli")]
pub mod cli;

pub use checkpoint::{CheckpointError, Class, Facts, Model};
pub use compile::{Precision, Purpose};
pub use data::DataError;
pub use device::{Device, DeviceBuilder, DeviceChoice, DeviceError, Progress};
pub use diffusion::Method;
pub use graph::{Graph, GraphError};
pub use metrics::{Classifier, ClassifierError};
pub use pipeline::{Autoencoder, AutoencoderError, Image, SampleError, Sampler, Samples};
pub use train::{TrainError, Trainer};

/// The README's Rust examples, compiled and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
