//! Launches `kernels/sinusoid.cu`.

use super::Sinusoid;
use crate::kernel::Unsupported;
use crate::kernel::cuda::{CudaCall, CudaOperator, Kernel, params::SinusoidParams};
use crate::ops::cuda::check_len;
use crate::ops::strides::narrow;

const THREADS: usize = 256;

impl CudaOperator for Sinusoid {
    fn launch(&self, call: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        let y = call.out_type(0);
        check_len(call, y.len())?;
        let blocks = y.len().div_ceil(THREADS);
        let params = SinusoidParams {
            t: call.input(0),
            y: call.output(0),
            batch: narrow(y.shape[0]),
            dim: narrow(self.dim),
            spacing: self.spacing(),
        };
        let kernel = Kernel::new("sinusoid.cu", "sinusoid");
        call.launch(kernel, [blocks, 1, 1], [THREADS, 1, 1], 0, &params);
        Ok(())
    }
}
