//! Launches `kernels/feature_distance.cu`: a warp per pixel.

use super::{FeatureDistance, FeatureDistanceGrad};
use crate::graph::TensorType;
use crate::kernel::Unsupported;
use crate::kernel::cuda::{
    CudaCall, CudaOperator, Kernel, Target,
    params::{FeatureDistanceGradParams, FeatureDistanceParams},
};
use crate::ops::cuda::sums;

const FILE: &str = "feature_distance.cu";
/// Pixels of a block of the distance, which stores one partial sum.
const PIXELS: usize = 64;
/// Pixels of a block of the gradient: one per warp.
const GRAD_PIXELS: usize = 8;

/// Samples, pixels and channels.
fn extents(ty: &TensorType) -> [usize; 3] {
    [ty.shape[0], ty.shape[1] * ty.shape[2], ty.shape[3]]
}

impl CudaOperator for FeatureDistance {
    fn workspace_bytes(&self, inputs: &[TensorType], _: &[TensorType], _: &Target) -> usize {
        let [batch, pixels, _] = extents(&inputs[0]);
        sums::partial_bytes(batch * pixels.div_ceil(PIXELS))
    }

    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let [batch, pixels, channels] = extents(call.in_type(0));
        let params = FeatureDistanceParams {
            a: call.input(0),
            b: call.input(1),
            partials: call.workspace(),
            pixels: pixels as i32,
            channels: channels as i32,
        };
        let blocks = pixels.div_ceil(PIXELS);
        let kernel = Kernel::new(FILE, "feature_distance");
        call.launch(kernel, [blocks, batch, 1], sums::BLOCK, 0, &params);
        sums::finish(call, FILE, batch, blocks, 1.0 / pixels as f64);
        Ok(())
    }
}

impl CudaOperator for FeatureDistanceGrad {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let [batch, pixels, channels] = extents(call.in_type(0));
        let params = FeatureDistanceGradParams {
            a: call.input(0),
            b: call.input(1),
            dy: call.input(2),
            da: call.output(0),
            pixels: pixels as i32,
            channels: channels as i32,
        };
        let kernel = Kernel::new(FILE, "feature_distance_grad");
        let grid = [pixels.div_ceil(GRAD_PIXELS), batch, 1];
        call.launch(kernel, grid, sums::BLOCK, 0, &params);
        Ok(())
    }
}
