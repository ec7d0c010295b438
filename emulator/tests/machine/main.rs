//! The emulator's core on kernels whose behaviour is known: results, every checker, counters.
//!
//! `kernels.ptx` is NVRTC's output for `kernels.cu`; other tests carry their PTX with them.

mod cache;
mod checkers;
mod counting;
mod forms;
mod frontend;
mod isa;
mod lab;
mod results;
