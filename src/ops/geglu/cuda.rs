//! Launches `kernels/geglu.cu`.

use super::{Geglu, GegluGrad};
use crate::kernel::Unsupported;
use crate::kernel::cuda::{
    CudaCall, CudaOperator, DevicePtr, Kernel, element, params::GegluParams,
};
use crate::ops::cuda::check_len;
use crate::ops::strides::narrow;

const THREADS: usize = 256;

/// Launches the first of `entries` if the channels are whole vectors, else the second.
fn launch(
    call: &mut CudaCall<'_>,
    entries: [&'static str; 2],
    dy: DevicePtr,
    channels: usize,
) -> Result<(), Unsupported> {
    let x = call.in_type(0);
    check_len(call, x.len())?;
    let vector = 16 / x.dtype.size_bytes();
    let (entry, vector) = match channels.is_multiple_of(vector) {
        true => (entries[0], vector),
        false => (entries[1], 1),
    };
    let kernel = Kernel::new("geglu.cu", entry).with("T", element(x.dtype));
    let vectors = x.len() / 2 / vector;
    let params = GegluParams {
        x: call.input(0),
        dy,
        y: call.output(0),
        vectors: narrow(vectors),
        per_row: narrow(channels / vector),
    };
    let blocks = vectors.div_ceil(THREADS);
    call.launch(kernel, [blocks, 1, 1], [THREADS, 1, 1], 0, &params);
    Ok(())
}

impl CudaOperator for Geglu {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let channels = call.out_type(0).channels();
        launch(call, ["geglu", "geglu_any"], DevicePtr::NULL, channels)
    }
}

impl CudaOperator for GegluGrad {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let (dy, channels) = (call.input(1), call.in_type(1).channels());
        launch(call, ["geglu_grad", "geglu_grad_any"], dy, channels)
    }
}
