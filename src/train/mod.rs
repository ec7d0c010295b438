//! Training: run files, resumable state, TensorBoard events.

pub mod run_file;
pub mod state;
pub mod tensorboard;
