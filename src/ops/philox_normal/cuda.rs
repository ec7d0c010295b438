//! Launches `kernels/philox_normal.cu`.

use super::PhiloxNormal;
use crate::kernel::Unsupported;
use crate::kernel::cuda::{CudaCall, CudaOperator, Kernel, params::PhiloxNormalParams};
use crate::ops::cuda::check_len;
use crate::ops::strides::narrow;

const THREADS: usize = 256;

impl CudaOperator for PhiloxNormal {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let (batch, length) = (call.in_type(1).len(), self.shape.iter().product::<usize>());
        check_len(call, batch * length)?;
        let params = PhiloxNormalParams {
            seed: call.input(0),
            images: call.input(1),
            step: call.input(2),
            y: call.output(0),
            purpose: self.purpose as u32,
            batch: narrow(batch),
            length: narrow(length),
        };
        let blocks = (batch * length.div_ceil(4)).div_ceil(THREADS);
        let kernel = Kernel::new("philox_normal.cu", "philox_normal");
        call.launch(kernel, [blocks, 1, 1], [THREADS, 1, 1], 0, &params);
        Ok(())
    }
}
