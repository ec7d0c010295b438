//! Training: run files, losses, steps as plans, the loop, resumable state, TensorBoard events.

mod error;
pub mod init;
mod latents;
pub mod loss;
pub mod names;
pub mod run_file;
pub mod scores;
pub mod state;
pub mod step;
pub mod tensorboard;

pub use error::TrainError;
