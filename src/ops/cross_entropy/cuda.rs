//! Launches `kernels/cross_entropy.cu`.

use super::{CrossEntropy, CrossEntropyGrad};
use crate::kernel::Unsupported;
use crate::kernel::cuda::{
    CudaCall, CudaOperator, Kernel,
    params::{CrossEntropyGradParams, CrossEntropyParams},
};
use crate::ops::cuda::sums;

const FILE: &str = "cross_entropy.cu";
/// Rows of a block of the gradient: one per warp.
const ROWS: usize = 8;

impl CudaOperator for CrossEntropy {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let shape = &call.in_type(0).shape;
        let params = CrossEntropyParams {
            logits: call.input(0),
            labels: call.input(1),
            loss: call.output(0),
            rows: shape[0] as i32,
            classes: shape[1] as i32,
        };
        let kernel = Kernel::new(FILE, "cross_entropy");
        call.launch(kernel, [1, 1, 1], sums::BLOCK, 0, &params);
        Ok(())
    }
}

impl CudaOperator for CrossEntropyGrad {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let [rows, classes] = call.in_type(0).shape[..] else {
            unreachable!("checked by infer")
        };
        let params = CrossEntropyGradParams {
            logits: call.input(0),
            labels: call.input(1),
            dy: call.input(2),
            dz: call.output(0),
            rows: rows as i32,
            classes: classes as i32,
        };
        let kernel = Kernel::new(FILE, "cross_entropy_grad");
        call.launch(kernel, sums::grid(rows, ROWS), sums::BLOCK, 0, &params);
        Ok(())
    }
}
