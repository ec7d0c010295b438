//! Training: run files, whole runs, what they keep on disk.

#[path = "../made_up/mod.rs"]
mod made_up;
mod people;
mod run_file;
mod runs;
mod state;
mod tensorboard;
