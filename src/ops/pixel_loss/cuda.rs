//! Launches `kernels/pixel_loss.cu`.

use super::{Distance, PixelLoss, PixelLossGrad};
use crate::graph::TensorType;
use crate::kernel::Unsupported;
use crate::kernel::cuda::{
    CudaCall, CudaOperator, Kernel, Target,
    params::{PixelLossGradParams, PixelLossParams},
};
use crate::ops::cuda::sums;

const FILE: &str = "pixel_loss.cu";
const GRAD_ELEMENTS: usize = 1024;

impl CudaOperator for PixelLoss {
    fn workspace_bytes(&self, inputs: &[TensorType], _: &[TensorType], _: &Target) -> usize {
        sums::partial_bytes(sums::partials(inputs[0].len()))
    }

    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let count = call.in_type(0).len();
        let params = PixelLossParams {
            a: call.input(0),
            b: call.input(1),
            partials: call.workspace(),
            count: count as u64,
            squared: (self.distance == Distance::L2).into(),
        };
        let blocks = sums::partials(count);
        let kernel = Kernel::new(FILE, "pixel_loss");
        call.launch(kernel, [blocks, 1, 1], sums::BLOCK, 0, &params);
        sums::finish(call, FILE, 1, blocks, self.factor.into());
        Ok(())
    }
}

impl CudaOperator for PixelLossGrad {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let count = call.in_type(0).len();
        let params = PixelLossGradParams {
            a: call.input(0),
            b: call.input(1),
            dy: call.input(2),
            da: call.output(0),
            count: count as u64,
            factor: self.of.factor,
            squared: (self.of.distance == Distance::L2).into(),
        };
        let kernel = Kernel::new(FILE, "pixel_loss_grad");
        call.launch(
            kernel,
            sums::grid(count, GRAD_ELEMENTS),
            sums::BLOCK,
            0,
            &params,
        );
        Ok(())
    }
}
