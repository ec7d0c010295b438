//! Training: run files, losses, steps as plans, the loop, resumable state, TensorBoard events.

pub mod loss;
pub mod names;
pub mod run_file;
pub mod state;
pub mod step;
pub mod tensorboard;
