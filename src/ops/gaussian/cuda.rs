//! Launches `kernels/gaussian.cu`.

use super::{GaussianKl, GaussianKlGrad, Reparameterize, ReparameterizeGrad};
use crate::graph::TensorType;
use crate::kernel::Unsupported;
use crate::kernel::cuda::{
    CudaCall, CudaOperator, Kernel, Target,
    params::{GaussianKlGradParams, GaussianKlParams, ReparameterizeParams},
};
use crate::ops::cuda::sums;

const FILE: &str = "gaussian.cu";
/// Elements of a block of the elementwise kernels.
const ELEMENTS: usize = 1024;

/// Three operands, one result.
fn ternary(call: &mut CudaCall<'_>, entry: &'static str) {
    let count = call.in_type(0).len();
    let params = ReparameterizeParams {
        a: call.input(0),
        b: call.input(1),
        c: call.input(2),
        y: call.output(0),
        count: count as u64,
    };
    call.launch(
        Kernel::new(FILE, entry),
        sums::grid(count, ELEMENTS),
        sums::BLOCK,
        0,
        &params,
    );
}

impl CudaOperator for Reparameterize {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        ternary(call, "reparameterize");
        Ok(())
    }
}

impl CudaOperator for ReparameterizeGrad {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        ternary(call, "reparameterize_grad");
        Ok(())
    }
}

impl CudaOperator for GaussianKl {
    fn workspace_bytes(&self, inputs: &[TensorType], _: &[TensorType], _: &Target) -> usize {
        sums::partial_bytes(sums::partials(inputs[0].len()))
    }

    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let (count, batch) = (call.in_type(0).len(), call.in_type(0).shape[0]);
        let params = GaussianKlParams {
            mean: call.input(0),
            logvar: call.input(1),
            partials: call.workspace(),
            count: count as u64,
        };
        let blocks = sums::partials(count);
        let kernel = Kernel::new(FILE, "gaussian_kl");
        call.launch(kernel, [blocks, 1, 1], sums::BLOCK, 0, &params);
        sums::finish(call, FILE, 1, blocks, 0.5 / batch as f64);
        Ok(())
    }
}

impl CudaOperator for GaussianKlGrad {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let (count, batch) = (call.in_type(0).len(), call.in_type(0).shape[0]);
        let params = GaussianKlGradParams {
            mean: call.input(0),
            logvar: call.input(1),
            dy: call.input(2),
            dmean: call.output(0),
            dlogvar: call.output(1),
            count: count as u64,
            inverse_batch: 1.0 / batch as f32,
        };
        let kernel = Kernel::new(FILE, "gaussian_kl_grad");
        call.launch(
            kernel,
            sums::grid(count, sums::THREADS),
            sums::BLOCK,
            0,
            &params,
        );
        Ok(())
    }
}
