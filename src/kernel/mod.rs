//! What kernels are given and made of: the calls that ops answer on each device, and the tools they are built from.
//!
//! Everything here is below the ops. A device (above them) fills in addresses and runs what an op asked for.

pub mod cpu;
pub mod cuda;
pub mod error;
pub mod reference;

pub use error::Unsupported;
