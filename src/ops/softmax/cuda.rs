//! Launches `kernels/softmax.cu`.

use super::{Softmax, SoftmaxGrad};
use crate::graph::TensorType;
use crate::kernel::Unsupported;
use crate::kernel::cuda::params::{SoftmaxGradParams, SoftmaxParams};
use crate::kernel::cuda::{CudaCall, CudaOperator, Kernel, element};
use crate::ops::cuda::channel_tiles::vector;

/// Rows per block: a warp for each.
const ROWS: usize = 8;
const THREADS: usize = 32 * ROWS;

fn kernel(entry: &'static str, x: &TensorType) -> Kernel {
    Kernel::new("softmax.cu", entry)
        .with("T", element(x.dtype))
        .with("V", vector(x, x.channels()))
}

fn grid(x: &TensorType) -> [usize; 3] {
    [x.rows().div_ceil(ROWS), 1, 1]
}

impl CudaOperator for Softmax {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let x = call.in_type(0).clone();
        let params = SoftmaxParams {
            x: call.input(0),
            y: call.output(0),
            rows: x.rows() as i32,
            channels: x.channels() as i32,
        };
        call.launch(kernel("softmax", &x), grid(&x), [THREADS, 1, 1], 0, &params);
        Ok(())
    }
}

impl CudaOperator for SoftmaxGrad {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let y = call.in_type(0).clone();
        let params = SoftmaxGradParams {
            y: call.input(0),
            dy: call.input(1),
            dx: call.output(0),
            rows: y.rows() as i32,
            channels: y.channels() as i32,
        };
        call.launch(
            kernel("softmax_grad", &y),
            grid(&y),
            [THREADS, 1, 1],
            0,
            &params,
        );
        Ok(())
    }
}
