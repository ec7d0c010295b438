//! Images from disk to batches, and back to PNGs.

mod dicom;
mod hostile;
mod inputs;
mod loader;
mod png;
mod readers;
