//! Rewrites from graph to graph, one file each, in the order in which [`compile`](crate::compile::compile) takes them.

mod autodiff;
pub mod fuse;
pub mod fuse_for_device;
pub mod precision;
pub mod recompute;
