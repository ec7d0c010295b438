//! CUDA devices: NVIDIA's, and the emulated RTX 3090, which differs in nothing but the driver library.
//!
//! A plan becomes a list of launches with every address decided. NVRTC compiles its programs before the first launch, to
//! machine code or PTX as the driver takes it, and the whole list is captured once into a CUDA graph that each run replays.

mod addresses;
mod cache;
mod code;
mod context;
mod device;
mod doctor;
mod driver;
mod error;
mod executable;
mod listing;
mod load;
mod lower;
mod nvrtc;
mod profile;
mod staging;

pub use crate::kernel::cuda::LaunchWork;
pub use device::{CudaDevice, CudaOptions};
pub use doctor::{Finding, diagnose};
pub use error::CudaError;
pub use executable::CudaExecutable;
pub use listing::{PlannedLaunch, planned_launches};
pub use profile::TimedLaunch;
