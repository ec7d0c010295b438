//! Convolutions on tensor cores: `kernels/conv2d_tensor.cu`.

use super::{Algorithm, Problem};

/// The algorithm for the convolution itself, where tensor cores take it.
pub(super) fn forward(_: &Problem) -> Option<Box<dyn Algorithm>> {
    None
}

/// The algorithm for the gradient of the input, where tensor cores take it.
pub(super) fn input_grad(_: &Problem) -> Option<Box<dyn Algorithm>> {
    None
}

/// The algorithm for the gradient of the filter, where tensor cores take it.
pub(super) fn weight_grad(_: &Problem) -> Option<Box<dyn Algorithm>> {
    None
}
