//! Medfusion: class-conditional latent diffusion for medical images.
//!
//! A model is written once as code that builds a static [`graph`]; the graph is differentiated,
//! fused and laid out in memory; a [`device`] then executes the finished plan.

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
pub mod pipeline;
pub mod tensor;
#[cfg(test)]
mod testing;
pub mod train;

#[cfg(feature = "cli")]
pub mod cli;

pub use checkpoint::{Class, Model};
pub use device::{Device, DeviceChoice};
pub use diffusion::Method;
pub use metrics::Classifier;
pub use pipeline::{Autoencoder, Image, Sampler, Samples};
pub use train::Trainer;

/// The README's Rust examples, compiled and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
