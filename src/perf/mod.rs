//! Predictions of what plans take on a GPU that need not be there.
//!
//! A GPU is a data file of constants with their sources ([`Gpu`]); a launch is counts that its op states
//! (`kernel/cuda/work.rs`); [`predict`] turns both into seconds and names the resource that bounds them. No constant is
//! fitted to what is predicted: [`published`] holds the model against measurements of kernels that are not ours.

mod gpu;
mod model;
mod profile;
pub mod published;
mod trace;

pub use gpu::{Gpu, UnknownGpu};
pub use model::{Bound, KernelWork, LaunchPrediction, predict};
pub use profile::{LaunchProfile, PROFILE_VERSION, Profile, ProfileSum, caveat, target};
