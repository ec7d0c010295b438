//! Training: run files, whole runs, what they keep on disk.

#[path = "../made_up/mod.rs"]
mod made_up;
mod people;
mod run_file;
mod runs;
#[path = "../common/shared.rs"]
mod shared;
mod state;
mod tensorboard;
