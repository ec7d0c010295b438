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
mod unet;
mod vae;

pub use classifier::{ClassifierConfig, build_classifier};
pub use unet::{
    NetworkInputs, Prediction, build_shifts, build_unet, build_unet_with_shifts, tabulated_blocks,
};
pub use vae::{Decoded, Moments, build_decoder, build_encoder};
