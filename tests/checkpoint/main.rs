//! Models in files: opened, inferred, converted, saved, refused; against what PyTorch wrote and read.

mod fuzz;
mod golden;
mod inputs;
#[path = "../common/memory.rs"]
mod memory;
mod model;
mod names;
mod pickled;
#[path = "../common/places.rs"]
mod places;
mod reference;
#[path = "../common/shared.rs"]
mod shared;
mod support;
