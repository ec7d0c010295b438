//! Whole programs and single instructions against exact arithmetic on the host: CUDA C++ that NVRTC compiles, PTX that
//! Triton wrote, PTX as text.

mod cub;
mod groups;
mod half;
mod instructions;
mod language;
mod math;
mod support;
mod triton;
mod wmma;
