//! The networks of Medfusion: graph-building code under the reference's parameter names.
//!
//! Every module labels its result with its path (`in_blocks.3.0`), so that tests and tools can
//! look at it. Activations are `[N, H, W, C]`.

mod attention;
mod blocks;
mod classifier;
pub mod config;
mod embedders;
mod layers;
mod legacy_unet;
pub mod lpips;
mod parameters;
mod unet;
mod vae;

pub use crate::graph::Declared;
pub use classifier::{ClassifierConfig, build_classifier};
pub use parameters::{unet_parameters, vae_parameters};
pub use unet::{NetworkInputs, UnetOutput, build_unet};
pub use vae::{Decoded, Moments, build_decoder, build_encoder};
