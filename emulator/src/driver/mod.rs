//! The CUDA driver API's C symbols on the emulated device.
//!
//! | module | what |
//! |---|---|
//! | `abi`, `error` | argument types, structures, result codes |
//! | `state` | tables of everything that has a handle; current contexts |
//! | `device`, `context` | the device's attributes; primary and other contexts |
//! | `memory`, `transfer` | allocations and pools; copies and fills |
//! | `module`, `launch` | PTX, functions, variables; launches and occupancy |
//! | `stream`, `work`, `graph` | queues that run late, events; what they run; capture and graphs |
//! | `control` | settings, fault texts, counters (`cuEmu…`) |
//! | `procaddr`, `not_supported` | lookup by name; calls that are refused |
//!
//! No call dereferences a handle, and none lets a panic out: it becomes `CUDA_ERROR_UNKNOWN`.

// The names are the C API's.
#![allow(non_snake_case)]

mod abi;
mod capture;
mod context;
mod control;
mod device;
mod entry;
mod error;
mod error_names;
mod graph;
mod launch;
mod memory;
mod module;
mod not_supported;
mod objects;
mod procaddr;
mod process;
mod queue;
mod settings;
mod state;
mod stream;
mod thread;
mod transfer;
mod work;
