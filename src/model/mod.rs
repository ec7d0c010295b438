//! The networks of Medfusion: graph-building code under the reference's parameter names.

pub mod config;
pub mod lpips;
