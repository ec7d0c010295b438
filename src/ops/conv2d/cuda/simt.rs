//! Convolutions on the ordinary lanes, for every geometry and type: `kernels/conv2d.cu`.

use super::{Algorithm, Problem};
use crate::device::cuda::CudaCall;

/// The convolution or its input gradient: each result gathers its products.
pub(super) struct Gather;

/// The gradient of the filter.
pub(super) struct WeightGrad;

impl Gather {
    pub fn forward(_: &Problem) -> Self {
        Self
    }

    pub fn input_grad(_: &Problem) -> Self {
        Self
    }
}

impl WeightGrad {
    pub fn new(_: &Problem) -> Self {
        Self
    }
}

impl Algorithm for Gather {
    fn workspace_bytes(&self) -> usize {
        0
    }
    fn packed_bytes(&self) -> usize {
        4
    }
    fn pack(&self, _: &mut CudaCall<'_>) {}
    fn launch(&self, _: &mut CudaCall<'_>) {}
}

impl Algorithm for WeightGrad {
    fn workspace_bytes(&self) -> usize {
        0
    }
    fn packed_bytes(&self) -> usize {
        0
    }
    fn pack(&self, _: &mut CudaCall<'_>) {}
    fn launch(&self, _: &mut CudaCall<'_>) {}
}
