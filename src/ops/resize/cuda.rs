//! Launches `kernels/resize.cu` and `kernels/resize_grad.cu`.

use super::{ResizeNearest, ResizeNearestGrad, Upsample, UpsampleGrad};
use crate::kernel::Unsupported;
use crate::kernel::cuda::params::{ResizeGradParams, ResizeParams};
use crate::kernel::cuda::{CudaCall, CudaOperator, Kernel, element};
use crate::ops::cuda::check_len;
use crate::ops::strides::{common_unit, narrow};

const THREADS: usize = 256;

/// Fails where the index formulas would leave 32 bits.
fn check(call: &CudaCall<'_>, image: &[usize], resized: &[usize]) -> Result<(), Unsupported> {
    for axis in [1, 2] {
        check_len(call, (2 * resized[axis] + 1) * (image[axis] + 1))?;
    }
    check_len(call, image.iter().product())?;
    check_len(call, resized.iter().product())
}

fn resize(call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
    let (x, y) = (call.in_type(0).clone(), call.out_type(0).clone());
    check(call, &x.shape, &y.shape)?;
    let pixel = x.shape[3] * x.dtype.size_bytes();
    let unit = common_unit([pixel]);
    let params = ResizeParams {
        x: call.input(0),
        y: call.output(0),
        batch: narrow(x.shape[0]),
        height: narrow(x.shape[1]),
        width: narrow(x.shape[2]),
        resized_height: narrow(y.shape[1]),
        resized_width: narrow(y.shape[2]),
        channels: narrow(pixel / unit),
    };
    let entry = match unit {
        16 => "resize_16",
        8 => "resize_8",
        4 => "resize_4",
        _ => "resize_2",
    };
    let blocks = (y.bytes() / unit).div_ceil(THREADS);
    let kernel = Kernel::new("resize.cu", entry);
    call.launch(kernel, [blocks, 1, 1], [THREADS, 1, 1], 0, &params);
    Ok(())
}

fn resize_grad(call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
    let (dy, dx) = (call.in_type(0).clone(), call.out_type(0).clone());
    check(call, &dx.shape, &dy.shape)?;
    let vector = 16 / dx.dtype.size_bytes();
    let (entry, vector) = match dx.shape[3].is_multiple_of(vector) {
        true => ("resize_grad", vector),
        false => ("resize_grad_any", 1),
    };
    let params = ResizeGradParams {
        dy: call.input(0),
        dx: call.output(0),
        batch: narrow(dx.shape[0]),
        height: narrow(dx.shape[1]),
        width: narrow(dx.shape[2]),
        resized_height: narrow(dy.shape[1]),
        resized_width: narrow(dy.shape[2]),
        channels: narrow(dx.shape[3] / vector),
    };
    let blocks = (dx.len() / vector).div_ceil(THREADS);
    let kernel = Kernel::new("resize_grad.cu", entry).with("T", element(dx.dtype));
    call.launch(kernel, [blocks, 1, 1], [THREADS, 1, 1], 0, &params);
    Ok(())
}

impl CudaOperator for Upsample {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        resize(call)
    }
}

impl CudaOperator for ResizeNearest {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        resize(call)
    }
}

impl CudaOperator for UpsampleGrad {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        resize_grad(call)
    }
}

impl CudaOperator for ResizeNearestGrad {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        resize_grad(call)
    }
}
