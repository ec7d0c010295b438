//! Launches `kernels/forward_process.cu`: a row of blocks per sample.

use super::{AddNoise, VarianceLoss, VarianceLossGrad};
use crate::graph::TensorType;
use crate::kernel::Unsupported;
use crate::kernel::cuda::{
    CudaCall, CudaOperator, Kernel, Target,
    params::{AddNoiseParams, VarianceLossGradParams, VarianceLossParams},
};
use crate::ops::cuda::sums;

const FILE: &str = "forward_process.cu";
const NOISE_ELEMENTS: usize = 1024;

/// Number of samples, and elements of each.
fn samples(ty: &TensorType) -> (usize, usize) {
    (ty.shape[0], ty.len() / ty.shape[0])
}

impl CudaOperator for AddNoise {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let (batch, len) = samples(call.in_type(0));
        let params = AddNoiseParams {
            x_0: call.input(0),
            noise: call.input(1),
            table: call.input(2),
            t: call.input(3),
            y: call.output(0),
            len: len as u64,
            rows: call.in_type(2).shape[0] as i32,
        };
        let kernel = Kernel::new(FILE, "add_noise");
        let grid = [len.div_ceil(NOISE_ELEMENTS), batch, 1];
        call.launch(kernel, grid, sums::BLOCK, 0, &params);
        Ok(())
    }
}

impl CudaOperator for VarianceLoss {
    fn workspace_bytes(&self, inputs: &[TensorType], _: &[TensorType], _: &Target) -> usize {
        let (batch, len) = samples(&inputs[0]);
        sums::partial_bytes(batch * sums::partials(len))
    }

    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let (batch, len) = samples(call.in_type(0));
        let params = VarianceLossParams {
            variance: call.input(0),
            x_0: call.input(1),
            estimate: call.input(2),
            table: call.input(3),
            t: call.input(4),
            partials: call.workspace(),
            len: len as u64,
            rows: call.in_type(3).shape[0] as i32,
        };
        let blocks = sums::partials(len);
        let kernel = Kernel::new(FILE, "variance_loss");
        call.launch(kernel, [blocks, batch, 1], sums::BLOCK, 0, &params);
        sums::finish(call, FILE, 1, batch * blocks, 1.0 / (batch * len) as f64);
        Ok(())
    }
}

impl CudaOperator for VarianceLossGrad {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let (batch, len) = samples(call.in_type(0));
        let params = VarianceLossGradParams {
            variance: call.input(0),
            x_0: call.input(1),
            estimate: call.input(2),
            table: call.input(3),
            t: call.input(4),
            dy: call.input(5),
            dvariance: call.output(0),
            destimate: call.output(1),
            len: len as u64,
            rows: call.in_type(3).shape[0] as i32,
            inverse_count: 1.0 / (batch * len) as f32,
        };
        let kernel = Kernel::new(FILE, "variance_loss_grad");
        let grid = [len.div_ceil(sums::THREADS), batch, 1];
        call.launch(kernel, grid, sums::BLOCK, 0, &params);
        Ok(())
    }
}
