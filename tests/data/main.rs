//! Images from disk to batches, and back to PNGs.

mod loader;
mod png;
mod readers;
