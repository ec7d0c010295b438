//! Images from disk to batches, and back to PNGs.

mod dicom;
mod hostile;
mod inputs;
mod loader;
#[path = "../common/memory.rs"]
mod memory;
#[path = "../common/places.rs"]
mod places;
mod png;
mod readers;
#[path = "../common/shared.rs"]
mod shared;
