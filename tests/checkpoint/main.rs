//! Models in files: opened, inferred, converted, saved, refused; against what PyTorch wrote and read.

mod fuzz;
mod golden;
mod inputs;
mod memory;
mod model;
mod names;
mod pickled;
mod reference;
mod support;
