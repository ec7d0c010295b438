//! An RTX 3090 that isn't there: a CUDA driver library that executes PTX on the CPU.
//!
//! The rooms, from the text to the result:
//!
//! | module | what it does |
//! |---|---|
//! | [`ptx`] | lexer, parser and syntax tree of PTX ISA 8.x, with lines and `.loc` |
//! | [`ir`] | lowering to a register-resolved form; control flow and its order |
//! | [`limits`] | sizes and limits of the emulated device |
//! | [`memory`] | the device's 24 GB address space: allocations, bytes, what was initialised |
//! | [`arith`] | the arithmetic of the machine, on bit patterns |
//! | [`exec`] | warps, divergence, barriers, scheduling, launches |
//! | [`check`] | faults and the happens-before shadow state that finds races |
//! | [`counters`] | instructions, sectors, wavefronts, bytes: what a roofline needs |
//! | `driver` | the CUDA driver API's C symbols, streams, graphs |
//! | [`case`] | test cases for kernels as JSON files: what `ptx-run` runs |
//! | [`report`] | counters as JSON, with what ptxas allots |
//!
//! A program is compiled once ([`ir::Module::compile`]), placed in a device's memory ([`exec::Instance::new`]) and
//! launched any number of times ([`exec::launch`]). Which room imports which is in the README and in `tests/house/`.

#![warn(missing_docs)]

pub mod arith;
pub mod case;
pub mod check;
pub mod counters;
mod driver;
pub mod exec;
pub mod ir;
pub mod limits;
pub mod memory;
pub mod ptx;
pub mod report;

pub use check::{Checks, Fault, FaultKind};
pub use counters::{Counts, LaunchCounters};
pub use exec::{ConfigError, Instance, LaunchConfig, LaunchError, LaunchReport, Options, launch};
pub use ir::{Global, Kernel, Module, Parameter};
pub use memory::{Allocation, DeviceMemory, OutOfMemory};
pub use ptx::LoadError;
