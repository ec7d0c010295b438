//! Training: run files, losses, steps as plans, the loop, resumable state, TensorBoard events.
//!
//! A [`Trainer`] runs a resolved run file in a folder:
//!
//! ```text
//! out/
//!   run.toml       what was run, every key
//!   checkpoints/   everything the next step depends on, see [`state`]
//!   tensorboard/   curves and pictures
//!   latents/       moments of the training images (diffusion)
//!   best/          the model that measured best on held-out images
//!   model/         the model after the last step
//! ```

pub mod classifier;
pub mod diffusion;
mod error;
pub mod init;
mod latents;
pub mod loss;
pub mod names;
pub mod run_file;
mod session;
pub mod state;
pub mod step;
mod tasks;
pub mod tensorboard;
mod trainer;
pub mod vae;

pub use error::TrainError;
pub use session::{Event, StepReport, Watch};
pub use trainer::{RUN_FILE, Trainer};
