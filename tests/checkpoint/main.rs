//! Models in files: opened, inferred, converted, saved, refused; against what PyTorch wrote and read.

mod fuzz;
mod golden;
mod model;
mod names;
mod reference;
mod support;
