//! The CUDA device on the emulated GPU: sampling, training, every kernel through the assembler, and what a user sees when
//! something is missing.

mod drivers;
mod every_kernel;
mod faults;
mod kernel_table;
#[path = "../made_up/mod.rs"]
mod made_up;
#[path = "../paper_plans/mod.rs"]
mod paper_plans;
mod paper_size;
mod sampling;
mod training;
