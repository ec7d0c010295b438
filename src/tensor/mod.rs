//! Host tensors: element types, shapes, little-endian bytes that are owned or memory-mapped; random numbers.

mod dtype;
mod host;
mod layout;
pub mod philox;
mod types;

pub use dtype::DType;
pub use host::{Storage, Tensor, TensorError, TensorMap};
pub use layout::{nchw_to_nhwc, nhwc_to_nchw};
pub use types::TensorType;
